"""Rows of deleted runs and trimmed logs go from the SQLite store, also when that is cut short."""

from __future__ import annotations

from pathlib import Path

import pytest
from tests.integration.sqlite.support import first, later, record, rows

from stepwire.server.store import (
    Chunk,
    Commit,
    SqliteStore,
)
from stepwire.server.store.sqlite import removal


async def test_the_rows_of_deleted_runs_go(store: SqliteStore) -> None:
    claims = [await store.commit(first(f"r{n}")) for n in range(3)]
    for sequence in range(1, 2 * removal.SWEEP_ROWS):
        await store.commit(later(claims[0], sequence))
    await store.commit(later(claims[2], 1))
    for claim in claims[:2]:
        assert await store.delete(claim.key)
    assert store._sweeper is not None
    await store._sweeper
    assert [rows(store.path, table) for table in ("commits", "log", "doomed")] == [2, 1, 0]


async def test_what_a_crash_left_of_deleted_runs_goes_at_the_next_start(tmp_path: Path) -> None:
    store = SqliteStore(tmp_path)
    await store.open()
    claim = await store.commit(first())
    await store.commit(later(claim, 1))
    await store._writer.run(lambda connection: removal.delete(connection, claim.key))
    await store.close()
    assert rows(store.path, "commits") == 2
    await store.open()
    assert store._sweeper is not None
    await store._sweeper
    await store.close()
    assert [rows(store.path, table) for table in ("commits", "log", "doomed")] == [0, 0, 0]


async def test_a_trim_that_is_cut_short_leaves_a_log_that_says_where_it_begins(
    store: SqliteStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(removal, "SWEEP_ROWS", 2)
    claim = await store.commit(first(sequence=1))
    chunks = []
    for n in range(2, 40):
        chunks.append(Chunk(n, n, b"%d" % n, None))
        await store.commit(Commit(record(sequence=n), claim, b"d%d" % n, n % 7 == 0, chunks[-1:]))
    snapshots = {n: await store.load(claim.key, n) for n in range(2, 40)}
    seen = [1]
    more = True
    while more:
        # One job of it, then the process dies.
        outcome = await store._writer.run(lambda connection: removal.trim(connection, claim.key, 30))
        assert isinstance(outcome, tuple)
        more = outcome[1]
        await store.close()
        await store.open()
        run = await store.get(claim.key)
        assert run is not None
        begins = run.first_available
        seen.append(begins)
        assert await store.entries(claim.key, begins - 1, 99) == [chunk for chunk in chunks if chunk.first >= begins]
        kept = {n: found if n >= begins else None for n, found in snapshots.items()}
        assert {n: await store.load(claim.key, n) for n in snapshots} == kept
    assert seen == sorted(seen)
    assert len(set(seen)) > 10
    assert seen[-1] == 30
    # What no snapshot needs any more is gone from the disk: 28 is the full one that leads to 30.
    kept_commits = await store._writer.run(
        lambda connection: connection.execute("SELECT sequence FROM commits ORDER BY id").fetchall()
    )
    assert kept_commits == [(n,) for n in range(28, 40)]
