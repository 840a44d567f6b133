"""Connect to PostgreSQL, and tell a lost connection from a refusal.

Two rules follow from waiting for a synchronous standby. A request to cancel a statement is never sent for a write:
PostgreSQL then answers that the write succeeded although the standby may not have it, with the warning 01000. And where
that warning comes all the same, the outcome is unknown.
"""

from __future__ import annotations

import asyncio
import socket
import ssl
from collections.abc import Sequence
from contextvars import Context
from time import monotonic
from typing import Any, Final
from urllib.parse import urlsplit

import asyncpg

from stepwire.server.store.errors import StoreError, StoreUnavailableError
from stepwire.workflow.hosting import start_task

__all__ = [
    "LOST",
    "PATIENCE",
    "Patience",
    "WriteConnection",
    "answered",
    "connect",
    "connect_for_writes",
    "for_lists",
    "not_accepted",
    "open_pool",
    "plain",
    "unavailable",
    "unreachable",
]

PATIENCE: Final = 30.0
"""Seconds for which a lost connection is opened again before a caller is told: a failover takes some."""

_CONNECT_SECONDS: Final = 5.0
_ANSWER_SECONDS: Final = 30.0
"""How long a write may take before its connection counts as lost."""
_LAST_SECONDS: Final = 2.0
"""How long the last try may take."""

_PAUSED_SECONDS: Final = 1.0
"""How late a timer is if the process was paused, and how long what came meanwhile may take to be read."""

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


_PLAIN: Final[Sequence[tuple[type[BaseException], str]]] = (
    (asyncpg.ReadOnlySQLTransactionError, "it is read-only, as a standby is"),
    (asyncpg.CannotConnectNowError, "it is starting or stopping"),
    (asyncpg.AdminShutdownError, "it was stopped"),
    (asyncpg.CrashShutdownError, "one of its processes crashed"),
    (asyncpg.TooManyConnectionsError, "it takes no more connections (max_connections)"),
    (asyncpg.TargetServerAttributeNotMatched, "none of its hosts is as target_session_attrs asks"),
    (asyncpg.DeadlockDetectedError, "it ended a deadlock"),
    (TimeoutError, "no answer came in time"),
    (ConnectionRefusedError, "nothing listens at its address"),
    (socket.gaierror, "the name of its host is not known"),
    (ssl.SSLError, "the TLS handshake failed"),
    (ConnectionError, "the connection broke"),
    (OSError, "the network failed"),
    (asyncpg.PostgresConnectionError, "the connection broke"),
    (asyncpg.InterfaceError, "the connection is closed"),
)


def plain(error: BaseException) -> str:
    """Return why a connection was lost, for people. Texts of drivers may hold addresses, so only the type is told."""
    words = next((words for kind, words in _PLAIN if isinstance(error, kind)), "the driver failed")
    return f"{words} ({type(error).__name__})"


def unavailable(error: BaseException) -> StoreUnavailableError:
    """Return a lost connection as the error of the port."""
    return StoreUnavailableError(f"PostgreSQL cannot be reached: {plain(error)}")


class Patience:
    """How long to try again. After a pause of this process, in which the time ran out, there is one more try."""

    def __init__(self) -> None:
        """Begin now, with `PATIENCE` seconds."""
        self._end = monotonic() + PATIENCE
        self._tried = False

    def left(self) -> float:
        """Return how many seconds the next try may take."""
        return max(_LAST_SECONDS, self._end - monotonic())

    def is_over(self) -> bool:
        """Tell, after a failed try, whether to give up."""
        tried, self._tried = self._tried, True
        return tried and monotonic() > self._end


def unreachable(error: BaseException, dsn: str) -> StoreUnavailableError:
    """Return why no connection could be opened, for the person who gave the address: host and port, no credential."""
    try:
        parts = urlsplit(dsn)
        where = f"{parts.hostname or 'localhost'}:{parts.port or 5432}"
    except ValueError:  # several hosts, or a port that is no number
        where = urlsplit(dsn).netloc.rpartition("@")[2]
    return StoreUnavailableError(
        f"PostgreSQL at {where} cannot be reached: {plain(error)}; start it, or correct the host and port"
    )


def not_accepted(error: asyncpg.PostgresError) -> StoreError:
    """Return why PostgreSQL refuses a connection, and what to do when the database is missing."""
    text = f"PostgreSQL refuses the connection: {error}"
    if isinstance(error, asyncpg.InvalidCatalogNameError):
        text += "; make it with createdb, or correct the name"
    return StoreError(text)


async def connect(dsn: str, seconds: float = _CONNECT_SECONDS) -> asyncpg.Connection[Any]:
    """Open a connection. One of `LOST` when it cannot be opened, or not within so many seconds."""
    return await asyncpg.connect(dsn, timeout=min(seconds, _CONNECT_SECONDS), statement_cache_size=64)


