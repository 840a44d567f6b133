"""When to look for runs to load: nothing that asks for a look is forgotten."""

from __future__ import annotations

import asyncio

from stepwire.server.runs.hosting.loading.waking import WakeList
from stepwire.workflow.hosting import CLOCK


async def test_a_look_that_is_asked_for_while_runs_are_looked_for_is_had_afterwards() -> None:
    wakes = WakeList(CLOCK)
    wakes.begin()
    wakes.look_now()
    await asyncio.wait_for(wakes.wait(None), 5)
    wakes.look_now()  # the replicas are fewer than they were when this look began
    wakes.begin()
    await asyncio.wait_for(wakes.wait(None), 5)
    wakes.begin()
    waiting = asyncio.ensure_future(wakes.wait(None))
    await asyncio.sleep(0.05)
    assert not waiting.done(), "nobody asked for another look"
    wakes.look_now()
    await asyncio.wait_for(waiting, 5)
