"""The quota of unfinished runs where other replicas start runs, too: the database counts."""

from __future__ import annotations

import asyncio
from typing import Any, cast

import pytest

from stepwire.server.principal import Principal
from stepwire.server.runs.errors import LimitError
from stepwire.server.runs.limits import RunQuota
from stepwire.server.store import Allowance, Quota, RunStore, Solo
from stepwire.server.store.cluster import Room

ANN, BOB = Principal("ann", "default"), Principal("bob", "default")


class Counting(Solo):
    """A cluster whose database has so many unfinished runs of each caller, and gives allowances of a quarter."""

    shared = True
    size = 2

    def __init__(self) -> None:
        self.runs = {"ann": 0, "bob": 0}
        self.asked = 0

    async def room_for(self, namespace: str, principal: str, most: int) -> Room:
        self.asked += 1
        await asyncio.sleep(0)
        left = most - self.runs[principal]
        return Room(left, Allowance(self.asked, left // 4) if left >= 40 else None)


class Store:
    """A store with nothing but a cluster."""

    def __init__(self, cluster: Counting) -> None:
        self.cluster = cluster


async def quota_of(cluster: Counting, limit: int) -> RunQuota:
    quota = RunQuota(limit)
    await quota.open(cast("RunStore", Store(cluster)))
    assert quota.shared
    return quota


async def start(quota: RunQuota, caller: Principal, cluster: Counting) -> Quota:
    admitted = await quota.admit(caller)
    with quota.starting(caller):
        cluster.runs[caller.name] += 1
    return admitted


async def test_far_from_the_limit_the_database_is_asked_seldom_and_near_it_each_start_is_counted() -> None:
    cluster = Counting()
    quota = await quota_of(cluster, 80)
    for _ in range(20):
        assert (await start(quota, ANN, cluster)).allowance is not None
    assert cluster.asked == 1
    cluster.runs["ann"] = 77  # others start runs
    for _ in range(3):
        assert await start(quota, ANN, cluster) == Quota(80, None)
    with pytest.raises(LimitError) as refused:
        await start(quota, ANN, cluster)
    assert refused.value.limit == "runs"
    await start(quota, BOB, cluster)
    cluster.runs["ann"] = 0
    assert (await start(quota, ANN, cluster)).allowance is not None


async def test_starts_at_once_ask_once() -> None:
    cluster = Counting()
    quota = await quota_of(cluster, 200)
    await asyncio.gather(*(start(quota, ANN, cluster) for _ in range(50)))
    assert cluster.asked == 1


async def test_an_allowance_that_was_taken_back_is_used_no_more() -> None:
    cluster = Counting()
    quota = await quota_of(cluster, 80)
    first = (await start(quota, ANN, cluster)).allowance
    assert first is not None
    first.revoked = True
    again = (await start(quota, ANN, cluster)).allowance
    assert again is not None
    assert again.id != first.id


async def test_what_is_known_of_a_caller_near_the_limit_is_forgotten_soon(monkeypatch: pytest.MonkeyPatch) -> None:
    now: list[Any] = [0.0]
    monkeypatch.setattr("stepwire.server.runs.limits.monotonic", lambda: now[0])
    cluster = Counting()
    quota = await quota_of(cluster, 30)
    await start(quota, ANN, cluster)
    cluster.runs["ann"] = 30
    now[0] = 3.0
    with pytest.raises(LimitError):
        await start(quota, ANN, cluster)
