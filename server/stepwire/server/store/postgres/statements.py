"""Execute statements besides commits, on pools of connections, and again after a lost connection."""

from __future__ import annotations

import asyncio
import contextlib
import random
from collections.abc import Callable, Sequence
from contextvars import Context
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
_LOOK_SECONDS: Final = 1.0
_LATE_SECONDS: Final = 3.0
"""How much longer a caller waits than its statement is tried for."""
_CLOSE_SECONDS: Final = 2.0


class Statements:
    """The pools of a store. A statement is a transaction of its own; callers wait for it for `PATIENCE` seconds."""

    def __init__(self, dsn: str, reach: Reach) -> None:
        """Use a database; `open` makes the pools. `reach` knows whether it was lost meanwhile."""
        self._dsn = dsn
        self._late = _Late(reach)
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
        if pool.get_idle_size():
            connection = await pool.acquire()
        else:
            async with asyncio.timeout(min(seconds, _ACQUIRE_SECONDS)):
                connection = await pool.acquire()
        answer = self._late.watch(connection, min(seconds, _ANSWER_SECONDS), changes=changes)
        try:
            return list(await connection.fetch(statement, *values))
        finally:
            self._late.forget(answer)
            await pool.release(connection)


class _Answer:
    """An answer that is waited for, until when, and how often the database was lost before."""

    __slots__ = ("changes", "connection", "due", "last", "losses")

    def __init__(self, connection: Any, due: float, last: float, losses: int, *, changes: bool) -> None:
        self.connection = connection
        self.due = due
        self.last = last
        self.losses = losses
        self.changes = changes


class _Late:
    """Drop connections whose answers take too long. A change may wait while its database lives.

    It looks every second: timers for each statement made a short read cost half as much again.
    """

    def __init__(self, reach: Reach) -> None:
        self._reach = reach
        self._answers: set[_Answer] = set()
        self._timer: asyncio.TimerHandle | None = None

    def watch(self, connection: Any, seconds: float, *, changes: bool) -> _Answer:
        """Wait for an answer on a connection for so many seconds from now; return what to forget when it is there."""
        loop = asyncio.get_running_loop()
        now = loop.time()
        answer = _Answer(connection, now + seconds, now + _WAITING_SECONDS, self._reach.losses, changes=changes)
        self._answers.add(answer)
        if self._timer is None:
            self._timer = loop.call_later(_LOOK_SECONDS, self._look, loop, context=Context())
        return answer

    def forget(self, answer: _Answer) -> None:
        """Wait for an answer no more."""
        self._answers.discard(answer)

    def _look(self, loop: asyncio.AbstractEventLoop) -> None:
        now = loop.time()
        for answer in [each for each in self._answers if each.due <= now]:
            if answer.changes and self._reach.losses == answer.losses and now < answer.last:
                answer.due = now + _ANSWER_SECONDS  # it waits for a standby or a lock
            else:
                self._answers.discard(answer)
                answer.connection.terminate()
        self._timer = loop.call_later(_LOOK_SECONDS, self._look, loop, context=Context()) if self._answers else None


def _forget(task: asyncio.Task[Any]) -> None:
    """Take in how a statement ended that nobody waits for any more."""
    if not task.cancelled():
        task.exception()


def unreadable(error: BaseException) -> StoreUnreadableError:
    """Return a lost connection as the error of a read."""
    return StoreUnreadableError(f"PostgreSQL cannot be reached: {plain(error)}")
