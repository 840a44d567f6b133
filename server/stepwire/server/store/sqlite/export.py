"""Read everything that a data directory holds, run by run, to move it to another store.

The directory is locked meanwhile, so no server can use it. A mark in the database says where its runs went: a server
that would go on with them refuses to start.
"""

from __future__ import annotations

import sqlite3
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Final, NamedTuple

from stepwire.server.store.encoding import (
    RecordRow,
    chunk_checksum,
    delta_checksum,
    read_record,
    request_checksum,
)
from stepwire.server.store.errors import StoreCorruptError, StoreError
from stepwire.server.store.records import Chunk, RunRecord, WorkflowPause
from stepwire.server.store.sqlite import work_queries
from stepwire.server.store.sqlite.connections import connect_reader, connect_writer
from stepwire.server.store.sqlite.directory_lock import DirectoryLock
from stepwire.server.store.sqlite.run_queries import STORED
from stepwire.server.store.sqlite.schema import DATABASE
from stepwire.server.store.sqlite.sqlite_errors import translate

__all__ = ["DamagedRun", "Export", "Moved", "StoredCommit", "StoredRun", "refuse_if_moved"]

_FIELDS: Final = len(RecordRow._fields)


class Moved(NamedTuple):
    """Where the runs of a directory went.

    Attributes:
        target: The database, without a password.
        at: When the move began, in seconds since the epoch.
        done: Whether it was finished; else nobody knows whether the runs are there.
    """

    target: str
    at: float
    done: bool


class StoredRun(NamedTuple):
    """A run as it is stored. `handle` is its pk in this database."""

    handle: int
    row: RecordRow
    record: RunRecord
    questions: list[tuple[int, str]]


class DamagedRun(NamedTuple):
    """A run that is not as it was written; `what` says what of it."""

    handle: int
    what: str


class StoredCommit(NamedTuple):
    """A commit of a run's snapshot; `again` unless it is the first at its sequence."""

    sequence: int
    at: float
    full: bool
    again: bool
    delta: bytes


def refuse_if_moved(connection: sqlite3.Connection, directory: Path) -> None:
    """Raise StoreError if the runs of a database were moved elsewhere: both places would go on with them."""
    moved = _moved(connection)
    if moved is None:
        return
    if moved.done:
        raise StoreError(f"the runs of {directory} were moved to {moved.target}: serve that, or another directory")
    raise StoreError(
        f"a move of {directory} to {moved.target} was begun and not finished: run `stepwire move` again, or give it"
        " up with `stepwire move --abandon`"
    )


def _moved(connection: sqlite3.Connection) -> Moved | None:
    if not connection.execute("SELECT 1 FROM sqlite_schema WHERE name = 'moved'").fetchone():
        return None
    row = connection.execute("SELECT target, at, done FROM moved").fetchone()
    return Moved(row[0], row[1], bool(row[2])) if row else None


