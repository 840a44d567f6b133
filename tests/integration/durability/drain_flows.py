"""Workflows for a server in another process that is told to stop."""

from __future__ import annotations

import asyncio
import time

from stepwire.workflow import (
    Context,
    DictState,
    Event,
    HumanResponseEvent,
    InputRequiredEvent,
    StartEvent,
    StopEvent,
    Workflow,
    step,
)


class Began(Event):
    attempt: int


class Question(InputRequiredEvent):
    pass


class Answer(HumanResponseEvent):
    n: int = 0


class Slow(Workflow):
    """Take so many seconds."""

    @step
    async def work(self, ctx: Context[DictState], ev: StartEvent) -> StopEvent:
        attempt = ctx.step_info().attempt
        ctx.write_event_to_stream(Began(attempt=attempt))
        await asyncio.sleep(ev.seconds if attempt == 1 else 0)
        return StopEvent(result=attempt)


class Stuck(Workflow):
    """Do not return, in a thread, in the first attempt."""

    @step
    def work(self, ctx: Context[DictState], ev: StartEvent) -> StopEvent:
        attempt = ctx.step_info().attempt
        ctx.write_event_to_stream(Began(attempt=attempt))
        while attempt == 1:
            time.sleep(1)  # no call of the context, so nothing tells it that it is abandoned
        return StopEvent(result=attempt)


class Deaf(Workflow):
    """Swallow cancellation, in the first attempt."""

    @step
    async def work(self, ctx: Context[DictState], ev: StartEvent) -> StopEvent:
        attempt = ctx.step_info().attempt
        ctx.write_event_to_stream(Began(attempt=attempt))
        while attempt == 1:
            try:
                await asyncio.sleep(3600)
            except asyncio.CancelledError:
                continue
        return StopEvent(result=attempt)


class Ask(Workflow):
    """Wait for an answer."""

    @step
    async def work(self, ctx: Context[DictState], ev: StartEvent) -> StopEvent:
        answer = await ctx.wait_for_event(Answer, waiter_event=Question(), waiter_id="q", timeout=None)
        return StopEvent(result=answer.n)
