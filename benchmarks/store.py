"""Commits: of bare SQLite, which is what the disk costs, and of the store alone."""

from __future__ import annotations

import sqlite3
import time
from collections import Counter
from collections.abc import Callable, Sequence
from pathlib import Path
from statistics import mean, median
from typing import Self

from benchmarks.harness import Bench, Measure, Row, Sample, alternate, row
from benchmarks.load import IN_FLIGHT, saturate
from tests.unit.contract.support import first, later, record

from stepwire.server.store import Chunk, SqliteStore

PART = b"x" * 400
"""A delta, and a chunk."""

_SETTINGS = "PRAGMA journal_mode = WAL; PRAGMA synchronous = FULL; PRAGMA wal_autocheckpoint = 4000;"
_ONE_ROW = "CREATE TABLE log (id INTEGER PRIMARY KEY, part BLOB);"
_SAME_ROWS = """
CREATE TABLE runs (pk INTEGER PRIMARY KEY, token, status, updated_at, last_sequence);
CREATE TABLE commits (id INTEGER PRIMARY KEY, run, sequence, delta);
CREATE INDEX commits_run ON commits (run, sequence);
CREATE TABLE log (id INTEGER PRIMARY KEY, run, first, public);
CREATE INDEX log_run ON log (run, first);
"""
_UPDATE = "UPDATE runs SET status = ?, updated_at = ?, last_sequence = ? WHERE pk = ? AND token = 1"


class BareCommits:
    """Commit with WAL and `synchronous=FULL` into a database of its own; a context manager.

    A commit has what one of each of `runs` runs has: its record anew, a delta and a chunk of the log, each found by an
    index; without runs, one small row.
    """

    def __init__(self, directory: Path, *, runs: int = 0, part: bytes = b"x" * 200) -> None:
        self._database = sqlite3.connect(directory / "bare.db", isolation_level=None)
        self._database.executescript(_SETTINGS + (_SAME_ROWS if runs else _ONE_ROW))
        self._runs, self._part, self._number = runs, part, 0
        for run in range(runs):
            self._database.execute("INSERT INTO runs VALUES (?, 1, 'RUNNING', 0, 0)", (run,))

    def commit(self) -> None:
        """Commit once."""
        execute, part = self._database.execute, self._part
        self._number += 1
        execute("BEGIN IMMEDIATE")
        for run in range(self._runs):
            execute(_UPDATE, ("RUNNING", time.time(), self._number, run))
            execute("INSERT INTO commits (run, sequence, delta) VALUES (?, ?, ?)", (run, self._number, part))
            execute("INSERT INTO log (run, first, public) VALUES (?, ?, ?)", (run, self._number, part))
        if not self._runs:
            execute("INSERT INTO log (part) VALUES (?)", (part * 2,))
        execute("COMMIT")

    def measure(self, seconds: float, value: Callable[[Sequence[float]], float] = median) -> Measure:
        """Return what commits for some seconds, and measures a value of the seconds of each commit."""

        async def sample() -> Sample:
            times: list[float] = []
            end = time.perf_counter() + seconds
            while (began := time.perf_counter()) < end:
                self.commit()
                times.append(time.perf_counter() - began)
            return Sample(value(times))

        return sample

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *raised: object) -> None:
        self._database.close()


async def store(bench: Bench) -> list[Row]:
    """Commit 64 runs again and again, each once its last commit is durable, by the store and by the bare loop."""

    async def ours() -> Sample:
        kept = SqliteStore(bench.data() / "store")
        await kept.open()
        claims = [await kept.commit(first(record(f"run-{number}"), delta=PART)) for number in range(IN_FLIGHT)]
        sequences: Counter[int] = Counter()

        async def commit(run: int) -> None:
            sequences[run] += 1
            chunk = Chunk(sequences[run], sequences[run], PART, None)
            await kept.commit(later(record(f"run-{run}"), claims[run], sequences[run], PART, chunks=[chunk]))

        rate, _ = await saturate(commit, bench.seconds)
        await kept.close()
        return Sample(rate)

    with BareCommits(bench.data(), runs=IN_FLIGHT, part=PART) as commits:
        bare = commits.measure(bench.seconds, lambda times: IN_FLIGHT / mean(times))
        samples = await alternate(bench, "the store's commits", {"bare loop": bare, "store": ours})
    title = "commits of the store alone, 64 runs"
    return [row("store", title, "1/s", "bare SQLite loop", samples["store"], samples["bare loop"])]
