"""The contract of a RunStore: snapshots, the log, and what trimming leaves of both."""

from __future__ import annotations

from dataclasses import replace

import pytest
from tests.unit.contract.support import commit_chain, create, first, later, loadable, record

from stepwire.server.store import (
    Chunk,
    Claim,
    RunKey,
    RunStore,
    SnapshotInfo,
    StoredSnapshot,
)


async def test_load_folds_from_the_last_full_commit(store: RunStore) -> None:
    key = await commit_chain(store, (0, b"A"), (1, b"b"), (3, b"C"), (4, b"d"), (4, b"e"), (6, b"f"))
    assert await store.load(key) == StoredSnapshot(6, 106.0, b"C", [b"d", b"e", b"f"])
    assert await store.load(key, 6) == StoredSnapshot(6, 106.0, b"C", [b"d", b"e", b"f"])
    assert await store.load(key, 4) == StoredSnapshot(4, 104.0, b"C", [b"d"])
    assert await store.load(key, 3) == StoredSnapshot(3, 103.0, b"C", [])
    assert await store.load(key, 1) == StoredSnapshot(1, 101.0, b"A", [b"b"])
    assert await store.load(key, 0) == StoredSnapshot(0, 100.0, b"A", [])
    for sequence in (2, 5, 7):
        assert await store.load(key, sequence) is None


async def test_load_of_a_sequence_with_a_full_commit_between(store: RunStore) -> None:
    key = await commit_chain(store, (1, b"A"), (2, b"b"), (2, b"C"), (2, b"d"), (3, b"E"))
    assert await store.load(key, 2) == StoredSnapshot(2, 102.0, b"A", [b"b"])


async def test_the_snapshot_at_a_sequence_never_changes(store: RunStore) -> None:
    claim = await store.commit(first(replace(record(), last_sequence=1), delta=b"A"))
    for sequence, delta in ((1, b"b"), (2, b"c"), (2, b"D"), (2, b"e"), (3, b"f"), (3, b"g"), (3, b"H")):
        before = await loadable(store, claim.key)
        infos = await store.snapshots(claim.key, None, 9)
        await store.commit(later(record(), claim, sequence, delta, full=delta.isupper()))
        after = await loadable(store, claim.key)
        assert before == {sequence: after[sequence] for sequence in before}
        assert set(infos) <= set(await store.snapshots(claim.key, None, 9))
    assert await store.load(claim.key) == StoredSnapshot(3, 103.0, b"H", [])
    assert await store.load(claim.key, 3) == StoredSnapshot(3, 103.0, b"D", [b"e", b"f"])
    before = await loadable(store, claim.key)
    await store.thin_snapshots(claim.key)
    assert (await loadable(store, claim.key)) == {sequence: before[sequence] for sequence in (1, 3)}


async def test_snapshots_lists_the_first_of_each_sequence(store: RunStore) -> None:
    key = await commit_chain(store, (0, b"A"), (1, b"bb"), (4, b"cc"), (4, b"ddd"), (6, b"E"))
    infos = [
        SnapshotInfo(6, 106.0, 1),
        SnapshotInfo(4, 104.0, 2),
        SnapshotInfo(1, 101.0, 2),
        SnapshotInfo(0, 100.0, 1),
    ]
    assert await store.snapshots(key, None, 10) == infos
    assert await store.snapshots(key, None, 2) == infos[:2]
    assert await store.snapshots(key, 4, 10) == infos[2:]
    assert await store.snapshots(key, 5, 1) == [infos[1]]
    assert await store.snapshots(key, 0, 10) == []


async def test_entries_begin_with_the_chunk_that_holds_the_next(store: RunStore) -> None:
    chunks = [
        Chunk(1, 1, b"1", None),
        Chunk(2, 5, b"2-5", b"internal"),
        Chunk(6, 6, None, b"6"),
        Chunk(7, 9, b"", b"7-9"),
    ]
    claim = await store.commit(first(record(), chunks=chunks[:2]))
    await store.commit(later(record(), claim, 9, b"d", chunks=chunks[2:]))
    key = claim.key
    assert await store.entries(key, 0) == chunks
    assert await store.entries(key, 1) == chunks[1:]
    assert await store.entries(key, 3) == chunks[1:]  # from the middle of a chunk
    assert await store.entries(key, 4, limit=2) == chunks[1:3]
    assert await store.entries(key, 5) == chunks[2:]
    assert await store.entries(key, 8) == chunks[3:]
    assert await store.entries(key, 9) == []
    assert await store.entries(key, 99) == []
    assert len(await store.entries(key, 0, limit=1)) == 1


async def test_a_log_that_begins_later(store: RunStore) -> None:
    chunks = [Chunk(11, 12, b"a", None), Chunk(13, 13, b"b", None)]
    claim = await store.commit(first(record(first_available=11), chunks=chunks))
    assert await store.entries(claim.key, 0) == chunks
    assert await store.entries(claim.key, 12) == chunks[1:]


