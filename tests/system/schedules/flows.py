"""What the schedules of the kill programme start."""

from __future__ import annotations

import asyncio

from stepwire.workflow import StartEvent, StopEvent, Workflow, step


class Tick(Workflow):
    @step
    async def tick(self, ev: StartEvent) -> StopEvent:
        return StopEvent(result="tick")


class Slow(Workflow):
    @step
    async def work(self, ev: StartEvent) -> StopEvent:
        await asyncio.sleep(0.3)
        return StopEvent(result="slow")
