"""The contract of a RunStore: answered requests and open questions."""

from __future__ import annotations

import asyncio
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from tests.unit.contract.support import Adapter, answered, create, first, later, record

from stepwire.server.store import (
    Claim,
    Commit,
    RunQuery,
    RunStore,
    StaleClaimError,
    Status,
    StoredSnapshot,
    StoreError,
)


async def test_answered_requests_come_back_oldest_first(store: RunStore) -> None:
    now = time.time()
    claim = await store.commit(first(record(), requests=[answered(1, now)]))
    other = await store.commit(first(record("r2"), requests=[answered(7, now)]))
    await store.commit(later(record(), claim, 1, b"d", requests=[answered(2, now + 0.123456), answered(3, now)]))
    assert await store.requests(claim.key) == [
        answered(1, now),
        answered(2, now + 0.123456),
        answered(3, now),
    ]
    assert await store.requests(other.key) == [answered(7, now)]


async def test_the_last_10_000_answered_requests_are_kept(store: RunStore) -> None:
    now = time.time()
    claim = await create(store)
    for start in range(0, 11_500, 500):
        batch = [answered(n, now) for n in range(start, start + 500)]
        await store.commit(later(record(), claim, 1, b"d", requests=batch))
    kept = await store.requests(claim.key)
    assert [kept[0].request_id, kept[-1].request_id, len(kept)] == ["q1500", "q11499", 10_000]


async def test_old_answered_requests_are_kept_only_among_the_last_1_000(store: RunStore) -> None:
    now = time.time()
    claim = await create(store)
    old = [answered(n, now - 25 * 3600) for n in range(1500)]
    recent = [answered(n, now - 23 * 3600) for n in range(1500, 1900)]
    await store.commit(later(record(), claim, 1, b"d", requests=[*old, *recent]))
    kept = await store.requests(claim.key)
    assert [kept[0].request_id, kept[-1].request_id, len(kept)] == ["q900", "q1899", 1000]


async def test_a_wall_clock_set_far_forward_makes_nothing_old(
    tmp_path: Path, adapter: Adapter, monkeypatch: pytest.MonkeyPatch
) -> None:
    now = time.time()
    store = adapter(tmp_path, lambda: now)  # the server's clock does not jump
    await store.open()
    claim = await store.commit(first(record(updated_at=now)))
    await store.commit(later(record(), claim, 1, b"d", requests=[answered(n, now - 60.0) for n in range(1500)]))
    monkeypatch.setattr(time, "time", lambda: now + 50 * 365 * 86_400.0)
    more = [answered(n, now) for n in range(1500, 2600)]  # so many that those no longer kept are deleted
    await store.commit(later(record(), claim, 2, b"d", requests=more))
    assert len(await store.requests(claim.key)) == 2600
    assert store.ago(60.0) == now - 60.0
    await store.close()


def question(number: int, text: str = "?") -> dict[str, Any]:
    return {"waiter_id": f"w{number}", "prompt": f'{text}\n"ö"', "requirements": {"n": number}}


async def test_open_questions_are_kept_one_by_one(store: RunStore) -> None:
    claim = await store.commit(first(record(), pending={1: question(1), 2: question(2), 3: question(3)}))
    other = await store.commit(first(record("r2"), pending={1: question(9)}))
    changes: list[dict[int, dict[str, Any] | None]] = [
        {2: None},
        {},
        {10: question(10), 4: question(4)},
        {1: question(1, "changed"), 3: None, 4: None, 11: question(11), 99: None},
        {12: question(12)},
    ]
    expected: dict[int, dict[str, Any]] = {number: question(number) for number in (1, 2, 3)}
    for sequence, change in enumerate(changes, start=1):
        expected |= {number: asked for number, asked in change.items() if asked is not None}
        expected = {number: asked for number, asked in expected.items() if change.get(number, asked) is not None}
        await store.commit(later(record(), claim, sequence, b"d", pending=change))
        listed = {found.key: found for found in await store.list(RunQuery(namespace="default"))}
        for found in (await store.get(claim.key), listed[claim.key]):
            assert found is not None
            assert found.pending == expected
            assert list(found.pending) == sorted(expected)
    assert sorted(expected) == [1, 10, 11, 12]
    kept = await store.get(other.key)
    assert kept is not None
    assert kept.pending == {1: question(9)}


async def test_open_questions_of_many_commits_at_once(store: RunStore) -> None:
    claims = [await store.commit(first(record(f"r{n}"), pending={n: question(n)})) for n in range(100)]
    futures = []
    for n, claim in enumerate(claims):
        change = {n: None, 1000: question(1000), 1001: question(1001)} if n % 2 else {n + 1: question(n + 1)}
        futures.append(store.commit(later(record(f"r{n}"), claim, 1, b"d", pending=change)))
    await asyncio.gather(*futures)
    for n, claim in enumerate(claims):
        found = await store.get(claim.key)
        assert found is not None
        assert list(found.pending) == ([1000, 1001] if n % 2 else [n, n + 1])


async def test_open_questions_of_a_stale_commit_change_nothing(store: RunStore) -> None:
    old = await store.commit(first(record(), pending={1: question(1)}))
    await store.claim(old.key)
    with pytest.raises(StaleClaimError):
        await store.commit(later(record(), old, 1, b"d", pending={1: None, 2: question(2), 3: question(3)}))
    found = await store.get(old.key)
    assert found is not None
    assert found.pending == {1: question(1)}


async def test_a_run_that_has_ended_has_no_open_questions(store: RunStore) -> None:
    claim = await store.commit(first(record(), pending={1: question(1), 2: question(2)}))
    ended = replace(record(), status=Status.CANCELLED, ended_at=5.0, wake_at=None)
    await store.commit(Commit(ended, claim, b"d", full=False, pending={3: question(3), 1: None}))
    found = await store.get(claim.key)
    assert found is not None
    assert found.pending == {}
    assert await store.delete(claim.key)
    await create(store)
    found = await store.get(claim.key)
    assert found is not None
    assert found.pending == {}


async def test_a_question_that_json_cannot_hold_is_refused(store: RunStore) -> None:
    claim = await create(store)
    other = await create(store, "r2")
    futures = [
        store.commit(later(record(), claim, 1, b"d", pending={1: {"bad": {1, 2}}})),
        store.commit(later(record("r2"), other, 1, b"d", pending={1: question(1)})),
    ]
    outcomes = await asyncio.gather(*futures, return_exceptions=True)
    assert [type(outcome) for outcome in outcomes] == [StoreError, Claim]
    assert await store.load(claim.key) == StoredSnapshot(0, 100.0, b"full", [])
