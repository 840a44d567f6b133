"""The drain of a replica, beside loads that are under way."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from typing import Any, cast

from tests.unit.server.others import Others

from stepwire.server.runs.hosting.pool import RunPool
from stepwire.server.runs.hosting.replicas.hand_over import hand_over


class Loading:
    """A pool with no run in memory yet, and one that is being loaded: it has claimed the run."""

    def __init__(self) -> None:
        self.done_with: list[str] = []
        self.claimed = asyncio.Event()
        self.cluster = Cluster(self.done_with)
        self.loads = self

    def __iter__(self) -> Iterator[Any]:
        return iter(())

    async def done(self, timeout: float) -> None:
        async with asyncio.timeout(timeout):
            await self.claimed.wait()
        self.done_with.append("load")


class Cluster(Others):
    def __init__(self, done_with: list[str]) -> None:
        super().__init__()
        self._done_with = done_with

    async def released(self) -> None:
        self._done_with.append("release")

    async def leave(self) -> None:
        self._done_with.append("leave")


async def test_a_replica_signs_off_once_what_its_loads_have_claimed_is_free() -> None:
    pool = Loading()
    time = asyncio.get_running_loop().time
    stopping = asyncio.ensure_future(hand_over(cast(RunPool, pool), time() + 60, asyncio.Event(), lambda: True))
    await asyncio.sleep(0.05)
    assert pool.done_with == []
    pool.claimed.set()
    assert await stopping
    assert pool.done_with == ["load", "release", "leave"]


async def test_a_load_that_hangs_holds_up_no_drain() -> None:
    pool = Loading()
    time = asyncio.get_running_loop().time
    assert await hand_over(cast(RunPool, pool), time() + 60, asyncio.Event(), lambda: True)
    assert pool.done_with == ["leave"]
