"""A workflow with a bit of everything, for the tests of how runs live and end."""

from __future__ import annotations

import asyncio
import contextvars
from typing import Any

import pytest
from tests.unit.semantics.harness import DurableRun

from stepwire.workflow import (
    Context,
    Event,
    HumanResponseEvent,
    InputRequiredEvent,
    StartEvent,
    StopEvent,
    Workflow,
    WorkflowRuntimeError,
    step,
)


class Work(Event):
    n: int = 0


class Note(Event):
    n: int = 0


class Prompt(InputRequiredEvent):
    pass


class Answer(HumanResponseEvent):
    n: int = 0


class Whole(Workflow):
    """End as the start event says."""

    def __init__(self, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.at_work = asyncio.Event()
        self.go_on = asyncio.Event()

    @step
    async def work(self, ctx: Context, ev: StartEvent) -> StopEvent:
        how = ev.get("how", "complete")
        if how == "fail":
            raise ValueError("no good")
        if how == "hang":
            self.at_work.set()
            await self.go_on.wait()
        return StopEvent(result={"how": how})


async def events_of(handler: Any) -> list[Event]:
    return [event async for event in handler.stream_events()]


async def numbers(events: Any) -> list[int]:
    return [event.n async for event in events if isinstance(event, Note)]


async def idle(run: DurableRun) -> None:
    await run.until(lambda run: run.parts and run.broker.active == 0)


who: contextvars.ContextVar[str] = contextvars.ContextVar("who", default="nobody")


class Inner(Workflow):
    @step
    async def begin(self, ctx: Context, ev: StartEvent) -> Work:
        outer: Context[Any] | None = ev.get("outer")
        if outer is not None:
            with pytest.raises(WorkflowRuntimeError, match="only be called in a step"):
                outer.step_info()
        assert ctx.step_info().step == "begin"
        return Work(n=ev.n)

    @step
    def end(self, ctx: Context, ev: Work) -> StopEvent:
        return StopEvent(result=[ev.n * 2, ctx.step_info().step, who.get()])
