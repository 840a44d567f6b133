"""What only the SQLite store does with commits: one statement, one order, nothing lost after a crash."""

from __future__ import annotations

import asyncio
import itertools
import sqlite3
import sys
import threading
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest
from tests.integration.sqlite.support import first, later, record, rows

from stepwire.server.store import (
    Chunk,
    Claim,
    Commit,
    RequestRecord,
    RunKey,
    SqliteStore,
    StaleClaimError,
    Status,
    StoredSnapshot,
    StoreError,
)


async def test_reopening_finds_everything(tmp_path: Path) -> None:
    store = SqliteStore(tmp_path)
    await store.open()
    run = record(wake_at=7.0, labels={"a": "b"}, start_request_id="req", info={"x": [1]})
    request = RequestRecord("q", "d", {"sequence": 1}, 1e12)
    claim = await store.commit(Commit(run, None, b"full", full=True, requests=[request]))
    await store.commit(later(claim, 1))
    await store.close()
    assert not (tmp_path / "stepwire.db-wal").exists()

    store = SqliteStore(tmp_path)
    await store.open()
    kept = record(sequence=1, wake_at=0.0, start_request_id="req")
    assert await store.get(claim.key) == kept
    assert await store.find_start("default", "req") == kept
    assert await store.load(claim.key) == StoredSnapshot(1, 1.0, b"full", [b"delta"])
    assert await store.entries(claim.key, 0) == [Chunk(1, 1, b"public delta", b"internal delta")]
    assert await store.requests(claim.key) == [request]
    assert [run.key for run in await store.due(0.0, 10, workflows=["orders"])] == [claim.key]
    new = await store.claim(claim.key)
    assert new is not None
    assert new.token > claim.token
    await store.commit(later(new, 2))
    await store.close()


CHILD = """
import asyncio, sys
from pathlib import Path
from stepwire.server.store import Chunk, Commit, RunKey, RunRecord, SqliteStore

async def run(store, number):
    claim, sequence = None, 0
    while True:
        record = RunRecord(
            key=RunKey("default", f"r{number}"), workflow="w", status="RUNNING",
            created_at=1.0, updated_at=1.0, last_sequence=sequence,
        )
        data = b"%d.%d" % (number, sequence)
        chunks = [Chunk(sequence, sequence, data, None)] if sequence else []
        claim = await store.commit(Commit(record, claim, data, claim is None, chunks))
        print(number, sequence, flush=True)
        sequence += 1

async def main():
    store = SqliteStore(Path(sys.argv[1]))
    await store.open()
    await asyncio.gather(*(run(store, number) for number in range(20)))

asyncio.run(main())
"""


@pytest.mark.parametrize("acknowledged", [1, 50, 3000])
async def test_a_killed_process_loses_nothing_acknowledged(tmp_path: Path, acknowledged: int) -> None:
    child = await asyncio.create_subprocess_exec(
        sys.executable, "-c", CHILD, str(tmp_path), stdout=asyncio.subprocess.PIPE
    )
    assert child.stdout is not None
    lines = [await child.stdout.readline() for _ in range(acknowledged)]
    child.kill()
    lines += (await child.stdout.read()).splitlines(keepends=True)
    await child.wait()
    told: dict[int, int] = {}
    for line in lines:
        if line.endswith(b"\n"):  # the last one may be cut off
            number, sequence = map(int, line.split())
            told[number] = sequence

    store = SqliteStore(tmp_path)
    await store.open()
    for number, sequence in told.items():
        key = RunKey("default", f"r{number}")
        snapshot = await store.load(key)
        assert snapshot is not None
        # The commit in flight may have been written without word of it; not more, not half of it.
        assert snapshot.sequence - sequence in (0, 1)
        expected = [b"%d.%d" % (number, n) for n in range(snapshot.sequence + 1)]
        assert [snapshot.full, *snapshot.deltas] == expected
        chunks = await store.entries(key, 0, limit=10_000)
        assert [chunk.public for chunk in chunks] == expected[1:]
    await store.close()
    with closing(sqlite3.connect(store.path)) as connection:
        assert connection.execute("PRAGMA integrity_check").fetchall() == [("ok",)]


class Held:
    """Hold the writer, so that what is given meanwhile is written together."""

    def __init__(self, store: SqliteStore) -> None:
        self.store = store
        self.statements: list[str] = []
        self._held, self._go_on = threading.Event(), threading.Event()

    def _hold(self, connection: sqlite3.Connection) -> None:
        self._held.set()
        self._go_on.wait(60)
        connection.set_trace_callback(self.statements.append)

    def executed(self) -> list[str]:
        """Return the statements. SQLite reports one that fires triggers again for each statement of the triggers."""
        return [statement for statement, _ in itertools.groupby(self.statements)]

    async def __aenter__(self) -> Held:
        self._job = self.store._writer.run(self._hold)
        assert await asyncio.to_thread(self._held.wait, 60)
        return self

    async def __aexit__(self, *error: object) -> None:
        self._go_on.set()
        await self._job


async def test_commits_given_together_are_one_statement(store: SqliteStore) -> None:
    claims = await asyncio.gather(*(store.commit(first(f"r{n}")) for n in range(64)))
    async with Held(store) as held:
        futures = [store.commit(later(claim, 1)) for claim in claims]
    await asyncio.gather(*futures)
    assert [statement.split()[0] for statement in held.executed()] == [
        "COMMIT",
        "INSERT",
    ]  # the first of the job that held it


