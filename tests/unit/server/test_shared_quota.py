"""The quota of unfinished runs where other replicas start runs, too: the database counts."""

from __future__ import annotations

from typing import Any, cast

import pytest

from stepwire.server.principal import Principal
from stepwire.server.runs.errors import LimitError
from stepwire.server.runs.limits import RunQuota
from stepwire.server.store import RunStore, Solo

ANN, BOB = Principal("ann", "default"), Principal("bob", "default")


class Counting(Solo):
    """A cluster whose database has so many unfinished runs of each caller."""

    shared = True
    size = 2

    def __init__(self) -> None:
        self.runs = {"ann": 0, "bob": 0}
        self.asked = 0

    async def count_unfinished(self, namespace: str, principal: str, most: int) -> int:
        self.asked += 1
        return min(most, self.runs[principal])


class Store:
    """A store with nothing but a cluster."""

    def __init__(self, cluster: Counting) -> None:
        self.cluster = cluster


async def quota_of(cluster: Counting, limit: int) -> RunQuota:
    quota = RunQuota(limit)
    await quota.open(cast("RunStore", Store(cluster)))
    assert quota.shared
    return quota


async def start(quota: RunQuota, caller: Principal, cluster: Counting) -> None:
    await quota.count(caller)
    with quota.starting(caller):
        cluster.runs[caller.name] += 1


async def test_far_from_the_limit_the_database_is_asked_seldom_and_near_it_each_time() -> None:
    cluster = Counting()
    quota = await quota_of(cluster, 80)
    for _ in range(10):
        await start(quota, ANN, cluster)
    assert cluster.asked == 1
    cluster.runs["ann"] = 77  # others start runs
    for _ in range(3):
        await start(quota, ANN, cluster)
    with pytest.raises(LimitError) as refused:
        await start(quota, ANN, cluster)
    assert refused.value.limit == "runs"
    assert cluster.runs["ann"] == 80
    await start(quota, BOB, cluster)
    cluster.runs["ann"] = 0
    await start(quota, ANN, cluster)


async def test_what_may_be_started_without_a_count_is_forgotten_soon(monkeypatch: pytest.MonkeyPatch) -> None:
    now: list[Any] = [0.0]
    monkeypatch.setattr("stepwire.server.runs.limits.monotonic", lambda: now[0])
    cluster = Counting()
    quota = await quota_of(cluster, 80)
    await start(quota, ANN, cluster)
    cluster.runs["ann"] = 80
    now[0] = 3.0
    with pytest.raises(LimitError):
        await start(quota, ANN, cluster)
