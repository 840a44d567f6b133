"""The one thread that writes: it commits whatever is ready as one transaction."""

from __future__ import annotations

import asyncio
import logging
import sqlite3
import threading
from collections.abc import Callable, Sequence
from queue import Empty, SimpleQueue
from time import perf_counter
from typing import Any, TypeVar

from stepwire.server import failpoints
from stepwire.server.store.futures import notify, resolve
from stepwire.server.store.port import (
    Claim,
    Commit,
    CommitListener,
    StoreError,
    StoreUnavailableError,
)
from stepwire.server.store.rows import encode_record
from stepwire.server.store.sqlite.errors import HARMLESS, code_of, translate
from stepwire.server.store.sqlite.maintenance import prune_requests
from stepwire.server.store.sqlite.statements import (
    ROWS,
    PreparedCommit,
    StaleError,
    execute,
    prepare,
    refusal,
    statements,
)
from stepwire.server.telemetry.metrics import StoreMetrics

log = logging.getLogger(__name__)

T = TypeVar("T")

Job = Callable[[sqlite3.Connection], Any]

MAX_ITEMS = 512
MAX_BYTES = 8 << 20
"""What one transaction takes at most, so that the first commit in it does not wait for long."""

PRUNE_EVERY = 1000
"""Answered requests of a run between two prunings of them."""

MAX_COUNTED = 10_000
"""Runs whose answered requests are counted; with more, counting starts anew."""


class _Item:
    """Something to write, and the future to resolve when it is durable."""

    __slots__ = ("at", "future", "size", "work")

    def __init__(self, work: PreparedCommit | Job, future: asyncio.Future[Any], size: int) -> None:
        self.work = work
        self.future = future
        self.size = size
        self.at = perf_counter()


class _RetryCarefully(Exception):
    """Something in the batch was refused: write it again item by item to find out which."""


