"""How many unfinished runs a caller may have over all replicas, held against stores in one process."""

from __future__ import annotations

import asyncio
from collections import Counter
from dataclasses import replace

import pytest
from tests.unit.contract.support import create, first, later, record
from tests.unit.contract.test_replicas import join

from stepwire.server.store import (
    Allowance,
    Claim,
    Commit,
    Quota,
    QuotaExceededError,
    RunExistsError,
    StartRequestExistsError,
    Status,
)
from stepwire.server.store.cluster import Room

__all__ = ["join"]


async def test_unfinished_runs_of_a_caller_are_counted_over_all_replicas(join) -> None:
    one, other = await join("one:1"), await join("other:1")
    for number in range(4):
        await create((one, other)[number % 2], f"r{number}", info={"principal": "ann"})
    await create(one, "b", info={"principal": "bob"})
    for caller, most, left in [("ann", 10, 6), ("ann", 3, 0), ("bob", 10, 9)]:
        assert await other.cluster.room_for("default", caller, most) == Room(left, None)
    assert await other.cluster.room_for("else", "ann", 10) == Room(10, None)


def started(run_id: str, most: int, allowance: Allowance | None = None) -> Commit:
    return replace(first(record(run_id, info={"principal": "ann"})), quota=Quota(most, allowance))


async def test_a_burst_of_starts_at_several_replicas_never_exceeds_a_quota(join) -> None:
    stores = [await join("one:1"), await join("other:1"), await join("third:1")]
    commits = [stores[n % 3].commit(started(f"r{n}", 30)) for n in range(90)]
    done = await asyncio.gather(*commits, return_exceptions=True)
    assert Counter(map(type, done)) == {Claim: 30, QuotaExceededError: 60}
    assert await stores[0].cluster.room_for("default", "ann", 30) == Room(0, None)
    await stores[1].commit(replace(started("free", 30), quota=None))
    claim = next(claim for claim in done if isinstance(claim, Claim))
    ended = replace(record(claim.key.run_id, info={"principal": "ann"}), status=Status.COMPLETED, ended_at=101.0)
    await stores[next(n % 3 for n, each in enumerate(done) if each is claim)].commit(later(ended, claim, 1, b"end"))
    with pytest.raises(QuotaExceededError):
        await stores[2].commit(started("again", 30))


async def test_a_start_that_comes_again_beyond_the_quota_is_told_so(join) -> None:
    one = await join("one:1")
    await one.commit(replace(first(record("a", start_request_id="q", info={"principal": "ann"})), quota=Quota(1, None)))
    again = replace(first(record("b", start_request_id="q", info={"principal": "ann"})), quota=Quota(1, None))
    with pytest.raises(StartRequestExistsError):
        await one.commit(again)
    with pytest.raises(RunExistsError):
        await one.commit(started("a", 1))


async def test_allowances_are_taken_back_where_too_little_room_is_left_beside_them(join, postgres) -> None:
    one, other = await join("one:1"), await join("other:1")
    told = await one.cluster.room_for("default", "ann", 200)
    assert (told.left, told.allowance.runs) == (200, 50)
    await one.commit(started("a", 200, told.allowance))
    assert not told.allowance.revoked
    # The other replica finds 149 runs left beside the allowance, and takes a quarter of them.
    assert (await other.cluster.room_for("default", "ann", 200)).allowance.runs == 37
    commits = [other.commit(started(f"r{n}", 200)) for n in range(199)]
    done = await asyncio.gather(*commits, return_exceptions=True)
    assert Counter(map(type, done)) == {Claim: 199}, "what an allowance holds back is there for others"
    assert postgres.sql("SELECT count(*) FROM allowances") == "0"
    with pytest.raises(QuotaExceededError):
        await one.commit(started("b", 200, told.allowance))
    assert told.allowance.revoked


async def test_a_start_goes_on_when_its_allowance_was_taken_back(join, postgres) -> None:
    one = await join("one:1")
    allowance = (await one.cluster.room_for("default", "ann", 200)).allowance
    postgres.sql("DELETE FROM allowances")
    await one.commit(started("a", 200, allowance))
    assert allowance.revoked


async def test_allowances_and_counts_of_bursts_hold_a_quota_together(join) -> None:
    stores = [await join("one:1"), await join("other:1"), await join("third:1")]
    told: list[object] = []

    async def starts(number: int) -> None:
        store = stores[number]
        for batch in range(8):
            room = await store.cluster.room_for("default", "ann", 300)
            runs = 40 if room.allowance is None else min(40, room.allowance.runs)
            names = [f"r{number}-{batch}-{n}" for n in range(runs)]
            commits = [store.commit(started(name, 300, room.allowance)) for name in names]
            told.extend(await asyncio.gather(*commits, return_exceptions=True))

    await asyncio.gather(*map(starts, range(3)))
    assert Counter(map(type, told))[Claim] == 300
    assert {type(each) for each in told} == {Claim, QuotaExceededError}
