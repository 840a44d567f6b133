"""The watch of the clock on the wall."""

from __future__ import annotations

import asyncio
import time

from stepwire.server.runs.errors import StoreDownError
from stepwire.server.runs.scheduling.wall_clock import Wall
from stepwire.workflow.hosting import Clock


async def test_a_watch_goes_on_when_the_store_is_down_and_tells_again() -> None:
    ahead = 0.0
    told: list[float] = []
    again = asyncio.Event()

    async def changed() -> None:
        told.append(ahead)
        if len(told) == 1:
            raise StoreDownError("The store is down")
        again.set()

    wall = Wall(Clock(), shared=False, now=lambda: time.time() + ahead)
    watching = asyncio.create_task(wall.watch(changed, 0.01))
    await asyncio.sleep(0)
    ahead = 60.0
    async with asyncio.timeout(60):
        await again.wait()
    await asyncio.sleep(0.1)
    assert told == [60.0, 60.0]
    assert not watching.done()
    watching.cancel()
