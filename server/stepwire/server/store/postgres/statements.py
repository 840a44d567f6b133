"""Execute statements besides commits, on pools of connections, and again after a lost connection."""

from __future__ import annotations

import asyncio
import contextlib
import random
from collections.abc import Callable, Sequence
from typing import Any, Final

import asyncpg

from stepwire.server.store.errors import StoreUnavailableError, StoreUnreadableError
from stepwire.server.store.postgres.connections import LOST, PATIENCE, Patience, open_pool, plain, refused, unavailable
from stepwire.server.store.postgres.reach import Reach
from stepwire.workflow.hosting import start_task

__all__ = ["Statements"]

READERS: Final = 6
"""Connections for reads."""
LISTERS: Final = 2
"""Connections for lists, upkeep and statements that change something: loads must not wait for them."""
_PAUSE: Final = (0.05, 0.25)
"""Seconds between two tries, at random: many callers try at the same moment."""
_ACQUIRE_SECONDS: Final = 10.0
"""How long a statement waits for a connection until that counts as a try."""
_ANSWER_SECONDS: Final = 20.0
"""How long an answer may take until its connection counts as lost."""
_WAITING_SECONDS: Final = 300.0
"""How long a change may wait for a standby or a lock. If its connection were dropped, its process in PostgreSQL would
wait on, and the next try would take another one, until there are no more."""
_LATE_SECONDS: Final = 2.0
"""How much longer a caller waits than its statement is tried for."""
_CLOSE_SECONDS: Final = 2.0


class Statements:
    """The pools of a store. A statement is a transaction of its own; callers wait for it for `PATIENCE` seconds."""

    def __init__(self, dsn: str, reach: Reach) -> None:
        """Use a database; `open` makes the pools. `reach` knows whether it was lost meanwhile."""
        self._dsn = dsn
        self._reach = reach
        self._reads: asyncpg.Pool[Any] | None = None
        self._lists: asyncpg.Pool[Any] | None = None

    async def open(self) -> None:
        """Make the pools. They connect when there is something to execute."""
        self._reads = await open_pool(self._dsn, READERS)
        self._lists = await open_pool(self._dsn, LISTERS, lists=True)

    async def close(self) -> None:
        """Disconnect."""
        for pool in (self._reads, self._lists):
            if pool is not None:
                with contextlib.suppress(TimeoutError):
                    await asyncio.wait_for(pool.close(), _CLOSE_SECONDS)
                pool.terminate()
        self._reads = self._lists = None

    async def read(self, statement: str, *values: Any) -> Sequence[Any]:
        """Execute a statement that changes nothing. StoreUnreadableError if the database cannot be reached."""
        return await self._again(lambda: self._reads, statement, values)

    async def list(self, statement: str, *values: Any) -> Sequence[Any]:
        """Execute a query of `list_queries` or of the upkeep. StoreUnreadableError as `read`."""
        return await self._again(lambda: self._lists, statement, values)

    async def change(self, statement: str, *values: Any) -> Sequence[Any]:
        """Execute a statement that may be executed again: it deletes, or sets what it would set again.

        It goes on if its caller is cancelled or gives up. StoreUnavailableError if the outcome is unknown.
        """
        task = start_task(self._again(lambda: self._lists, statement, values, changes=True))
        done, _ = await asyncio.wait({task}, timeout=PATIENCE + _LATE_SECONDS)
        if not done:
            task.add_done_callback(_forget)
            raise unavailable(TimeoutError())
        return task.result()

    async def _again(
        self,
        pool: Callable[[], asyncpg.Pool[Any] | None],
        statement: str,
        values: Sequence[Any],
        *,
        changes: bool = False,
    ) -> Sequence[Any]:
        patience = Patience()
        while True:
            found = pool()
            if found is None:
                raise StoreUnavailableError("the store is not open")
            try:
                return await self._execute(found, statement, values, patience.left(), changes=changes)
            except LOST as error:
                if patience.is_over():
                    raise (unavailable if changes else unreadable)(error) from error
                await asyncio.sleep(random.uniform(*_PAUSE))
            except asyncpg.CharacterNotInRepertoireError:
                return []  # a text with a NUL: nothing that is stored has one
            except asyncpg.PostgresError as error:
                raise refused(error) from error

    async def _execute(
        self, pool: asyncpg.Pool[Any], statement: str, values: Sequence[Any], seconds: float, *, changes: bool
    ) -> Sequence[Any]:
        """Execute a statement within so many seconds, or less. One of `LOST` when no answer comes.

        asyncpg's own timeout would send a request to cancel the statement, which must not be sent for a write, and
        which a database that hangs does not take: the connection is dropped instead.
        """
        async with asyncio.timeout(min(seconds, _ACQUIRE_SECONDS)):
            connection = await pool.acquire()
        alarm = _Alarm(connection, min(seconds, _ANSWER_SECONDS), self._reach if changes else None)
        try:
            return list(await connection.fetch(statement, *values))
        finally:
            alarm.timer.cancel()
            await pool.release(connection)


class _Alarm:
    """Drop a connection whose answer takes too long. A change may wait while its database lives: see `reach`."""

    __slots__ = ("_connection", "_last", "_losses", "_reach", "timer")

    def __init__(self, connection: Any, seconds: float, reach: Reach | None) -> None:
        loop = asyncio.get_running_loop()
        self.timer = loop.call_later(seconds, self._late)
        """Cancel it when the answer has come."""
        self._connection = connection
        self._reach = reach
        self._losses = 0 if reach is None else reach.losses
        self._last = loop.time() + _WAITING_SECONDS

    def _late(self) -> None:
        loop = asyncio.get_running_loop()
        if self._reach is not None and self._reach.losses == self._losses and loop.time() < self._last:
            self.timer = loop.call_later(_ANSWER_SECONDS, self._late)  # it waits for a standby or a lock
        else:
            self._connection.terminate()


def _forget(task: asyncio.Task[Any]) -> None:
    """Take in how a statement ended that nobody waits for any more."""
    if not task.cancelled():
        task.exception()


def unreadable(error: BaseException) -> StoreUnreadableError:
    """Return a lost connection as the error of a read."""
    return StoreUnreadableError(f"PostgreSQL cannot be reached: {plain(error)}")
