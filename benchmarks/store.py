"""Commits: of bare SQLite, which is what the disk costs, and of the store alone."""

import sqlite3
import time
from collections import Counter
from collections.abc import AsyncIterator, Iterator
from contextlib import closing, contextmanager
from itertools import count
from pathlib import Path

from benchmarks.harness import Bench, Row, alternate, row
from benchmarks.load import Call, saturate
from benchmarks.peer.loads import IN_FLIGHT
from tests.unit.contract.support import first, later, record

from stepwire.server.store import Chunk, SqliteStore

_PART = b"x" * 400
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


@contextmanager
def bare_commits(directory: Path, *, runs: int = 0, part: bytes = b"x" * 200) -> Iterator[Call]:
    """Have a database with WAL and `synchronous=FULL`; the call commits to it.

    A commit has what one of each of `runs` runs has: its record anew, a delta and a chunk of the log, each found by an
    index; without runs, one small row.
    """
    numbers = count(1)
    with closing(sqlite3.connect(directory / "bare.db", isolation_level=None)) as database:
        execute = database.execute
        database.executescript(_SETTINGS + (_SAME_ROWS if runs else _ONE_ROW))
        for run in range(runs):
            execute("INSERT INTO runs VALUES (?, 1, 'RUNNING', 0, 0)", (run,))

        async def commit(caller: int) -> None:
            number = next(numbers)
            execute("BEGIN IMMEDIATE")
            for run in range(runs):
                execute(_UPDATE, ("RUNNING", time.time(), number, run))
                execute("INSERT INTO commits (run, sequence, delta) VALUES (?, ?, ?)", (run, number, part))
                execute("INSERT INTO log (run, first, public) VALUES (?, ?, ?)", (run, number, part))
            if not runs:
                execute("INSERT INTO log (part) VALUES (?)", (part * 2,))
            execute("COMMIT")

        yield commit


async def store(bench: Bench) -> AsyncIterator[Row]:
    """Commit 64 runs again and again, each once its last commit is durable, by the store and by the bare loop."""

    async def ours() -> tuple[float, int]:
        kept = SqliteStore(bench.data() / "store")
        await kept.open()
        claims = [await kept.commit(first(record(f"run-{number}"), delta=_PART)) for number in range(IN_FLIGHT)]
        sequences: Counter[int] = Counter()

        async def commit(run: int) -> None:
            sequences[run] += 1
            chunk = Chunk(sequences[run], sequences[run], _PART, None)
            await kept.commit(later(record(f"run-{run}"), claims[run], sequences[run], _PART, chunks=[chunk]))

        found = await saturate(commit, bench.seconds)
        await kept.close()
        return found

    with bare_commits(bench.data(), runs=IN_FLIGHT, part=_PART) as commit_all:

        async def bare() -> tuple[float, int]:
            rate, commits = await saturate(commit_all, bench.seconds)
            return rate * IN_FLIGHT, commits

        works = {"bare loop": (None, bare), "store": (None, ours)}
        limits, rates = (await alternate(bench, "the store's commits", works)).values()
    yield row("store", "commits of the store alone, 64 runs", "1/s", "bare SQLite loop", rates, limits)