class Writer:
    """Write commits and other jobs in order on a thread of its own.

    A future resolves once the transaction of its item is durable, and after the listeners of its
    commit. When a transaction fails, all its futures do and nothing of it is kept; the thread goes
    on, so that writing works again as soon as the disk does.
    """

    def __init__(self, connect: Callable[[], sqlite3.Connection], metrics: StoreMetrics | None = None) -> None:
        self.listeners: list[CommitListener] = []
        self.failure: StoreError | None = None
        """Why the last transaction failed, all of it; None while writing works."""
        self.on_failure: Callable[[], None] | None = None
        """Called on the loop when writing begins to fail, and when it works again."""
        self._metrics = metrics or StoreMetrics()
        self._failing = False
        self._connect = connect
        self._queue: SimpleQueue[list[_Item] | None] = SimpleQueue()
        self._handover: list[_Item] = []
        self._loop: asyncio.AbstractEventLoop
        self._thread: threading.Thread | None = None
        self._connection: sqlite3.Connection | None = None
        self._next_pk = 1
        self._new_requests: dict[int, int] = {}

    async def start(self) -> None:
        """Open the database and start to write. Raises StoreError and its kin."""
        self._loop = asyncio.get_running_loop()
        opened: asyncio.Future[None] = self._loop.create_future()
        self._thread = threading.Thread(target=self._main, args=(opened,), name="stepwire-store-writer", daemon=True)
        self._thread.start()
        try:
            await opened
        except StoreError:
            self._thread = None
            raise

    async def stop(self) -> None:
        """Write what was given until now, then close the database."""
        if self._thread is None:
            return
        thread, self._thread = self._thread, None
        self._hand_over()
        self._queue.put(None)
        await self._loop.run_in_executor(None, thread.join)

    def commit(self, commit: Commit) -> asyncio.Future[Claim]:
        """Have a commit written. Its record is copied here: the caller may change it at once."""
        future: asyncio.Future[Claim] = asyncio.get_running_loop().create_future()
        try:
            row = encode_record(commit.record)
        except (TypeError, ValueError) as error:
            refused = StoreError(f"the record of run {commit.record.key.run_id} is not JSON-able")
            refused.__cause__ = error
            future.set_exception(refused)
            return future
        size = len(commit.delta)
        for chunk in commit.chunks:
            size += len(chunk.public or b"") + len(chunk.internal or b"")
        self._put(_Item(PreparedCommit(commit, row), future, size))
        return future

    def run(self, job: Callable[[sqlite3.Connection], T | StoreError]) -> asyncio.Future[T]:
        """Have a short job done in a transaction, in order with the commits; an error that it returns is its own."""
        future: asyncio.Future[T] = asyncio.get_running_loop().create_future()
        self._put(_Item(job, future, 0))
        return future

    def _put(self, item: _Item) -> None:
        if self._thread is None:
            item.future.set_exception(StoreUnavailableError("the store is not open"))
            return
        # Handed over together at the end of this turn of the loop: waking the thread costs more than an item.
        if not self._handover:
            self._loop.call_soon(self._hand_over)
        self._handover.append(item)
        self._metrics.queued += 1

    def _hand_over(self) -> None:
        items, self._handover = self._handover, []
        if items:
            self._queue.put(items)

    # --- on the thread ------------------------------------------------------------------------

    def _main(self, opened: asyncio.Future[None]) -> None:
        try:
            self._open()
        except StoreError as error:
            self._loop.call_soon_threadsafe(resolve, opened, error)
            return
        self._loop.call_soon_threadsafe(resolve, opened, None)
        try:
            more = True
            while more:
                batch, more = self._take()
                if batch:
                    outcomes = self._write(batch)
                    self._prune_requests(batch, outcomes)
                    self._loop.call_soon_threadsafe(self._deliver, batch, outcomes)
        except RuntimeError:
            if not self._loop.is_closed():  # closed: no one is left to tell
                raise
        finally:
            self._close()

    def _take(self) -> tuple[list[_Item], bool]:
        """Wait for items, then take whatever else is there; False when there will be no more."""
        batch: list[_Item] = []
        size = 0
        items = self._queue.get()
        while items is not None:
            batch += items
            size += sum(item.size for item in items)
            if len(batch) >= MAX_ITEMS or size >= MAX_BYTES:
                return batch, True
            try:
                items = self._queue.get_nowait()
            except Empty:
                return batch, True
        return batch, False

    def _write(self, batch: Sequence[_Item]) -> list[Any]:
        """Give each item's result, or the error that it failed with."""
        try:
            try:
                at_once = self._at_once(batch)
                outcomes = self._transact(batch, self._quickly) if at_once is None else at_once
            except _RetryCarefully:
                outcomes = self._transact(batch, self._carefully)
            self.failure = None
            return outcomes
        except StoreError as error:
            failure = error
        except sqlite3.Error as error:
            failure = translate(error, "write")
            if code_of(error) != sqlite3.SQLITE_FULL:
                self._close()  # whatever is wrong with it, the next batch starts afresh
        except Exception as error:  # were the thread to die, every run would hang
            log.exception("the writer of the store failed")
            failure = translate(error, "write")
            self._close()
        log.error("a transaction of the store failed: %s", failure)
        self.failure = failure
        return [failure] * len(batch)

    def _at_once(self, batch: Sequence[_Item]) -> list[Any] | None:
        """Write a batch with one statement, if it can be; else return None."""
        commits = [item.work for item in batch if isinstance(item.work, PreparedCommit)]
        if len(commits) < len(batch) or len(batch) > ROWS:
            return None
        connection = self._connection or self._open()
        self._give_handles(commits)
        try:
            todo = statements(commits)
            if len(todo) > 1:
                return None
            if failpoints.ACTIVE:
                failpoints.hit("commit.before")
            execute(connection, *todo[0])
            if failpoints.ACTIVE:
                failpoints.hit("commit.after")
        except (StaleError, *HARMLESS) as error:
            raise _RetryCarefully from error
        return _claims(commits)

    def _transact(
        self,
        batch: Sequence[_Item],
        write: Callable[[sqlite3.Connection, Sequence[_Item]], list[Any]],
    ) -> list[Any]:
        connection = self._connection or self._open()
        connection.execute("BEGIN IMMEDIATE")
        try:
            outcomes = write(connection, batch)
            if failpoints.ACTIVE:
                failpoints.hit("commit.before")
            connection.execute("COMMIT")
            if failpoints.ACTIVE:
                failpoints.hit("commit.after")
        except BaseException:
            if connection.in_transaction:
                connection.execute("ROLLBACK")
            raise
        return outcomes

    def _quickly(self, connection: sqlite3.Connection, batch: Sequence[_Item]) -> list[Any]:
        """Write a batch in which nothing is refused."""
        outcomes: list[Any] = []
        try:
            commits: list[PreparedCommit] = []
            for item in batch:
                if isinstance(item.work, PreparedCommit):
                    commits.append(item.work)
                    continue
                outcomes += self._apply(connection, commits)
                commits = []
                outcomes.append(item.work(connection))
            outcomes += self._apply(connection, commits)
        except (StaleError, *HARMLESS) as error:
            raise _RetryCarefully from error
        return outcomes

    def _carefully(self, connection: sqlite3.Connection, batch: Sequence[_Item]) -> list[Any]:
        """Write a batch item by item, leaving out what is refused."""
        outcomes: list[Any] = []
        for item in batch:
            work = item.work
            connection.execute("SAVEPOINT item")
            try:
                if isinstance(work, PreparedCommit):
                    outcomes += self._apply(connection, [work])
                else:
                    outcomes.append(work(connection))
            except (StaleError, *HARMLESS) as error:
                connection.execute("ROLLBACK TO item")
                outcomes.append(_explain(connection, work, error))
            connection.execute("RELEASE item")
        return outcomes

    def _apply(self, connection: sqlite3.Connection, commits: Sequence[PreparedCommit]) -> list[Claim]:
        self._give_handles(commits)
        for statement in statements(commits):
            execute(connection, *statement)
        return _claims(commits)

    def _give_handles(self, commits: Sequence[PreparedCommit]) -> None:
        for item in commits:
            if not item.handle:
                item.handle = self._next_pk
                self._next_pk += 1

    def _prune_requests(self, batch: Sequence[_Item], outcomes: Sequence[Any]) -> None:
        """Now and then delete answered requests that are no longer kept, of runs that had many."""
        for item, outcome in zip(batch, outcomes, strict=True):
            work = item.work
            if not isinstance(work, PreparedCommit) or isinstance(outcome, Exception):
                continue
            run = work.handle
            if work.commit.requests:
                # A run that was loaded again may have come near the limit before.
                count = self._new_requests.get(run, 0 if work.token == 1 else PRUNE_EVERY)
                count += len(work.commit.requests)
                if count >= PRUNE_EVERY and self._connection is not None:
                    try:
                        prune_requests(self._connection, run)
                        count = 0
                    except sqlite3.Error as error:
                        log.warning("answered requests still take space: %s", error)
                self._new_requests[run] = count
                if len(self._new_requests) > MAX_COUNTED:
                    self._new_requests.clear()
            if work.commit.record.ended_at is not None:
                self._new_requests.pop(run, None)

    def _open(self) -> sqlite3.Connection:
        connection = self._connect()
        try:
            prepare(connection)
            row = connection.execute("SELECT seq FROM sqlite_sequence WHERE name = 'runs'")
            self._next_pk = max((seq for (seq,) in row), default=0) + 1
        except sqlite3.Error as error:
            connection.close()
            raise translate(error, "be opened") from error
        self._connection = connection
        return connection

    def _close(self) -> None:
        connection, self._connection = self._connection, None
        if connection is not None:
            try:
                connection.close()
            except sqlite3.Error as error:
                log.warning("the store's database did not close cleanly: %s", error)

    # --- on the loop --------------------------------------------------------------------------

    def _deliver(self, batch: Sequence[_Item], outcomes: Sequence[Any]) -> None:
        metrics, now = self._metrics, perf_counter()
        metrics.queued -= len(batch)
        metrics.items.observe(len(batch))
        failing = self.failure is not None
        metrics.failures += failing
        if failing is not self._failing:
            self._failing = failing
            if self.on_failure is not None:
                self.on_failure()
        for item, outcome in zip(batch, outcomes, strict=True):
            if isinstance(item.work, PreparedCommit) and not isinstance(outcome, Exception):
                metrics.seconds.observe(now - item.at)
                notify(self._loop, self.listeners, item.work.commit)
            resolve(item.future, outcome)


def _claims(commits: Sequence[PreparedCommit]) -> list[Claim]:
    return [Claim(item.commit.record.key, item.token, item.handle) for item in commits]


def _explain(connection: sqlite3.Connection, work: PreparedCommit | Job, error: Exception) -> StoreError:
    """Give the error of an item whose statements were refused."""
    refused: StoreError | None = None
    if isinstance(work, PreparedCommit):
        refused = refusal(connection, work, error)
        what = f"the commit of run {work.commit.record.key.run_id}"
    else:
        what = "a job of the store"
    refused = refused or StoreError(f"{what} was refused: {type(error).__name__}")
    refused.__cause__ = error
    return refused
