"""A workflow whose first attempt hangs until the process is killed."""

from __future__ import annotations

import asyncio

from stepwire.workflow import Context, Event, StartEvent, StopEvent, Workflow, step


class Entered(Event):
    """Says that the body runs."""


class Slow(Workflow):
    """Hang in the first attempt, end in the next."""

    types = (Entered,)

    @step
    async def work(self, ctx: Context, ev: StartEvent) -> StopEvent:
        """Do so."""
        ctx.write_event_to_stream(Entered())
        if ctx.step_info().attempt == 1:
            await asyncio.Event().wait()
        return StopEvent(result="done")
