"""A bare SQLite commit loop: what the disk costs."""

from __future__ import annotations

import sqlite3
import time
from pathlib import Path

__all__ = ["CommitLoop"]


class CommitLoop:
    """Commit one small row at a time, WAL and `synchronous=FULL`, into a database of its own."""

    def __init__(self, directory: Path) -> None:
        self._database = sqlite3.connect(directory / "bare.db", isolation_level=None)
        self._database.executescript(
            "PRAGMA journal_mode = WAL; PRAGMA synchronous = FULL;"
            "CREATE TABLE IF NOT EXISTS log (id INTEGER PRIMARY KEY, part BLOB);"
        )

    def p50(self, seconds: float) -> float:
        """Return the median seconds of a commit."""
        part = b"x" * 400
        times: list[float] = []
        end = time.perf_counter() + seconds
        while time.perf_counter() < end:
            began = time.perf_counter()
            self._database.execute("BEGIN IMMEDIATE")
            self._database.execute("INSERT INTO log (part) VALUES (?)", (part,))
            self._database.execute("COMMIT")
            times.append(time.perf_counter() - began)
        times.sort()
        return times[len(times) // 2]

    def close(self) -> None:
        """Close it."""
        self._database.close()
