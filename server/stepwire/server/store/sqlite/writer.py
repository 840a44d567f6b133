"""The one thread that writes: it takes whatever is ready and has it written as one transaction."""

from __future__ import annotations

import asyncio
import sqlite3
import threading
from collections.abc import Callable, Sequence
from queue import Empty, SimpleQueue
from time import perf_counter
from typing import Any, TypeVar

from stepwire.server.store.completion import notify, resolve
from stepwire.server.store.encoding import encode_commit
from stepwire.server.store.errors import StoreError, StoreUnavailableError
from stepwire.server.store.port import CommitListener
from stepwire.server.store.records import Claim, Commit
from stepwire.server.store.sqlite.batch_writer import WriteItem
from stepwire.server.store.sqlite.commit_statements import PreparedCommit
from stepwire.server.store.sqlite.full_disk import FullDiskWriter
from stepwire.server.telemetry.metrics import StoreMetrics

T = TypeVar("T")

MAX_ITEMS = 512
"""The most items of one transaction."""

MAX_BYTES = 8 << 20
"""A transaction takes no further items once it has so many bytes: the first item in it waits for all of them."""


class Writer:
    """Write commits and other jobs in order on a thread of its own.

    A future resolves once the transaction of its item is durable, after the listeners of its commit
    were called.
    """

    def __init__(self, batches: FullDiskWriter, metrics: StoreMetrics | None = None) -> None:
        self.listeners: list[CommitListener] = []
        self.on_failure: Callable[[], None] | None = None
        """Called on the loop when writing begins to fail, and when it works again."""
        self._batches = batches
        self._metrics = metrics or StoreMetrics()
        self._failing = False
        self._queue: SimpleQueue[list[WriteItem] | None] = SimpleQueue()
        self._handover: list[WriteItem] = []
        self._loop: asyncio.AbstractEventLoop
        self._thread: threading.Thread | None = None

    @property
    def failure(self) -> StoreError | None:
        """Return why the last transaction failed as a whole; None while writing works."""
        return self._batches.failure

    async def start(self) -> None:
        """Open the database and begin to write.

        Raises:
            StoreError: It cannot be opened.
        """
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
        """Have a commit written. Its record is copied here, so the caller may change it at once."""
        future: asyncio.Future[Claim] = asyncio.get_running_loop().create_future()
        try:
            row, pending, size = encode_commit(commit)
        except StoreError as refused:
            future.set_exception(refused)
        else:
            self._put(WriteItem(PreparedCommit(commit, row, pending), future, size))
        return future

    def run(
        self, job: Callable[[sqlite3.Connection], T | StoreError], *, makes_space: bool = False
    ) -> asyncio.Future[T]:
        """Have a short job done in a transaction, in order with the commits.

        A job refuses by returning a StoreError, with which its future fails. An error of SQLite
        that it raises fails the whole transaction. A job that `makes_space` is done on a full disk, too.
        """
        future: asyncio.Future[T] = asyncio.get_running_loop().create_future()
        self._put(WriteItem(job, future, 0, makes_space=makes_space))
        return future

    def _put(self, item: WriteItem) -> None:
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

    def _main(self, opened: asyncio.Future[None]) -> None:
        """Run the thread."""
        try:
            self._batches.open()
        except StoreError as error:
            self._loop.call_soon_threadsafe(resolve, opened, error)
            return
        self._loop.call_soon_threadsafe(resolve, opened, None)
        try:
            more = True
            while more:
                batch, more = self._take()
                if batch:
                    outcomes = self._batches.write(batch)
                    self._loop.call_soon_threadsafe(self._deliver, batch, outcomes, self.failure is not None)
        except RuntimeError:
            if not self._loop.is_closed():  # when it is closed, nothing waits for the outcomes
                raise
        finally:
            self._batches.close()

    def _take(self) -> tuple[list[WriteItem], bool]:
        """Wait for items, then take what else is ready; return False with the last ones."""
        batch: list[WriteItem] = []
        size = 0
        items = self._queue.get()
        while items is not None:
            batch += items
            size += sum([item.size for item in items])
            if len(batch) >= MAX_ITEMS or size >= MAX_BYTES:
                return batch, True
            try:
                items = self._queue.get_nowait()
            except Empty:
                return batch, True
        return batch, False

    def _deliver(self, batch: Sequence[WriteItem], outcomes: Sequence[Any], failing: bool) -> None:
        """Report the outcomes, on the event loop."""
        metrics, now = self._metrics, perf_counter()
        metrics.queued -= len(batch)
        metrics.items.observe(len(batch))
        metrics.failures += failing
        if failing is not self._failing:
            self._failing = failing
            if self.on_failure is not None:
                self.on_failure()
        for item, outcome in zip(batch, outcomes, strict=True):
            if isinstance(item.work, PreparedCommit) and not isinstance(outcome, Exception):
                metrics.seconds.observe(now - item.at)
                if self.listeners:
                    notify(self._loop, self.listeners, item.work.commit)
            resolve(item.future, outcome)
