"""What the tests of several replicas share."""

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import Callable, Sequence
from contextlib import aclosing
from typing import Any, Self

import asyncpg
from tests.postgres import PostgresServer
from tests.serving import ServerProcess

from stepwire.client.aio import Run


class Database:
    """A database of a PostgreSQL server."""

    def __init__(self, server: PostgresServer, name: str) -> None:
        self.server = server
        self.name = name
        # Not psql: a process that has gRPC at work must not fork.
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, daemon=True)
        self._thread.start()
        self._turn = asyncio.Lock()
        self._connection: Any = None

    def create(self) -> Self:
        """Make it."""
        self.server.sql(f"CREATE DATABASE {self.name}", database="postgres")
        return self

    @property
    def dsn(self) -> str:
        """Return its address."""
        return f"{self.server.dsn.rpartition('/')[0]}/{self.name}"

    def sql(self, statement: str) -> str:
        """Execute a statement; return its rows as lines, as psql does."""
        return asyncio.run_coroutine_threadsafe(self._sql(statement), self._loop).result(60)

    async def _sql(self, statement: str) -> str:
        async with self._turn:
            if self._connection is None:
                self._connection = await asyncpg.connect(self.dsn)
            rows = await self._connection.fetch(statement)
        return "\n".join("|".join("" if value is None else str(value) for value in row) for row in rows)

    def close(self) -> None:
        """Disconnect."""
        if self._connection is not None:
            asyncio.run_coroutine_threadsafe(self._connection.close(), self._loop).result(60)
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()
        self._loop.close()

    def owner_of(self, run_id: str) -> str:
        """Return the address of the living owner of a run; empty when it has none."""
        return self.sql(f"SELECT address FROM runs JOIN replicas r ON r.id = owner WHERE run_id = '{run_id}'")


def alive(database: Database, count: int, timeout: float = 60.0) -> None:
    """Wait until so many replicas are alive."""
    deadline = time.monotonic() + timeout
    while database.sql("SELECT count(*) FROM replicas") != str(count):
        assert time.monotonic() < deadline, "the replicas do not become as many as they should"
        time.sleep(0.02)


def split(replicas: Sequence[ServerProcess], address: str) -> tuple[ServerProcess, list[ServerProcess]]:
    """Return the replica at an address, and the others."""
    (owner,) = [each for each in replicas if each.address == address]
    return owner, [each for each in replicas if each is not owner]


async def first(run: Run, count: int, type_name: str = "Pong", after: int = 0) -> list[Any]:
    """Return the first events of a type, as they come."""
    found: list[Any] = []
    async with aclosing(run.events(after)) as events:
        async for event in events:
            if event.type == type_name:
                found.append(event)
                if len(found) == count:
                    return found
    return found


async def until(holds: Callable[[], object], timeout: float = 60.0) -> None:
    """Wait until something holds."""
    async with asyncio.timeout(timeout):
        while not await asyncio.to_thread(holds):  # noqa: ASYNC110 - it is another process that changes it
            await asyncio.sleep(0.02)
