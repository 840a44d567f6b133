"""The contract of a RunStore: deletion, retention and thinned snapshots."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pytest
from tests.unit.contract.support import Adapter, answered, commit_chain, create, first, ids, later, loadable, record

from stepwire.server.store import (
    Chunk,
    Commit,
    PrunedStart,
    RunKey,
    RunStore,
    StartRequestExistsError,
    Status,
    StoredSnapshot,
)
from stepwire.server.store.terms import CLOSE, TELL


async def test_delete_leaves_nothing(store: RunStore) -> None:
    run = record(start_request_id="req", wake_at=1.0)
    chunks = [Chunk(1, 1, b"x", None)]
    await store.commit(first(run, chunks=chunks, requests=[answered(1, time.time())]))
    await create(store, "other")
    assert await store.delete(run.key) is True
    assert await store.delete(run.key) is False
    assert await store.get(run.key) is None
    assert await store.find_start("default", "req") is None
    assert await store.claim(run.key) is None
    assert await ids(store) == ["other"]
    await store.commit(first(run, delta=b"new"))  # both ids are free again
    assert await store.load(run.key) == StoredSnapshot(0, 100.0, b"new", [])
    assert await store.entries(run.key, 0) == []
    assert await store.requests(run.key) == []


async def test_delete_and_prune_tell_before_and_after(store: RunStore) -> None:
    told: list[tuple[str, list[str]]] = []

    def listener(what: str) -> Callable[[Sequence[RunKey]], None]:
        return lambda keys: told.append((what, sorted(key.run_id for key in keys)))

    store.on_delete(listener("going"), listener("gone"))
    await create(store, "r1", status=Status.COMPLETED, ended_at=1.0)
    for n in range(3):
        await create(store, f"p{n}", status=Status.COMPLETED, ended_at=2.0)
    await store.delete(RunKey("default", "r1"))
    assert told == [("going", ["r1"]), ("gone", ["r1"])]
    told.clear()
    assert await store.prune() == 3
    assert told == [("going", ["p0", "p1", "p2"]), ("gone", ["p0", "p1", "p2"])]


async def test_nothing_is_found_of_a_run_from_its_deletion_on(store: RunStore) -> None:
    for deleting in ("delete", "prune"):
        chunks = [Chunk(1, 1, b"x", None)]
        run = record(deleting, status=Status.COMPLETED, ended_at=1.0, labels={"a": "b"}, last_sequence=1)
        await store.commit(first(run, chunks=chunks, requests=[answered(1, time.time())]))
        await (store.delete(run.key) if deleting == "delete" else store.prune())
        assert await store.get(run.key) is None
        assert await store.load(run.key) is None
        assert await store.load(run.key, 1) is None
        assert await store.entries(run.key, 0) == []
        assert await store.requests(run.key) == []
        assert await store.snapshots(run.key, None, 10) == []
        assert await store.claim(run.key) is None
        assert await ids(store, labels={"a": "b"}) == []
        assert await store.ended((0.0, 0), 10) == []
        assert await store.counts() == {}


async def test_the_request_id_of_a_pruned_run_holds_for_a_day(tmp_path: Path, adapter: Adapter) -> None:
    now = 1_000_000.0
    store = adapter(tmp_path, lambda: now)
    await store.open()
    for run_id, created_at in (("old", now - 90_000.0), ("new", now - 10.0), ("deleted", now - 10.0)):
        times = {"created_at": created_at, "updated_at": created_at, "ended_at": now}
        started = record(run_id, status=Status.COMPLETED, start_request_id=run_id, start_digest="abc", **times)
        await store.commit(first(started))
    await store.delete(RunKey("default", "deleted"))  # deleting it frees the request_id
    assert await store.prune() == 2
    kept = PrunedStart(RunKey("default", "new"), "abc", now - 10.0)
    assert await store.find_start("default", "new") == kept
    assert await store.find_start("other", "new") is None
    assert await store.find_start("default", "old") is None
    assert await store.find_start("default", "deleted") is None
    with pytest.raises(StartRequestExistsError) as caught:
        await store.commit(first(record("r2", start_request_id="new")))
    assert caught.value.record == kept
    assert await store.get(RunKey("default", "r2")) is None
    await store.commit(first(record("new", created_at=now)))  # the run_id is free
    now += 86_400.0
    await store.commit(first(record("last", status=Status.COMPLETED, ended_at=now)))
    await store.prune()
    assert await store.find_start("default", "new") is None
    await store.commit(first(record("r3", start_request_id="new")))
    await store.close()


async def create_ended(store: RunStore) -> None:
    """Make a1…a4 and b1, b2, ended at 1…4 and 1, 2, and one that runs."""
    for workflow, count in (("a", 4), ("b", 2)):
        for n in range(1, count + 1):
            await create(
                store,
                f"{workflow}{n}",
                workflow=workflow,
                status=Status.COMPLETED,
                created_at=float(n),
                ended_at=float(n),
                wake_at=None,
            )
    await create(store, "running", created_at=0.0)


@pytest.mark.parametrize(
    ("conditions", "gone"),
    [
        ({}, "a1 a2 a3 a4 b1 b2"),
        ({"workflow": "a"}, "a1 a2 a3 a4"),
        ({"workflow": "orders"}, ""),
        ({"ended_before": 3.0}, "a1 a2 b1 b2"),
        ({"workflow": "b", "ended_before": 2.0}, "b1"),
        ({"keep_last": 1}, "a1 a2 a3 b1"),
        ({"keep_last": 0}, "a1 a2 a3 a4 b1 b2"),
        ({"keep_last": 2, "workflow": "a"}, "a1 a2"),
        ({"keep_last": 1, "ended_before": 2.0}, "a1 b1"),
        ({"limit": 3}, "a1 b1 a2"),
        ({"keep_last": 1, "limit": 1}, "a1"),
    ],
)
async def test_prune(store: RunStore, conditions: dict[str, Any], gone: str) -> None:
    await create_ended(store)
    everything = {"a1", "a2", "a3", "a4", "b1", "b2", "running"}
    assert await store.prune(**conditions) == len(gone.split())
    assert set(await ids(store)) == everything - set(gone.split())


@pytest.mark.parametrize("conditions", [{}, {"keep_last": 0}, {"ended_before": 9.0, "workflow": "orders"}])
async def test_prune_keeps_runs_of_which_something_is_to_be_done(store: RunStore, conditions: dict[str, Any]) -> None:
    claims = [
        await create(store, f"r{number}", status=Status.FAILED, ended_at=float(number), terms=("by=a", each))
        for number, each in enumerate((TELL, "parent=other", CLOSE, "undone=", "error=undone=tell"))
    ]
    assert await store.prune(limit=2, **conditions) == 2
    assert await store.prune(**conditions) == 1
    assert sorted(await ids(store)) == ["r0", "r2"]
    told = record("r0", status=Status.FAILED, ended_at=0.0, terms=("by=a",))
    await store.commit(Commit(told, claims[0], b"", False))
    assert await store.prune(**conditions) == 1
    assert sorted(await ids(store)) == ["r2"]


async def test_prune_of_more_than_one_batch(store: RunStore) -> None:
    for n in range(120):
        await create(store, f"r{n}", status=Status.FAILED, ended_at=float(n))
    assert await store.prune(keep_last=5) == 115
    assert sorted(await ids(store)) == ["r115", "r116", "r117", "r118", "r119"]


CHAIN = ((0, b"A"), (1, b"b"), (2, b"c"), (3, b"D"), (3, b"e"), (4, b"f"), (5, b"g"), (6, b"h"))


@pytest.mark.parametrize(
    ("chain", "keep", "dropped", "kept"),
    [
        (CHAIN, None, 2, [0, 3, 4, 5, 6]),
        (CHAIN, [1], 1, [0, 1, 3, 4, 5, 6]),
        (CHAIN, [2, 99], 0, [0, 1, 2, 3, 4, 5, 6]),
        ((*CHAIN, (7, b"I")), None, 6, [0, 3, 7]),
        ((*CHAIN, (7, b"I")), [5], 3, [0, 3, 4, 5, 7]),
        # The first of sequence 2 is what its snapshot is: it does not change into another one.
        (((1, b"A"), (2, b"b"), (2, b"C"), (2, b"d"), (3, b"e"), (4, b"F")), None, 4, [1, 4]),
        (((1, b"A"), (2, b"b"), (2, b"C"), (2, b"d"), (3, b"e"), (4, b"F")), [2], 3, [1, 2, 4]),
    ],
)
async def test_thinned_snapshots_load_as_before_or_not_at_all(
    store: RunStore,
    chain: tuple[tuple[int, bytes], ...],
    keep: list[int] | None,
    dropped: int,
    kept: list[int],
) -> None:
    key = await commit_chain(store, *chain)
    before = await loadable(store, key)
    latest = await store.load(key)
    assert await store.thin_snapshots(key, keep) == dropped
    assert await store.load(key) == latest
    assert await loadable(store, key) == {sequence: before[sequence] for sequence in kept}
    listed = [info.sequence for info in await store.snapshots(key, None, 20)]
    assert listed == sorted(kept, reverse=True)
    assert await store.thin_snapshots(key, keep) == 0


async def test_a_thinned_run_can_go_on(store: RunStore) -> None:
    key = await commit_chain(store, *CHAIN)
    await store.thin_snapshots(key)
    claim = await store.claim(key)
    assert claim is not None
    await store.commit(later(record(), claim, 7, b"i"))
    assert await store.load(key) == StoredSnapshot(7, 107.0, b"D", [b"e", b"f", b"g", b"h", b"i"])