class Export:
    """Hold a data directory and read it; a context manager."""

    def __init__(self, directory: Path) -> None:
        self._directory = directory
        self._lock = DirectoryLock(directory)
        self._writer: sqlite3.Connection
        self._reader: sqlite3.Connection

    def __enter__(self) -> Export:
        """Lock the directory and open its database, migrating it.

        Raises:
            StoreLockedError: A process has the directory.
            StoreError: There is no database, it is of a newer version, or it cannot be opened.
        """
        path = self._directory / DATABASE
        if not path.is_file():
            raise StoreError(f"{self._directory} holds no database of a server")
        self._lock.acquire("stop it first")
        try:
            self._writer = connect_writer(path)
            self._reader = connect_reader(path)
        except BaseException:  # `__exit__` is not called for what fails in here
            self._lock.release()
            raise
        return self

    def __exit__(self, *error: object) -> None:
        """Close the database and unlock the directory."""
        self._reader.close()
        self._writer.close()
        self._lock.release()

    @property
    def moved(self) -> Moved | None:
        """Return where the runs went; None while they are here."""
        return _moved(self._writer)

    def mark(self, target: str, *, done: bool) -> None:
        """Note durably that the runs are going, or have gone, to a target."""
        try:
            self._writer.execute("BEGIN IMMEDIATE")
            self._writer.execute("CREATE TABLE IF NOT EXISTS moved (target TEXT, at REAL, done INTEGER)")
            self._writer.execute("DELETE FROM moved")
            self._writer.execute("INSERT INTO moved VALUES (?, ?, ?)", (target, time.time(), int(done)))
            self._writer.execute("COMMIT")
        except sqlite3.Error as error:
            raise translate(error, "be marked as moved") from error

    def unmark(self) -> None:
        """Take the mark away: the runs stay here."""
        try:
            self._writer.execute("DROP TABLE IF EXISTS moved")
        except sqlite3.Error as error:
            raise translate(error, "be unmarked") from error

    def count(self) -> int:
        """Return the number of runs."""
        (count,) = self._reader.execute("SELECT count(*) FROM runs").fetchone()
        return int(count)

    def runs(self, after: int, limit: int) -> list[StoredRun | DamagedRun]:
        """Return the next runs by handle, and read all that belongs to them to see whether it is damaged."""
        rows = self._reader.execute(f"SELECT {STORED} FROM runs WHERE pk > ? ORDER BY pk LIMIT ?", (after, limit))
        found: list[StoredRun | DamagedRun] = []
        for values in rows.fetchall():
            row, handle, lines = RecordRow(*values[:_FIELDS]), values[_FIELDS], values[-1]
            try:
                record = read_record(values)
                questions = [line.split(" ", 2) for line in lines.split("\n")] if lines else []
                run = StoredRun(handle, row, record, [(int(number), text) for number, _, text in questions])
                for part in (self.commits(run), self.chunks(run), self.requests(run)):
                    for _ in part:
                        pass
            except StoreCorruptError as error:
                found.append(DamagedRun(handle, str(error)))
            else:
                found.append(run)
        return found

    def commits(self, run: StoredRun) -> Iterator[StoredCommit]:
        """Return the commits of a run's snapshots, oldest first."""
        rows = self._reader.execute(
            'SELECT sequence, at, "full", again, checksum, delta FROM commits WHERE run = ? ORDER BY id', (run.handle,)
        )
        for sequence, at, full, again, checksum, delta in rows:
            if checksum != delta_checksum(run.handle, sequence, full, delta):
                raise StoreCorruptError(f"a snapshot of run {run.row.run_id} is damaged")
            yield StoredCommit(sequence, at, bool(full), bool(again), delta)

    def chunks(self, run: StoredRun) -> Iterator[Chunk]:
        """Return the log of a run."""
        rows = self._reader.execute(
            "SELECT first, last, public, internal, checksum FROM log WHERE run = ? ORDER BY first", (run.handle,)
        )
        for *fields, checksum in rows:
            chunk = Chunk(*fields)
            if checksum != chunk_checksum(run.handle, chunk):
                raise StoreCorruptError(f"the log of run {run.row.run_id} is damaged")
            yield chunk

    def requests(self, run: StoredRun) -> Iterator[tuple[float, str]]:
        """Return the answered requests of a run as they are stored, with their times, oldest first."""
        rows = self._reader.execute(
            "SELECT at, checksum, request FROM requests WHERE run = ? ORDER BY id", (run.handle,)
        )
        for at, checksum, text in rows:
            if checksum != request_checksum(run.handle, text):
                raise StoreCorruptError(f"the answered requests of run {run.row.run_id} are damaged")
            yield at, text

    def pauses(self) -> list[WorkflowPause]:
        """Return the pauses of workflows."""
        return work_queries.pauses(self._reader)

    def pruned_starts(self) -> list[tuple[str, str, str, str, float]]:
        """Return what is kept of pruned runs: namespace, request_id, run_id, digest and time of the start."""
        return self._reader.execute(
            "SELECT namespace, request_id, run_id, digest, created_at FROM pruned_starts"
        ).fetchall()

    def gaps(self) -> list[tuple[float, float]]:
        """Return the times in which no server used the directory."""
        return self._reader.execute("SELECT began, ended FROM gaps").fetchall()
