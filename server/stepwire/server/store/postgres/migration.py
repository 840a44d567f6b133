"""Make and migrate the tables, one process at a time."""

from __future__ import annotations

from stepwire.server.store.errors import StoreError
from stepwire.server.store.postgres.connections import connect
from stepwire.server.store.postgres.schema import LOCK, MIGRATIONS


async def migrate(dsn: str) -> None:
    """Bring the tables to this version, in one transaction under an advisory lock.

    Raises:
        StoreError: They are of a newer version, or the database is not encoded in UTF-8.
    """
    connection = await connect(dsn)
    try:
        encoding = await connection.fetchval("SELECT getdatabaseencoding()")
        if encoding != "UTF8":
            raise StoreError(f"the database is encoded in {encoding}: make one with ENCODING 'UTF8'")
        async with connection.transaction():
            await connection.execute("SELECT pg_advisory_xact_lock($1)", LOCK)
            await connection.execute("CREATE TABLE IF NOT EXISTS schema_version (version int NOT NULL)")
            version = await connection.fetchval("SELECT max(version) FROM schema_version") or 0
            if version > len(MIGRATIONS):
                raise StoreError(
                    f"the database has schema version {version}, this program knows {len(MIGRATIONS)}: use a newer one"
                )
            for migration in MIGRATIONS[version:]:
                await connection.execute(migration)
            if version < len(MIGRATIONS):
                await connection.execute("DELETE FROM schema_version")
                await connection.execute("INSERT INTO schema_version VALUES ($1)", len(MIGRATIONS))
    finally:
        await connection.close()