async def long_run(store: RunStore, run_id: str = "r1", *, chunks: int = 10, fulls: tuple[int, ...] = (4, 9)) -> Claim:
    """Make a run with a chunk of three entries in each commit, and a commit without entries after each."""
    claim = await store.commit(first(record(run_id, last_sequence=3), chunks=[Chunk(1, 3, b"1", None)]))
    for n in range(1, chunks):
        last = 3 * n + 3
        chunk = Chunk(last - 2, last, b"%d" % last, b"i")
        await store.commit(later(record(run_id), claim, last, b"d%d" % last, full=n in fulls, chunks=[chunk]))
        await store.commit(later(record(run_id), claim, last, b"s%d" % last))
    return claim


async def everything(store: RunStore, key: RunKey, last: int = 30) -> dict[int, StoredSnapshot | None]:
    return {sequence: await store.load(key, sequence) for sequence in range(last + 1)}


@pytest.mark.parametrize(
    ("sequence", "begins"),
    [(-5, 1), (1, 1), (3, 1), (4, 4), (6, 4), (7, 7), (14, 13), (16, 16), (28, 28), (30, 28), (31, 28), (999, 28)],
)
async def test_trim_drops_whole_chunks_and_the_snapshots_at_them(store: RunStore, sequence: int, begins: int) -> None:
    key = (await long_run(store)).key
    whole, before = await store.get(key), await everything(store, key)
    chunks, latest = await store.entries(key, 0), await store.load(key)
    listed = await store.snapshots(key, None, 50)
    assert whole is not None
    assert await store.trim(key, sequence) == begins
    assert await store.get(key) == replace(whole, first_available=begins)
    kept = [chunk for chunk in chunks if chunk.first >= begins]
    assert await store.entries(key, begins - 1) == kept
    assert await store.entries(key, 0) == kept
    assert await store.load(key) == latest
    assert await everything(store, key) == {n: found if n >= begins else None for n, found in before.items()}
    assert await store.snapshots(key, None, 50) == [info for info in listed if info.sequence >= begins]
    assert await store.trim(key, sequence) == begins


async def test_a_trimmed_run_goes_on_and_what_it_commits_says_nothing_of_where_its_log_begins(store: RunStore) -> None:
    claim = await long_run(store)
    assert await store.trim(claim.key, 20) == 19
    await store.commit(later(record(), claim, 31, b"d31", chunks=[Chunk(31, 31, b"31", None)]))
    found = await store.get(claim.key)
    assert found is not None
    assert (found.first_available, found.last_sequence) == (19, 31)
    snapshot = await store.load(claim.key)
    assert snapshot is not None
    assert (snapshot.full, snapshot.deltas[-1]) == (b"d30", b"d31")
    assert [chunk.first for chunk in await store.entries(claim.key, 18)] == [19, 22, 25, 28, 31]
    assert await store.trim(claim.key, 20) == 19
    assert await store.trim(claim.key, 31) == 31
    assert await store.claim(claim.key) is not None


async def test_trim_of_a_run_is_of_no_other(store: RunStore) -> None:
    one, other = (await long_run(store, "one")).key, (await long_run(store, "other")).key
    before = await store.get(other), await store.entries(other, 0), await everything(store, other)
    assert await store.trim(one, 30) == 28
    assert (await store.get(other), await store.entries(other, 0), await everything(store, other)) == before
    assert await store.trim(RunKey("default", "none"), 5) is None


async def test_a_fork_s_first_snapshot_goes_when_its_log_is_trimmed(store: RunStore) -> None:
    claim = await store.commit(first(record()))
    chunks = [Chunk(1, 2, b"a", None), Chunk(3, 4, b"b", None)]
    await store.commit(later(record(), claim, 4, b"d", chunks=chunks))
    assert await store.load(claim.key, 0) is not None
    assert await store.trim(claim.key, 3) == 3
    assert await store.load(claim.key, 0) is None
    assert await store.load(claim.key, 4) == await store.load(claim.key) == StoredSnapshot(4, 104.0, b"full", [b"d"])
    assert [info.sequence for info in await store.snapshots(claim.key, None, 9)] == [4]


async def test_long_logs_are_found_in_pages(store: RunStore) -> None:
    lengths = {"a": 999, "b": 1000, "c": 1001, "d": 1500, "e": 5000}
    for run_id, last in lengths.items():
        await create(store, run_id, last_sequence=last)
    await create(store, "later", first_available=4500, last_sequence=5000)
    await create(store, "of another", workflow="other", last_sequence=5000)

    async def pages(entries: int) -> list[tuple[str, int, int]]:
        found: list[tuple[str, int, int]] = []
        after = 0
        while page := await store.long_logs("orders", entries, 2, after=after):
            found += [(run.key.run_id, run.first_available, run.last_sequence) for run in page]
            after = page[-1].handle
        return found

    assert await pages(10) == [("c", 1, 1001), ("d", 1, 1500), ("e", 1, 5000)]
    assert await pages(1500) == [("e", 1, 5000)]
    assert await pages(5000) == []
