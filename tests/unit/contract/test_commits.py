"""The contract of a RunStore: commits of many runs at once, and who hears of them."""

from __future__ import annotations

import asyncio

import pytest
from tests.unit.contract.support import create, first, later, record

from stepwire.server.store import (
    Chunk,
    Claim,
    Commit,
    RunExistsError,
    RunKey,
    RunStore,
    StaleClaimError,
    StoredSnapshot,
    StoreError,
    StoreUnavailableError,
)


async def test_a_failing_commit_harms_no_other(store: RunStore) -> None:
    claims = [await create(store, f"r{n}") for n in range(5)]
    await store.claim(claims[1].key)
    taken = record("r3", start_request_id="a new one")
    futures = [
        store.commit(later(record("r0"), claims[0], 1, b"d0", chunks=[Chunk(1, 1, b"0", None)])),
        store.commit(later(record("r1"), claims[1], 1, b"d1", chunks=[Chunk(1, 1, b"1", None)])),
        store.commit(first(record("r5"))),
        store.commit(first(taken)),
        store.commit(later(record("r2", info={"bad": {1, 2}}), claims[2], 1, b"d2")),
        store.commit(later(record("r4"), claims[4], 1, b"d4", chunks=[Chunk(1, 1, b"4", None)])),
    ]
    outcomes = await asyncio.gather(*futures, return_exceptions=True)
    assert [type(outcome) for outcome in outcomes] == [
        Claim,
        StaleClaimError,
        Claim,
        RunExistsError,
        StoreError,
        Claim,
    ]
    for run_id, deltas, chunks in (("r0", [b"d0"], 1), ("r1", [], 0), ("r2", [], 0), ("r4", [b"d4"], 1)):
        key = RunKey("default", run_id)
        snapshot = await store.load(key)
        assert snapshot is not None
        assert snapshot.deltas == deltas
        assert len(await store.entries(key, 0)) == chunks
    assert await store.get(RunKey("default", "r5")) == record("r5")
    assert await store.find_start("default", "a new one") is None


async def test_many_runs_commit_at_once(store: RunStore) -> None:
    async def run(number: int) -> None:
        run = record(f"r{number}")
        claim = await store.commit(first(run, delta=b"%d" % number))
        for sequence in range(1, 8):
            data = b"%d.%d" % (number, sequence)
            chunk = Chunk(sequence, sequence, data, None)
            await store.commit(later(run, claim, sequence, data, chunks=[chunk]))

    await asyncio.gather(*(run(number) for number in range(150)))
    for number in range(150):
        key = RunKey("default", f"r{number}")
        data = [b"%d.%d" % (number, sequence) for sequence in range(1, 8)]
        assert await store.load(key) == StoredSnapshot(7, 107.0, b"%d" % number, data)
        assert [chunk.public for chunk in await store.entries(key, 0)] == data


async def test_listeners_hear_of_each_commit_in_order_before_its_future(store: RunStore) -> None:
    heard: list[tuple[str, str]] = []
    store.listen(lambda commit: heard.append(("heard", commit.record.key.run_id)))
    futures = []
    for n in range(5):
        future = store.commit(first(record("r1" if n == 3 else f"r{n}")))
        futures.append(future)
        future.add_done_callback(lambda _, n=n: heard.append(("done", f"r{n}")))  # type: ignore[misc]
    commits_before = list(heard)
    await asyncio.gather(*futures, return_exceptions=True)
    assert commits_before == []
    told = [run_id for what, run_id in heard if what == "heard"]
    assert told == ["r0", "r1", "r2", "r4"]  # not the one that failed
    for run_id in told:
        assert heard.index(("heard", run_id)) < heard.index(("done", run_id))


async def test_a_listener_that_fails_harms_no_commit(store: RunStore) -> None:
    reported: list[str] = []
    asyncio.get_running_loop().set_exception_handler(lambda _, context: reported.append(context["message"]))
    heard: list[str] = []

    def fail(commit: Commit) -> None:
        raise RuntimeError("broken listener")

    store.listen(fail)
    store.listen(lambda commit: heard.append(commit.record.key.run_id))
    await create(store)
    assert heard == ["r1"]
    assert len(reported) == 1


async def test_a_commit_no_one_waits_for_is_kept(store: RunStore) -> None:
    store.commit(first(record("r1"))).cancel()
    await create(store, "r2")
    assert await store.get(RunKey("default", "r1")) is not None


async def test_closing_finishes_what_is_under_way_and_takes_no_more(store: RunStore) -> None:
    futures = [store.commit(first(record(f"r{n}"))) for n in range(20)]
    await store.close()
    assert all(future.done() and future.exception() is None for future in futures)
    with pytest.raises(StoreUnavailableError):
        await create(store, "late")
