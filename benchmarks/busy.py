"""A workflow whose runs are at work for longer than anyone measures."""

from __future__ import annotations

import asyncio

from stepwire.workflow import StartEvent, StopEvent, Workflow, step


class Busy(Workflow):
    """Be at work for a day."""

    def __init__(self) -> None:
        super().__init__(timeout=None)

    @step
    async def work(self, ev: StartEvent) -> StopEvent:
        """Work."""
        await asyncio.sleep(24 * 3600)
        return StopEvent(result=None)
