"""Read the runs in a database beside its servers: every transaction is read only, and nothing is migrated."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Final

import asyncpg

from stepwire.server.store.damage import Damage
from stepwire.server.store.errors import StoreError
from stepwire.server.store.postgres import list_queries, run_queries
from stepwire.server.store.postgres.connections import LOST, for_lists, not_accepted, refused, unavailable, unreachable
from stepwire.server.store.postgres.schema import MIGRATIONS
from stepwire.server.store.records import RunKey, RunQuery, RunRecord, StoredSnapshot

__all__ = ["PostgresReading"]

_CONNECT_SECONDS: Final = 5.0


class PostgresReading:
    """Read the runs of a database; a `RunReading`."""

    def __init__(self, dsn: str) -> None:
        self._dsn = dsn
        self._pool: asyncpg.Pool[Any] | None = None

    async def open(self) -> None:
        """Connect, and look whether this code can read the tables.

        Raises:
            StoreError: The database cannot be reached, refuses the credential, has no tables, or other ones.
        """
        try:
            self._pool = await asyncpg.create_pool(
                self._dsn,
                min_size=1,
                max_size=2,
                timeout=_CONNECT_SECONDS,
                init=for_lists,
                server_settings={"default_transaction_read_only": "on"},
            )
            rows = await self._fetch("SELECT max(version) FROM schema_version")
        except asyncpg.UndefinedTableError as error:
            raise StoreError("the database holds no runs yet: no server has used it") from error
        except LOST as error:
            raise unreachable(error, self._dsn) from error
        except asyncpg.PostgresError as error:
            raise not_accepted(error) from error
        version = rows[0][0] or 0
        if version != len(MIGRATIONS):
            what = "start its server once with this version" if version < len(MIGRATIONS) else "use a newer Stepwire"
            raise StoreError(f"the database has schema {version}, this code reads {len(MIGRATIONS)}: {what}")

    async def close(self) -> None:
        """Disconnect."""
        if self._pool is not None:
            await self._pool.close()

    async def namespaces(self) -> list[str]:
        """Return the namespaces that have runs."""
        return [row[0] for row in await self._read("SELECT DISTINCT namespace FROM runs ORDER BY 1")]

    async def counts(self) -> dict[tuple[str, str], int]:
        """Count runs by (workflow, status)."""
        rows = await self._read("SELECT workflow, status, count(*) FROM runs GROUP BY 1, 2")
        return {(row[0], row[1]): row[2] for row in rows}

    async def load(self, key: RunKey, sequence: int | None = None) -> StoredSnapshot | None:
        """Return the latest snapshot of a run, or the one at exactly this sequence."""
        return await run_queries.load(self._read, key, sequence)

    async def list(self, query: RunQuery) -> list[RunRecord]:
        """Return the records that match, newest first."""
        return await list_queries.list_runs(self._read, query, Damage())

    async def _read(self, statement: str, *values: Any) -> Sequence[Any]:
        try:
            return await self._fetch(statement, *values)
        except LOST as error:
            raise unavailable(error) from error
        except asyncpg.PostgresError as error:
            raise refused(error) from error

    async def _fetch(self, statement: str, *values: Any) -> Sequence[Any]:
        assert self._pool is not None
        rows: Sequence[Any] = await self._pool.fetch(statement, *values)
        return rows
