"""Write a batch of commits and jobs as one transaction, on the writer's thread."""

from __future__ import annotations

import asyncio
import logging
import sqlite3
from collections.abc import Callable, Sequence
from time import perf_counter
from typing import Any

from stepwire.server import failpoints
from stepwire.server.store.aging import Aging
from stepwire.server.store.errors import StoreError
from stepwire.server.store.limits import REQUEST_AGE
from stepwire.server.store.records import Claim
from stepwire.server.store.sqlite.commit_statements import (
    ROWS,
    PreparedCommit,
    StaleError,
    execute,
    prepare,
    refusal,
    statements,
)
from stepwire.server.store.sqlite.removal import prune_requests
from stepwire.server.store.sqlite.sqlite_errors import HARMLESS, code_of, translate

log = logging.getLogger(__name__)

Job = Callable[[sqlite3.Connection], Any]
"""A short piece of work in a transaction. A StoreError that it returns is the outcome of this job alone."""

PRUNE_EVERY = 1000
"""Answered requests that a run gets between two prunings of them."""

CHECKPOINT_BYTES = 16_384_000
"""How large the write-ahead log becomes before it is copied into the database: 4,000 pages."""

MAX_COUNTED = 10_000
"""Runs whose answered requests are counted. With more of them, counting starts anew."""


class WriteItem:
    """A commit or a job, and the future to resolve when it is durable."""

    __slots__ = ("at", "future", "makes_space", "size", "work")

    def __init__(
        self,
        work: PreparedCommit | Job,
        future: asyncio.Future[Any],
        size: int,
        *,
        makes_space: bool = False,
    ) -> None:
        """Make an item.

        Args:
            work: What to write.
            future: What to resolve.
            size: About how many bytes it writes.
            makes_space: Whether it frees space, so that it must be written on a full disk, too.
        """
        self.work = work
        self.future = future
        self.size = size
        self.makes_space = makes_space
        self.at = perf_counter()

    @property
    def what(self) -> str:
        """Return what it is, for messages."""
        if isinstance(self.work, PreparedCommit):
            return f"the commit of run {self.work.commit.record.key.run_id}"
        return "a job of the store"


class _RefusedError(Exception):
    """Something in the batch was refused: write it again item by item to find out which."""


