"""Read a data directory beside the server that has it, or without one: nothing is locked, migrated or written."""

from __future__ import annotations

import asyncio
import sqlite3
from contextlib import closing
from pathlib import Path

from stepwire.server.store.errors import StoreError
from stepwire.server.store.records import RunKey, RunQuery, RunRecord, StoredSnapshot
from stepwire.server.store.sqlite import list_queries, run_queries, work_queries
from stepwire.server.store.sqlite.connections import connect_reader
from stepwire.server.store.sqlite.reader_pool import ReaderPool
from stepwire.server.store.sqlite.schema import APPLICATION_ID, DATABASE, MIGRATIONS
from stepwire.server.store.sqlite.sqlite_errors import translate

__all__ = ["SqliteReading"]


class SqliteReading:
    """Read the runs of `<data_dir>/stepwire.db`; a `RunReading`."""

    def __init__(self, data_dir: Path) -> None:
        self._path = data_dir / DATABASE
        self._pool = ReaderPool(self._path, "reading")

    async def open(self) -> None:
        """Look whether this code can read the database.

        Raises:
            StoreError: There is none, it is no store, of another version, or it cannot be read.
        """
        await asyncio.to_thread(self._check)
        self._pool.open()

    def _check(self) -> None:
        if not self._path.is_file():
            raise StoreError(f"there is no database {self._path}")
        try:
            with closing(connect_reader(self._path)) as connection:
                (version,) = connection.execute("PRAGMA user_version").fetchone()
                (application,) = connection.execute("PRAGMA application_id").fetchone()
        except sqlite3.Error as error:
            raise translate(error, "be read") from error
        if application != APPLICATION_ID:
            raise StoreError(f"{self._path} is not a store of Stepwire")
        if version != len(MIGRATIONS):
            what = "start its server once with this version" if version < len(MIGRATIONS) else "use a newer Stepwire"
            raise StoreError(f"the database has schema {version}, this code reads {len(MIGRATIONS)}: {what}")

    async def close(self) -> None:
        """Close the connections."""
        await self._pool.close()

    async def namespaces(self) -> list[str]:
        """Return the namespaces that have runs."""
        return await self._pool.run(work_queries.namespaces)

    async def counts(self) -> dict[tuple[str, str], int]:
        """Count runs by (workflow, status)."""
        return await self._pool.run(work_queries.counts)

    async def load(self, key: RunKey, sequence: int | None = None) -> StoredSnapshot | None:
        """Return the latest snapshot of a run, or the one at exactly this sequence."""
        return await self._pool.run(run_queries.load, key, sequence)

    async def list(self, query: RunQuery) -> list[RunRecord]:
        """Return the records that match, newest first."""
        return await self._pool.run(list_queries.list_runs, query, [])
