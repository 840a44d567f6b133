"""Events and workflows for the tests of deliveries."""

from __future__ import annotations

import asyncio
from typing import Any

from stepwire.workflow import (
    Context,
    Event,
    InputRequiredEvent,
    StartEvent,
    StopEvent,
    Workflow,
    step,
)


class Work(Event):
    n: int = 0


class Done(Event):
    n: int = 0


class Question(InputRequiredEvent):
    text: str = ""


class SubWork(Work):
    pass


class Twins(Workflow):
    """Send two equal events; each body waits for its own gate."""

    def __init__(self, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.gates = [asyncio.Event(), asyncio.Event()]
        self.started: list[int] = []
        self.both = asyncio.Event()

    @step
    async def begin(self, ctx: Context, ev: StartEvent) -> Work | None:
        ctx.send_event(Work(n=7))
        ctx.send_event(Work(n=7))
        return None

    @step
    async def work(self, ctx: Context, ev: Work) -> Done:
        place = len(self.started)
        self.started.append(ctx.step_info().delivery_id)
        if place == 1:
            self.both.set()
        await self.gates[place].wait()
        return Done(n=place)

    @step
    async def gather(self, ctx: Context, ev: Done) -> StopEvent | None:
        both = ctx.collect_events(ev, [Done, Done])
        return None if both is None else StopEvent(result=[each.n for each in both])


class Exact(Workflow):
    @step
    async def begin(self, ev: StartEvent) -> Work | SubWork | StopEvent:
        return SubWork(n=1) if ev.get("sub") else Work(n=1)

    @step
    async def exact(self, ev: Work) -> StopEvent:
        return StopEvent(result="exact")

    @step
    async def sub(self, ev: SubWork) -> StopEvent:
        return StopEvent(result="sub")