async def connect_for_writes(dsn: str, seconds: float = _CONNECT_SECONDS) -> asyncpg.Connection[Any]:
    """Open a connection for statements of the writer, planned to look up each of their rows in its index.

    Right after a start PostgreSQL takes the tables for small, and would keep plans that read them whole for as long as
    it has no newer statistics. One of `LOST` when it cannot be opened, or not within so many seconds.
    """
    connection = await connect(dsn, seconds)
    await _set_up(
        connection,
        "SET enable_seqscan = off; SET enable_bitmapscan = off; SET enable_hashjoin = off;"
        " SET enable_mergejoin = off; SET jit = off; SET plan_cache_mode = force_generic_plan",
        seconds,
    )
    return connection


async def _set_up(connection: Any, statements: str, seconds: float) -> None:
    """Execute the first statements of a connection, and drop it if they fail, take too long or are cancelled."""
    alarm = asyncio.get_running_loop().call_later(min(seconds, _CONNECT_SECONDS), connection.terminate)
    try:
        await connection.execute(statements)
    except BaseException:  # also when it is cancelled: nobody else knows the connection
        connection.terminate()
        raise
    finally:
        alarm.cancel()


class WriteConnection:
    """A connection on which a write is never cancelled: when its answer does not come, the connection is dropped."""

    def __init__(self, connection: asyncpg.Connection[Any]) -> None:
        self.seconds = _ANSWER_SECONDS
        """How long an answer may take."""
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
        if not await answered(task, self.seconds):
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


async def answered(task: asyncio.Task[Any], seconds: float) -> bool:
    """Wait for an answer for so many seconds; tell whether it came.

    After a pause of this process the time is over, and what came meanwhile is not read yet.
    """
    began = monotonic()
    done, _ = await asyncio.wait({task}, timeout=seconds)
    if not done and monotonic() - began > seconds + _PAUSED_SECONDS:
        done, _ = await asyncio.wait({task}, timeout=_PAUSED_SECONDS)
    return bool(done)


def refused(error: asyncpg.PostgresError) -> StoreError:
    """Return what PostgreSQL refused as the error of the port."""
    code = error.sqlstate or ""
    if code.startswith("53"):  # out of disk, memory or connections
        return StoreUnavailableError(f"PostgreSQL has no room: {type(error).__name__}", full=code == "53100")
    return StoreError(f"PostgreSQL refused a statement: {type(error).__name__} ({code})")


async def open_pool(dsn: str, size: int, *, lists: bool = False) -> asyncpg.Pool[Any]:
    """Make a pool of up to `size` connections. No statement may leave anything in a session.

    Resetting sessions would cost a second query for each statement. With `lists` the sessions are for `list_queries`.
    """
    pool: asyncpg.Pool[Any] = await asyncpg.create_pool(
        dsn,
        # With more than 0, asyncpg keeps connecting while the database is away, and logs a traceback for each failure.
        min_size=0,
        max_size=size,
        statement_cache_size=64,
        timeout=_CONNECT_SECONDS,
        connect=_Connector(size).connect,
        reset=_keep,
        init=for_lists if lists else None,
    )
    return pool


class _Connector:
    """Connect for a pool, apart from the calls that use it.

    A connection serves later callers, too: it must not know the call that opened it. Nor is an attempt cancelled with
    that call: asyncpg, if cancelled at the wrong moment, leaves an error that nobody takes and that is logged then.
    """

    def __init__(self, size: int) -> None:
        """Make so many attempts at once."""
        self._places = asyncio.Semaphore(size)

    async def connect(self, *args: Any, **options: Any) -> Any:
        """Connect as `asyncpg.connect` does."""
        await self._places.acquire()
        task = start_task(self._connect(args, options), context=Context())
        try:
            return await asyncio.shield(task)
        except asyncio.CancelledError:
            task.add_done_callback(_drop_unused)
            raise

    async def _connect(self, args: Sequence[Any], options: dict[str, Any]) -> Any:
        try:
            return await asyncpg.connect(*args, **options)
        finally:
            self._places.release()


def _drop_unused(task: asyncio.Task[Any]) -> None:
    """Drop a connection that nobody waits for any more, if it was opened."""
    if not task.cancelled() and task.exception() is None:
        task.result().terminate()


async def for_lists(connection: Any) -> None:
    """Have a session plan as `list_queries` needs it: compiling, too, takes longer than reading a page."""
    await _set_up(connection, "SET enable_bitmapscan = off; SET jit = off", _CONNECT_SECONDS)


async def _keep(connection: Any) -> None:
    """Leave a session as it is."""
