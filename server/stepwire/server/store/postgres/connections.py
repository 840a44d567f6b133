"""Connect to PostgreSQL, and tell a lost connection from a refusal.

Two rules follow from waiting for a synchronous standby. A request to cancel a statement is never sent for a write:
PostgreSQL then answers that the write succeeded although the standby may not have it, with the warning 01000. And where
that warning comes all the same, the outcome is unknown.
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from typing import Any, Final
from urllib.parse import urlsplit

import asyncpg

from stepwire.server.store.errors import StoreError, StoreUnavailableError
from stepwire.workflow.hosting import start_task

__all__ = [
    "LOST",
    "PATIENCE",
    "WriteConnection",
    "connect",
    "connect_for_writes",
    "for_lists",
    "not_accepted",
    "open_pool",
    "unavailable",
    "unreachable",
]

PATIENCE: Final = 30.0
"""Seconds for which a lost connection is opened again before a caller is told: a failover takes some."""

_CONNECT_SECONDS: Final = 5.0
_ANSWER_SECONDS: Final = 30.0
"""How long a write may take before its connection counts as lost."""

LOST: Final = (
    OSError,
    TimeoutError,
    asyncpg.InterfaceError,
    asyncpg.InternalClientError,
    asyncpg.DeadlockDetectedError,
    asyncpg.PostgresConnectionError,
    asyncpg.CannotConnectNowError,
    asyncpg.AdminShutdownError,
    asyncpg.CrashShutdownError,
    asyncpg.TooManyConnectionsError,
    asyncpg.ReadOnlySQLTransactionError,
)
"""What a lost connection, a server that starts or stops, or a standby that is not yet the primary raises. A deadlock is
none of these, and as passing as they are."""


def unavailable(error: BaseException) -> StoreUnavailableError:
    """Return a lost connection as the error of the port; texts of drivers may hold addresses, so only the type."""
    return StoreUnavailableError(f"PostgreSQL cannot be reached: {type(error).__name__}")


def unreachable(error: BaseException, dsn: str) -> StoreUnavailableError:
    """Return why no connection could be opened, for the person who gave the address: host and port, no credential."""
    try:
        parts = urlsplit(dsn)
        where = f"{parts.hostname or 'localhost'}:{parts.port or 5432}"
    except ValueError:  # several hosts, or a port that is no number
        where = urlsplit(dsn).netloc.rpartition("@")[2]
    return StoreUnavailableError(
        f"PostgreSQL at {where} cannot be reached: {type(error).__name__}; start it, or correct the host and port"
    )


def not_accepted(error: asyncpg.PostgresError) -> StoreError:
    """Return why PostgreSQL refuses a connection, and what to do when the database is missing."""
    text = f"PostgreSQL refuses the connection: {error}"
    if isinstance(error, asyncpg.InvalidCatalogNameError):
        text += "; make it with createdb, or correct the name"
    return StoreError(text)


async def connect(dsn: str) -> asyncpg.Connection[Any]:
    """Open a connection. One of `LOST` when it cannot be opened."""
    return await asyncpg.connect(dsn, timeout=_CONNECT_SECONDS, statement_cache_size=64)


async def connect_for_writes(dsn: str) -> asyncpg.Connection[Any]:
    """Open a connection for statements of the writer, planned to look up each of their rows in its index.

    Right after a start PostgreSQL takes the tables for small, and would keep plans that read them whole for as long as
    it has no newer statistics. One of `LOST` when it cannot be opened.
    """
    connection = await connect(dsn)
    try:
        await connection.execute(
            "SET enable_seqscan = off; SET enable_bitmapscan = off; SET enable_hashjoin = off;"
            " SET enable_mergejoin = off; SET jit = off; SET plan_cache_mode = force_generic_plan"
        )
    except BaseException:  # also when it is cancelled: nobody else knows the connection
        connection.terminate()
        raise
    return connection


class WriteConnection:
    """A connection on which a write is never cancelled: when its answer does not come, the connection is dropped."""

    def __init__(self, connection: asyncpg.Connection[Any]) -> None:
        self._connection = connection
        self._doubtful = False
        connection.add_log_listener(self._heard)

    def _heard(self, _: Any, message: Any) -> None:
        if getattr(message, "sqlstate", "") == "01000":
            self._doubtful = True

    @property
    def closed(self) -> bool:
        """Whether it must be opened again."""
        return self._connection.is_closed()

    def drop(self) -> None:
        """Close it at once, without a word to the server."""
        self._connection.terminate()

    async def fetch(self, statement: str, *values: Any) -> Sequence[Any]:
        """Execute one statement, which is a transaction of its own.

        Raises:
            TimeoutError: No answer came, or PostgreSQL gave up waiting for a standby; the outcome is unknown.
        """
        self._doubtful = False
        task = start_task(self._connection.fetch(statement, *values))
        done, _ = await asyncio.wait({task}, timeout=_ANSWER_SECONDS)
        if not done:
            self.drop()
            await asyncio.wait({task})
            if not task.cancelled():
                task.exception()  # seen: the connection was dropped
            raise TimeoutError
        found = task.result()
        # The warning may be read with the answer: listeners are called on the next turn of the loop.
        await asyncio.sleep(0)
        if self._doubtful:
            raise TimeoutError
        return found


def refused(error: asyncpg.PostgresError) -> StoreError:
    """Return what PostgreSQL refused as the error of the port."""
    code = error.sqlstate or ""
    if code.startswith("53"):  # out of disk, memory or connections
        return StoreUnavailableError(f"PostgreSQL has no room: {type(error).__name__}", full=code == "53100")
    return StoreError(f"PostgreSQL refused a statement: {type(error).__name__} ({code})")


async def open_pool(dsn: str, size: int, *, lists: bool = False) -> asyncpg.Pool[Any]:
    """Connect, with up to `size` connections. No statement may leave anything in a session.

    Resetting sessions would cost a second query for each statement. With `lists` the sessions are for `list_queries`.
    """
    pool: asyncpg.Pool[Any] = await asyncpg.create_pool(
        dsn,
        min_size=1,
        max_size=size,
        statement_cache_size=64,
        timeout=5.0,
        reset=_keep,
        init=for_lists if lists else None,
    )
    return pool


async def for_lists(connection: Any) -> None:
    """Have a session plan as `list_queries` needs it: compiling, too, takes longer than reading a page."""
    await connection.execute("SET enable_bitmapscan = off; SET jit = off")


async def _keep(connection: Any) -> None:
    """Leave a session as it is."""
