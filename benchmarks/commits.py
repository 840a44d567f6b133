"""Bare SQLite commit loops: what the disk costs."""

from __future__ import annotations

import sqlite3
import time
from pathlib import Path

__all__ = ["CommitLoop", "SameRowsLoop"]

_SETTINGS = "PRAGMA journal_mode = WAL; PRAGMA synchronous = FULL;"


class CommitLoop:
    """Commit one small row at a time, WAL and `synchronous=FULL`, into a database of its own."""

    TABLES = "CREATE TABLE log (id INTEGER PRIMARY KEY, part BLOB);"

    def __init__(self, directory: Path) -> None:
        self._database = sqlite3.connect(directory / "bare.db", isolation_level=None)
        self._database.executescript(_SETTINGS + self.TABLES)

    def p50(self, seconds: float) -> float:
        """Return the median seconds of a commit."""
        times: list[float] = []
        end = time.perf_counter() + seconds
        while time.perf_counter() < end:
            began = time.perf_counter()
            self._database.execute("BEGIN IMMEDIATE")
            self.write(len(times))
            self._database.execute("COMMIT")
            times.append(time.perf_counter() - began)
        times.sort()
        return times[len(times) // 2]

    def write(self, number: int) -> None:
        """Write what one commit holds."""
        self._database.execute("INSERT INTO log (part) VALUES (?)", (b"x" * 400,))

    def close(self) -> None:
        """Close it."""
        self._database.close()


class SameRowsLoop(CommitLoop):
    """Commit the rows of a run's commit: its record anew, a delta and a chunk of the log, each found by an index."""

    TABLES = (
        "CREATE TABLE runs (pk INTEGER PRIMARY KEY, token, status, updated_at, last_sequence);"
        "INSERT INTO runs VALUES (0, 1, 'RUNNING', 0, 0);"
        "CREATE TABLE commits (id INTEGER PRIMARY KEY, run, sequence, delta);"
        "CREATE INDEX commits_run ON commits (run, sequence);"
        "CREATE TABLE log (id INTEGER PRIMARY KEY, run, first, public);"
        "CREATE INDEX log_run ON log (run, first);"
    )

    def write(self, number: int) -> None:
        """Write what one commit holds."""
        part = b"x" * 200
        update = "UPDATE runs SET status = ?, updated_at = ?, last_sequence = ? WHERE pk = 0 AND token = 1"
        self._database.execute(update, ("RUNNING", time.time(), number))
        self._database.execute("INSERT INTO commits (run, sequence, delta) VALUES (0, ?, ?)", (number, part))
        self._database.execute("INSERT INTO log (run, first, public) VALUES (0, ?, ?)", (number, part))