async def test_commits_given_together_that_are_more_than_one_statement_are_one_transaction(store: SqliteStore) -> None:
    claims = await asyncio.gather(*(store.commit(first(f"r{n}")) for n in range(65)))
    async with Held(store) as held:
        futures = [store.commit(later(claim, 1)) for claim in claims]
    await asyncio.gather(*futures)
    assert [statement.split()[0] for statement in held.executed()] == ["COMMIT", "BEGIN", "INSERT", "INSERT", "COMMIT"]


async def test_what_is_given_together_is_done_in_order(store: SqliteStore) -> None:
    claim = await store.commit(first())
    other = await store.commit(first("r2"))
    async with Held(store):
        commits = [store.commit(later(claim, n, b"%d" % n)) for n in (1, 2)]
        claimed = asyncio.ensure_future(store.claim(claim.key))
        deleted = asyncio.ensure_future(store.delete(other.key))
        await asyncio.sleep(0)  # both tasks give their jobs
        stale = [store.commit(later(claim, 3)), store.commit(later(other, 1))]
        again = store.commit(first("r2"))
    assert await asyncio.gather(*commits) == [claim, claim]
    assert (await store.load(claim.key)) == StoredSnapshot(2, 1.0, b"full", [b"1", b"2"])
    assert await store.get(claim.key) == record(sequence=2)
    assert await claimed == Claim(claim.key, claim.token + 1, claim.handle)
    assert await deleted is True
    for future in stale:
        with pytest.raises(StaleClaimError):
            await future
    assert (await again).handle > other.handle


async def test_a_commit_refused_in_its_last_statement_leaves_nothing(store: SqliteStore) -> None:
    claims = [await store.commit(first(run_id)) for run_id in ("r1", "r2")]
    bad = later(claims[0], 1)
    bad.chunks = [Chunk(1, 1, b"x", None), Chunk(2, 1 << 70, b"y", None)]
    async with Held(store):
        futures = [store.commit(bad), store.commit(later(claims[1], 1))]
    outcomes = await asyncio.gather(*futures, return_exceptions=True)
    assert type(outcomes[0]) is StoreError
    assert outcomes[1] == claims[1]
    assert await store.get(claims[0].key) == record()
    assert await store.load(claims[0].key) == StoredSnapshot(0, 1.0, b"full", [])
    assert await store.entries(claims[0].key, 0) == []
    assert await store.load(claims[1].key) == StoredSnapshot(1, 1.0, b"full", [b"delta"])


async def answer(store: SqliteStore, claim: Claim, count: int) -> int:
    """Commit answered requests; give how many there are in the file."""
    requests = [RequestRecord("q", "d", {}, 1e12)] * count
    await store.commit(Commit(record(), claim, b"d", full=False, requests=requests))
    return rows(store.path, "requests")


async def test_answered_requests_are_removed_each_thousand(store: SqliteStore) -> None:
    claim = await store.commit(first())
    assert await answer(store, claim, 10_900) == 10_000
    assert await answer(store, claim, 999) == 10_999
    assert await answer(store, claim, 1) == 10_000


async def test_answered_requests_of_a_loaded_run_are_removed_at_once(tmp_path: Path) -> None:
    store = SqliteStore(tmp_path)
    await store.open()
    old = await store.commit(first())
    assert await answer(store, old, 10_900) == 10_000
    assert await answer(store, old, 999) == 10_999
    await store.close()
    store = SqliteStore(tmp_path)  # it has not counted them
    await store.open()
    claim = await store.claim(old.key)
    assert claim is not None
    assert await answer(store, claim, 1) == 10_000
    await store.close()


async def test_an_answer_writes_no_other_question(store: SqliteStore) -> None:
    asked = first()
    asked.pending = {number: {"prompt": "x" * 200} for number in range(4000)}
    claim = await store.commit(asked)

    async def written(pending: dict[int, dict[str, Any] | None]) -> int:
        """Return the bytes that a commit writes to the log."""
        with closing(sqlite3.connect(store.path)) as other:
            other.execute("PRAGMA wal_checkpoint(TRUNCATE)")
        commit = later(claim, 1)
        commit.chunks, commit.pending = (), pending
        await store.commit(commit)
        return store.path.with_name("stepwire.db-wal").stat().st_size

    assert await written({}) + 40_000 > await written({17: None})
    found = await store.get(claim.key)
    assert found is not None
    assert len(found.pending) == 3999


async def test_a_clock_set_far_forward_while_the_store_was_closed_makes_nothing_old(tmp_path: Path) -> None:
    now = 1_000_000.0
    store = SqliteStore(tmp_path, clock=lambda: now)
    await store.open()
    ended = {"status": Status.COMPLETED, "updated_at": now, "ended_at": now}
    await store.commit(first("minutes old", **ended))
    assert store.ago(60.0) == now - 60.0
    await store.close()
    for _ in range(2):  # the next opening knows of it, too
        now += 10 * 365 * 86_400.0 if now < 2_000_000 else 5.0
        await store.open()
        assert await store.prune(ended_before=store.ago(3600.0)) == 0
        await store.close()
    now += 3590.0
    await store.open()
    assert await store.prune(ended_before=store.ago(3600.0)) == 0
    now += 100.0  # by now an hour has passed that was lived
    assert await store.prune(ended_before=store.ago(3600.0)) == 1
    await store.close()
