"""A workflow for a server in another process whose log is trimmed all the time, one chunk in each transaction."""

from __future__ import annotations

from typing import Any

from stepwire.server.runs.hosting.retention import Retention
from stepwire.server.store.sqlite import removal
from stepwire.workflow import Context, DictState, Event, StartEvent, StopEvent, Workflow, step

removal.SWEEP_ROWS = 1
_keep = Retention.keep


async def _keep_often(self: Retention, *args: Any) -> None:
    self.interval = 0.005
    await _keep(self, *args)


Retention.keep = _keep_often  # type: ignore[method-assign, assignment]


class More(Event):
    token: str


class Note(Event):
    n: int


class Flood(Workflow):
    """Write 300 notes for each event."""

    @step
    async def begin(self, ctx: Context[DictState], ev: StartEvent) -> None:
        await ctx.store.set("big", "x" * 3000)

    @step
    async def more(self, ctx: Context[DictState], ev: More) -> StopEvent | None:
        for n in range(300):
            ctx.write_event_to_stream(Note(n=n))
        await ctx.store.set("last", ev.token)
        return None


FLOOD = Flood(timeout=None, disable_validation=True)
