"""Workflows for tests of several replicas."""

from __future__ import annotations

import asyncio
import os
import time
from datetime import timedelta

from stepwire.workflow import (
    Context,
    DictState,
    Event,
    Every,
    HumanResponseEvent,
    InputRequiredEvent,
    StartEvent,
    StopEvent,
    Workflow,
    step,
)


class Question(InputRequiredEvent):
    """Ask."""

    text: str = ""


class Answer(HumanResponseEvent):
    """Answer."""

    text: str = ""


class Note(Event):
    """Be counted."""

    n: int


class Pong(Event):
    """Tell that a note was counted."""

    n: int


class Work(Event):
    """Take a while."""

    seconds: float


class Worked(Event):
    """Tell that a while has passed, and in which process."""

    pid: int


class Ask(Workflow):
    """Ask a question, and end with its answer; count notes meanwhile."""

    def __init__(self) -> None:
        super().__init__(timeout=None, disable_validation=True)

    @step
    async def ask(self, ctx: Context[DictState], ev: StartEvent) -> StopEvent:
        answer = await ctx.wait_for_event(Answer, waiter_event=Question(text="Well?"), timeout=None)
        return StopEvent(result=answer.text)

    @step
    async def note(self, ctx: Context[DictState], ev: Note) -> None:
        async with ctx.store.edit_state() as state:
            state.count = state.get("count", 0) + 1
        ctx.write_event_to_stream(Pong(n=ev.n))


class Chat(Workflow):
    """Write a pong for each note, and work on demand, until it is told to stop."""

    def __init__(self) -> None:
        super().__init__(timeout=None, disable_validation=True)

    @step
    async def begin(self, ctx: Context[DictState], ev: StartEvent) -> None:
        await ctx.store.set("count", 0)

    @step(num_workers=1)
    async def note(self, ctx: Context[DictState], ev: Note) -> None:
        await ctx.store.set("count", await ctx.store.get("count") + 1)
        ctx.write_event_to_stream(Pong(n=ev.n))

    @step
    async def work(self, ctx: Context[DictState], ev: Work) -> None:
        await asyncio.sleep(ev.seconds)
        ctx.write_event_to_stream(Worked(pid=os.getpid()))

    @step
    async def end(self, ctx: Context[DictState], ev: Answer) -> StopEvent:
        return StopEvent(result=ev.text)


class Slow(Workflow):
    """Work for a while, then end with the ids of the processes that worked."""

    def __init__(self) -> None:
        super().__init__(timeout=None, disable_validation=True)

    @step
    async def work(self, ctx: Context[DictState], ev: StartEvent) -> StopEvent:
        worked = [*await ctx.store.get("worked", []), os.getpid()]
        await ctx.store.set("worked", worked)
        await asyncio.sleep(float(ev.get("seconds", 0.5)) if len(worked) == 1 else 0.0)
        return StopEvent(result=worked)


class Limited(Workflow):
    """Hold a place until it is told to end."""

    def __init__(self) -> None:
        super().__init__(timeout=None, num_concurrent_runs=2, disable_validation=True)

    @step
    async def hold(self, ctx: Context[DictState], ev: StartEvent) -> StopEvent:
        answer = await ctx.wait_for_event(Answer, timeout=None)
        return StopEvent(result=answer.text)


class Blocking(Workflow):
    """Block the event loop of the server, as no step should."""

    @step
    async def block(self, ctx: Context[DictState], ev: StartEvent) -> StopEvent:
        worked = [*await ctx.store.get("worked", []), os.getpid()]
        await ctx.store.set("worked", worked)
        time.sleep(float(ev.get("seconds", 1.0)))  # noqa: ASYNC251 - that is what it is for
        return StopEvent(result=worked)


class Hourly(Workflow):
    """Be due each hour."""

    schedule = Every(timedelta(hours=1))

    @step
    async def go(self, ev: StartEvent) -> StopEvent:
        return StopEvent()
