"""Commits: of bare SQLite, which is what the disk costs, and of the store alone."""

from __future__ import annotations

import asyncio
import sqlite3
import time
from pathlib import Path
from statistics import median

from benchmarks.harness import Bench, Measure, Row, Sample, alternate, row

from stepwire.server.store import Chunk, Commit, RunKey, RunRecord, SqliteStore

__all__ = ["BareCommits", "store"]

RUNS = 64
BYTES = 400
"""Of each delta and each chunk."""

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

    A commit has one small row, or with `same_rows` what a commit of each of `runs` runs has: its record anew, a delta
    and a chunk of the log, each found by an index.
    """

    def __init__(self, directory: Path, *, same_rows: bool = False, runs: int = 1, size: int = 200) -> None:
        self._database = sqlite3.connect(directory / "bare.db", isolation_level=None, check_same_thread=False)
        self._database.executescript(_SETTINGS + (_SAME_ROWS if same_rows else _ONE_ROW))
        self._runs, self._part, self._number = runs if same_rows else 0, b"x" * size, 0
        for run in range(self._runs):
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

    def times(self, seconds: float) -> list[float]:
        """Commit for some seconds; return the seconds of each commit."""
        times: list[float] = []
        end = time.perf_counter() + seconds
        while (began := time.perf_counter()) < end:
            self.commit()
            times.append(time.perf_counter() - began)
        return times

    def measure(self, seconds: float) -> Measure:
        """Return what measures the median seconds of a commit."""

        async def sample() -> Sample:
            return Sample(median(self.times(seconds)))

        return sample

    def __enter__(self) -> BareCommits:
        return self

    def __exit__(self, *raised: object) -> None:
        self._database.close()


async def store(bench: Bench) -> list[Row]:
    """Commit 64 runs again and again, through the store and by the bare loop."""

    async def ours() -> Sample:
        return Sample(await _rate(bench.data() / "store", bench.seconds))

    async def bare() -> Sample:
        with BareCommits(bench.data(), same_rows=True, runs=RUNS, size=BYTES) as commits:
            times = await asyncio.to_thread(commits.times, bench.seconds)
        return Sample(len(times) * RUNS / sum(times))

    samples = await alternate(bench, "the store's commits", {"bare loop": bare, "store": ours})
    title = "commits of the store alone, 64 runs"
    return [row("store", title, "1/s", "bare SQLite loop", samples["store"], samples["bare loop"])]


async def _rate(directory: Path, seconds: float) -> float:
    """Return the commits per second of 64 runs that each commit again once it is durable."""
    kept = SqliteStore(directory)
    await kept.open()
    done, part = 0, b"x" * BYTES
    began = time.perf_counter()

    def record(run: int, sequence: int) -> RunRecord:
        key, now = RunKey("default", f"run-{run}"), time.time()
        return RunRecord(
            key=key, workflow="bench", status="RUNNING", created_at=1.0, updated_at=now, last_sequence=sequence
        )

    async def run(number: int) -> None:
        nonlocal done
        claim = await kept.commit(Commit(record(number, 0), None, part, full=True))
        sequence = 0
        while time.perf_counter() < began + seconds:
            sequence += 1
            chunk = Chunk(sequence, sequence, part, None)
            await kept.commit(Commit(record(number, sequence), claim, part, full=False, chunks=[chunk]))
            done += 1

    await asyncio.gather(*map(run, range(RUNS)))
    rate = done / (time.perf_counter() - began)
    await kept.close()
    return rate