class BatchWriter:
    """Own the writing connection, and write batches with it.

    When a transaction fails, every item of the batch fails and nothing of it is kept. The next
    batch opens the database anew if necessary, so writing works again as soon as the disk does.
    All methods but `failure` are called on one thread.
    """

    def __init__(self, connect: Callable[[], sqlite3.Connection], aging: Aging) -> None:
        self.failure: StoreError | None = None
        """Why the last transaction failed as a whole; None while writing works."""
        self.checkpoint_bytes = CHECKPOINT_BYTES
        """How large the write-ahead log becomes before it is copied into the database."""
        self._connect = connect
        self._aging = aging
        self._connection: sqlite3.Connection | None = None
        self._next_pk = 1
        self._new_requests: dict[int, int] = {}

    def open(self) -> sqlite3.Connection:
        """Open the database, making or migrating it.

        Raises:
            StoreError: It cannot be opened.
        """
        connection = self._connect()
        try:
            prepare(connection)
            (page,) = connection.execute("PRAGMA page_size").fetchone()
            pages = min(self.checkpoint_bytes, CHECKPOINT_BYTES) // page
            connection.execute(f"PRAGMA wal_autocheckpoint = {max(pages, 1)}")
            row = connection.execute("SELECT seq FROM sqlite_sequence WHERE name = 'runs'")
            self._next_pk = max((seq for (seq,) in row), default=0) + 1
        except sqlite3.Error as error:
            connection.close()
            raise translate(error, "be opened") from error
        self._connection = connection
        return connection

    def close(self) -> None:
        """Close the database."""
        connection, self._connection = self._connection, None
        if connection is not None:
            try:
                connection.close()
            except sqlite3.Error as error:
                log.warning("the store's database did not close cleanly: %s", error)

    def checkpoint(self) -> None:
        """Copy the write-ahead log into the database and cut it, so that it takes no space.

        Raises:
            sqlite3.Error: There is not even the space for that, or a reader is in the way.
            StoreError: The database cannot be opened.
        """
        connection = self._connection or self.open()
        (busy, *_) = connection.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchone()
        if busy:
            raise sqlite3.OperationalError("a reader is in the way")

    def sizes(self) -> tuple[int, int]:
        """Return the bytes of the database, with what is only in its log, and how many of these are unused.

        Raises:
            sqlite3.Error: It cannot be read.
            StoreError: It cannot be opened.
        """
        connection = self._connection or self.open()
        pages, free, page = (
            connection.execute(f"PRAGMA {name}").fetchone()[0] for name in ("page_count", "freelist_count", "page_size")
        )
        return pages * page, free * page

    def write(self, batch: Sequence[WriteItem]) -> list[Any]:
        """Write a batch; return each item's result, or the error with which it failed."""
        try:
            try:
                outcomes = self._write_at_once(batch)
                if outcomes is None:
                    outcomes = self._transact(batch, self._write_together)
            except _RefusedError:
                outcomes = self._transact(batch, self._write_one_by_one)
        except StoreError as error:
            failure = error
        except sqlite3.Error as error:
            failure = translate(error, "write")
            if code_of(error) != sqlite3.SQLITE_FULL:
                self.close()  # the next batch opens a fresh connection, whatever is wrong with this one
        except Exception as error:  # if the thread died, every run would hang
            log.exception("the writer of the store failed")
            failure = translate(error, "write")
            self.close()
        else:
            self.failure = None
            self._prune_requests(batch, outcomes)
            return outcomes
        log.error("a transaction of the store failed: %s", failure)
        self.failure = failure
        return [failure] * len(batch)

    def _write_at_once(self, batch: Sequence[WriteItem]) -> list[Any] | None:
        """Write a batch with one statement; return None when it needs more than one."""
        commits = [item.work for item in batch if isinstance(item.work, PreparedCommit)]
        if len(commits) < len(batch) or len(batch) > ROWS:
            return None
        connection = self._connection or self.open()
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
            raise _RefusedError from error
        return _claims(commits)

    def _transact(
        self,
        batch: Sequence[WriteItem],
        write: Callable[[sqlite3.Connection, Sequence[WriteItem]], list[Any]],
    ) -> list[Any]:
        connection = self._connection or self.open()
        connection.execute("BEGIN IMMEDIATE")
        try:
            outcomes = write(connection, batch)
            if failpoints.ACTIVE:
                failpoints.hit("commit.before")
            connection.execute("COMMIT")
            if failpoints.ACTIVE:
                failpoints.hit("commit.after")
        except BaseException:  # also what a failpoint raises: a transaction must not stay open
            if connection.in_transaction:
                connection.execute("ROLLBACK")
            raise
        return outcomes

    def _write_together(self, connection: sqlite3.Connection, batch: Sequence[WriteItem]) -> list[Any]:
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
            raise _RefusedError from error
        return outcomes

    def _write_one_by_one(self, connection: sqlite3.Connection, batch: Sequence[WriteItem]) -> list[Any]:
        """Write a batch item by item, without those that are refused."""
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
                outcomes.append(_explain(connection, item, error))
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

    def _prune_requests(self, batch: Sequence[WriteItem], outcomes: Sequence[Any]) -> None:
        """Now and then delete the answered requests that are no longer kept, of runs that got many."""
        for item, outcome in zip(batch, outcomes, strict=True):
            work = item.work
            if not isinstance(work, PreparedCommit) or isinstance(outcome, Exception):
                continue
            run = work.handle
            if work.commit.requests:
                # A run that was loaded again may have been near the limit before.
                count = self._new_requests.get(run, 0 if work.token == 1 else PRUNE_EVERY)
                count += len(work.commit.requests)
                if count >= PRUNE_EVERY and self._connection is not None:
                    try:
                        prune_requests(self._connection, run, self._aging.ago(REQUEST_AGE))
                        count = 0
                    except sqlite3.Error as error:
                        log.warning("answered requests still take space: %s", error)
                self._new_requests[run] = count
                if len(self._new_requests) > MAX_COUNTED:
                    self._new_requests.clear()
            if work.commit.record.ended_at is not None:
                self._new_requests.pop(run, None)


def _claims(commits: Sequence[PreparedCommit]) -> list[Claim]:
    return [Claim(item.commit.record.key, item.token, item.handle) for item in commits]


def _explain(connection: sqlite3.Connection, item: WriteItem, error: Exception) -> StoreError:
    """Return the error of an item whose statements were refused."""
    work = item.work
    refused: StoreError | None = None
    if isinstance(work, PreparedCommit):
        refused = refusal(connection, work, error)
    refused = refused or StoreError(f"{item.what} was refused: {type(error).__name__}")
    refused.__cause__ = error
    return refused
