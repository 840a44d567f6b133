"""Measure commits per second of the SQLite store against a bare loop over SQLite.

The bare loop writes the same rows with one prepared statement per row and one transaction per
round of all runs: what group commit can reach when nothing else is to be done.

    python -m benchmarks.store [--seconds 3] [--runs 64] [--bytes 400] [--dir .]
"""

from __future__ import annotations

import argparse
import asyncio
import sqlite3
import tempfile
import threading
import time
from pathlib import Path

from benchmarks.measure import Bench, Measure, Row, Sample, alternate, make_row, values

from stepwire.server.store import Chunk, Commit, RunKey, RunRecord, SqliteStore


def _record(run: int, sequence: int) -> RunRecord:
    return RunRecord(
        key=RunKey("default", f"run-{run}"),
        workflow="bench",
        status="RUNNING",
        created_at=1.0,
        updated_at=time.time(),
        last_sequence=sequence,
        labels={"team": "bench"},
    )


async def measure_store(directory: Path, runs: int, size: int, seconds: float) -> float:
    """Give the commits per second of `runs` runs that each commit again once it is durable."""
    store = SqliteStore(directory)
    await store.open()
    done = 0
    end = time.perf_counter() + seconds
    part = b"x" * size

    async def run(number: int) -> None:
        nonlocal done
        claim = await store.commit(Commit(_record(number, 0), None, part, full=True))
        sequence = 0
        while time.perf_counter() < end:
            sequence += 1
            chunk = Chunk(sequence, sequence, part, None)
            record = _record(number, sequence)
            await store.commit(Commit(record, claim, part, full=False, chunks=[chunk]))
            done += 1

    began = time.perf_counter()
    await asyncio.gather(*(run(number) for number in range(runs)))
    rate = done / (time.perf_counter() - began)
    await store.close()
    return rate


def measure_sqlite(directory: Path, runs: int, size: int, seconds: float) -> float:
    """Give the rate of a loop that writes the same rows, without threads or an event loop."""
    connection = sqlite3.connect(directory / "bare.db", isolation_level=None)
    connection.executescript(
        "PRAGMA journal_mode = WAL; PRAGMA synchronous = FULL; PRAGMA wal_autocheckpoint = 4000;"
        "CREATE TABLE runs (pk INTEGER PRIMARY KEY, token, status, updated_at, last_sequence);"
        "CREATE TABLE commits (id INTEGER PRIMARY KEY, run, sequence, delta);"
        "CREATE INDEX commits_run ON commits (run, sequence);"
        "CREATE TABLE log (id INTEGER PRIMARY KEY, run, first, public);"
        "CREATE INDEX log_run ON log (run, first);"
    )
    connection.executemany("INSERT INTO runs VALUES (?, 1, 'RUNNING', 0, 0)", [(number,) for number in range(runs)])
    update = "UPDATE runs SET status = ?, updated_at = ?, last_sequence = ? WHERE pk = ? AND token = 1"
    part = b"x" * size
    done = 0
    began = time.perf_counter()
    while time.perf_counter() - began < seconds:
        done += 1
        connection.execute("BEGIN IMMEDIATE")
        for run in range(runs):
            connection.execute(update, ("RUNNING", time.time(), done, run))
            connection.execute("INSERT INTO commits (run, sequence, delta) VALUES (?, ?, ?)", (run, done, part))
            connection.execute("INSERT INTO log (run, first, public) VALUES (?, ?, ?)", (run, done, part))
        connection.execute("COMMIT")
    rate = done * runs / (time.perf_counter() - began)
    connection.close()
    return rate


async def store(bench: Bench) -> list[Row]:
    """Commit 64 runs again and again, through the store and by the bare loop."""
    runs, size = 64, 400

    async def ours() -> Sample:
        return Sample(await measure_store(bench.data() / "store", runs, size, bench.seconds))

    async def bare() -> Sample:
        return Sample(await asyncio.to_thread(measure_sqlite, bench.data(), runs, size, bench.seconds))

    measures: dict[str, Measure] = {"bare loop": bare, "store": ours}
    samples = await alternate(bench, "the store's commits", measures)
    return [
        make_row(
            "store",
            "commits of the store alone, 64 runs",
            "1/s",
            samples["store"],
            values(samples["bare loop"]),
            limit_name="bare SQLite loop",
        )
    ]


def _busy(stop: threading.Event) -> None:
    while not stop.is_set():
        sum(range(100))


def main() -> None:
    """Print both rates, their ratio, and the rate beside a thread that never rests."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--seconds", type=float, default=3.0, help="per measurement")
    parser.add_argument("--runs", type=int, default=64, help="runs in flight")
    parser.add_argument("--bytes", type=int, default=400, help="of each delta and each chunk")
    parser.add_argument("--dir", default=None, help="where to measure; default: a temporary one")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory(dir=options.dir) as directory:
        root = Path(directory)
        sizes = (options.runs, options.bytes, options.seconds)
        bare = measure_sqlite(root, *sizes)
        store = asyncio.run(measure_store(root / "idle", *sizes))
        stop = threading.Event()
        thread = threading.Thread(target=_busy, args=(stop,))
        thread.start()
        try:
            beside = asyncio.run(measure_store(root / "busy", *sizes))
        finally:
            stop.set()
            thread.join()
    print(f"bare SQLite loop        {bare:10,.0f} commits/s")
    print(f"SqliteStore             {store:10,.0f} commits/s   ratio {store / bare:.2f}")
    print(f"SqliteStore, contended  {beside:10,.0f} commits/s   ratio {beside / bare:.2f}")


if __name__ == "__main__":
    main()
