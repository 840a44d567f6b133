"""The contract of a RunStore: records, first commits, claims."""

from __future__ import annotations

import asyncio
from dataclasses import replace

import pytest
from tests.unit.contract.support import SERVED, create, first, later, record

from stepwire.server.store import (
    Chunk,
    Claim,
    Commit,
    CommitTooLargeError,
    RunExistsError,
    RunKey,
    RunQuery,
    RunStore,
    StaleClaimError,
    StartRequestExistsError,
    Status,
    StoredSnapshot,
    StoreError,
)
from stepwire.server.store.limits import MAX_COMMIT_BYTES


async def test_a_record_comes_back_whole_and_apart(store: RunStore) -> None:
    run = record(
        ended_at=None,
        wake_at=12.5,
        last_sequence=3,
        first_available=2,
        labels={"team": "blue", 'odd "key"': "é"},
        start_request_id="req",
        start_digest="abc",
        info={"origin": {"list": [1, 2.5, None, "x"]}},
    )
    expected = replace(run, labels=dict(run.labels), info={"origin": {"list": [1, 2.5, None, "x"]}})
    future = store.commit(first(run))
    run.info["origin"]["list"].append("changed after the commit was given")
    run.labels["team"] = "red"
    await future
    assert await store.get(run.key) == expected
    got = await store.get(run.key)
    assert got is not None
    got.info.clear()
    assert await store.get(run.key) == expected


async def test_what_is_not_there(store: RunStore) -> None:
    key = RunKey("default", "none")
    assert await store.get(key) is None
    assert list(await store.terms_of(key, "parent")) == []
    assert await store.claim(key) is None
    assert await store.find_start("default", "none") is None
    assert await store.find_start("default", "") is None
    assert await store.load(key) is None
    assert await store.load(key, 1) is None
    assert await store.entries(key, 0) == []
    assert await store.requests(key) == []
    assert await store.snapshots(key, None, 10) == []
    assert await store.list(RunQuery(namespace="default")) == []
    assert await store.due(1e12, 10, workflows=SERVED) == []
    assert await store.next_wake(0.0, workflows=SERVED) is None
    assert await store.counts() == {}
    assert await store.delete(key) is False
    assert await store.prune() == 0
    assert await store.thin_snapshots(key) == 0


async def test_a_later_commit_replaces_the_record_but_not_how_it_and_its_log_began(store: RunStore) -> None:
    began = record(start_request_id="req", start_digest="abc", labels={"a": "1"})
    claim = await store.commit(first(began))
    changed = record(
        workflow="other",
        status=Status.COMPLETED,
        created_at=1.0,
        updated_at=200.0,
        ended_at=200.0,
        wake_at=None,
        last_sequence=9,
        first_available=4,
        labels={"b": "2"},
        start_request_id="other",
        start_digest="other",
        info={"outcome": 1},
    )
    assert await store.commit(Commit(changed, claim, b"d", full=False)) == claim
    assert await store.get(began.key) == replace(
        changed,
        workflow="orders",
        created_at=100.0,
        start_request_id="req",
        start_digest="abc",
        first_available=1,
    )


async def test_a_record_that_json_cannot_hold_is_refused(store: RunStore) -> None:
    with pytest.raises(StoreError, match="r1") as caught:
        await store.commit(first(record(info={"secret": object()})))
    assert "secret" not in str(caught.value)
    assert await store.get(RunKey("default", "r1")) is None


async def test_a_taken_run_id_is_refused(store: RunStore) -> None:
    await create(store)
    with pytest.raises(RunExistsError):
        await create(store)
    await create(store, namespace="other")


async def test_a_used_start_request_is_refused_with_the_run_it_started(store: RunStore) -> None:
    started = record("r1", start_request_id="req")
    await store.commit(first(started))
    for run_id in ("r2", "r1"):  # also when the run_id conflicts: the same StartRun again
        with pytest.raises(StartRequestExistsError) as caught:
            await create(store, run_id, start_request_id="req")
        assert caught.value.record == started
    assert await store.find_start("default", "req") == started
    assert await store.find_start("other", "req") is None
    await create(store, "r1", namespace="other", start_request_id="req")
    await create(store, "r3")
    await create(store, "r4")  # none is not a request_id that could conflict


async def test_of_the_same_starts_at_once_one_wins(store: RunStore) -> None:
    futures = [store.commit(first(record(f"r{n}", start_request_id="req"))) for n in range(5)]
    outcomes = await asyncio.gather(*futures, return_exceptions=True)
    assert isinstance(outcomes[0], Claim)
    for outcome in outcomes[1:]:
        assert isinstance(outcome, StartRequestExistsError)
        assert outcome.record.key.run_id == "r0"
    assert len(await store.list(RunQuery(namespace="default"))) == 1


async def test_a_later_claim_fences_off_the_earlier(store: RunStore) -> None:
    old = await create(store)
    new = await store.claim(old.key)
    assert new is not None
    assert new.token > old.token
    with pytest.raises(StaleClaimError):
        await store.commit(later(record(), old, 1, b"stale", chunks=[Chunk(1, 1, b"x", None)]))
    assert await store.entries(old.key, 0) == []
    assert await store.commit(later(record(), new, 1, b"d")) == new
    snapshot = await store.load(old.key)
    assert snapshot == StoredSnapshot(1, 101.0, b"full", [b"d"])


async def test_a_stale_commit_is_told_so_also_when_the_log_went_on_without_it(store: RunStore) -> None:
    old = await create(store)
    new = await store.claim(old.key)
    assert new is not None
    await store.commit(later(record(), new, 1, b"d", chunks=[Chunk(1, 1, b"new", None)]))
    with pytest.raises(StaleClaimError):
        await store.commit(later(record(), old, 1, b"stale", chunks=[Chunk(1, 1, b"old", None)]))
    assert await store.entries(old.key, 0) == [Chunk(1, 1, b"new", None)]


async def test_a_claim_of_a_deleted_run_never_fits_another(store: RunStore) -> None:
    old = await create(store)
    assert await store.delete(old.key)
    with pytest.raises(StaleClaimError):
        await store.commit(later(record(), old, 1, b"d"))
    await create(store)
    with pytest.raises(StaleClaimError):
        await store.commit(later(record(), old, 1, b"d"))


async def test_a_commit_that_is_too_large_for_every_store_is_refused(
    store: RunStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert MAX_COMMIT_BYTES < 1_000_000_000  # what SQLite and PostgreSQL can hold
    monkeypatch.setattr("stepwire.server.store.encoding.MAX_COMMIT_BYTES", 1000)
    claim = await create(store)
    for fields in (
        {"chunks": [Chunk(1, 1, bytes(600), bytes(600))]},
        {"pending": {1: {"prompt": "x" * 1000}}},
    ):
        with pytest.raises(CommitTooLargeError, match=r"run r1 has 1\d+ bytes"):
            await store.commit(later(record(), claim, 1, b"d", **fields))
    with pytest.raises(CommitTooLargeError):
        await store.commit(later(record(), claim, 1, bytes(1001)))
    with pytest.raises(CommitTooLargeError):  # a result is in the record
        await store.commit(first(record("r2", info={"outcome": {"result": "x" * 1000}})))
    assert await store.get(RunKey("default", "r2")) is None
    await store.commit(later(record(), claim, 1, bytes(300)))
