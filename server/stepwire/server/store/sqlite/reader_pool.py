"""Threads that read the SQLite store, each with a connection of its own."""

from __future__ import annotations

import asyncio
import json
import sqlite3
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, TypeVar

from stepwire.server.store.errors import StoreCorruptError, StoreUnavailableError
from stepwire.server.store.sqlite.connections import connect_reader
from stepwire.server.store.sqlite.sqlite_errors import translate

T = TypeVar("T")

THREADS = 2
"""Threads of a pool at most; they are made when they are needed."""


class ReaderPool:
    """Run queries on a few threads, each with a connection of its own.

    A store has a pool for each kind of query, so that slow ones never keep quick ones waiting.

    A query sees one state of the database throughout, the newest when it begins, and never waits
    for the writer.
    """

    def __init__(self, path: Path, kind: str) -> None:
        self._path = path
        self._local = threading.local()
        self._connections: set[sqlite3.Connection] = set()
        self._kind = kind
        self._pool: ThreadPoolExecutor | None = None

    def open(self) -> None:
        """Take queries from now on."""
        self._pool = ThreadPoolExecutor(THREADS, thread_name_prefix=f"stepwire-store-{self._kind}")

    async def run(self, query: Callable[..., T], *args: Any) -> T:
        """Return `query(connection, *args)`.

        Raises:
            StoreUnavailableError: The store is not open, or its file cannot be read.
            StoreCorruptError: What the query reads is damaged.
        """
        if self._pool is None:
            raise StoreUnavailableError("the store is not open")
        loop = asyncio.get_running_loop()
        return await loop.run_in_executor(self._pool, self._call, query, args)

    async def close(self) -> None:
        """Finish the queries in progress and close the connections."""
        pool, self._pool = self._pool, None
        if pool is not None:
            await asyncio.get_running_loop().run_in_executor(None, pool.shutdown)
        while self._connections:
            self._connections.pop().close()

    def _call(self, query: Callable[..., T], args: tuple[Any, ...]) -> T:
        connection: sqlite3.Connection | None = getattr(self._local, "connection", None)
        try:
            if connection is None:
                connection = connect_reader(self._path)
                self._connections.add(connection)
                self._local.connection = connection
            connection.execute("BEGIN")
            try:
                return query(connection, *args)
            finally:
                connection.execute("ROLLBACK")
        except sqlite3.Error as error:
            if connection is not None:  # the next query starts afresh
                self._local.connection = None
                self._connections.discard(connection)
                connection.close()
            raise translate(error, "read") from error
        except json.JSONDecodeError as error:
            raise StoreCorruptError("a record or answered request is damaged") from error
