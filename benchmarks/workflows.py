"""The workflows that the benchmarks run.

stepwire serve benchmarks/workflows.py
"""

from __future__ import annotations

import asyncio
import time

from stepwire.workflow import (
    Context,
    Event,
    HumanResponseEvent,
    InputRequiredEvent,
    StartEvent,
    StopEvent,
    Workflow,
    step,
)

TEXT = "x" * 189
"""What makes the JSON of a `Token` 200 bytes long."""

FRAME = 64
"""After how many events `Talk` lets others run: as an author's loop over a model's answer would."""


class Token(Event):
    """One piece of a stream, 200 bytes of JSON."""

    text: str = TEXT


class Ping(HumanResponseEvent):
    """What SendEvent sends: 200 bytes of JSON."""

    text: str = TEXT


class Question(InputRequiredEvent):
    """A question to the client."""

    number: int = 0


class Answer(HumanResponseEvent):
    """The client's answer."""

    number: int = 0


class Trivial(Workflow):
    """One step: the least that a run can be."""

    @step
    async def only(self, ev: StartEvent) -> StopEvent:
        """End."""
        return StopEvent(result="done")


class Park(Workflow):
    """Set a value, then wait; take pings meanwhile. Ends only when it gets an answer."""

    @step
    async def park(self, ctx: Context, ev: StartEvent) -> StopEvent:
        """Wait for an answer without end."""
        await ctx.store.set("text", TEXT)
        answer = await ctx.wait_for_event(Answer, timeout=None)
        return StopEvent(result=answer.number)

    @step
    async def take(self, ev: Ping) -> None:
        """Consume a ping."""


class Wait(Workflow):
    """Wait for an answer and do nothing else: the least that a waiting run can be."""

    @step
    async def wait(self, ctx: Context, ev: StartEvent) -> StopEvent:
        """Wait for an answer without end."""
        answer = await ctx.wait_for_event(Answer, timeout=None)
        return StopEvent(result=answer.number)


class Go(HumanResponseEvent):
    """Let a held run write so many events."""

    count: int = 1


async def _talk(ctx: Context, count: int) -> None:
    for number in range(1, count + 1):
        ctx.write_event_to_stream(Token())
        if number % FRAME == 0:
            await asyncio.sleep(0)


class Talk(Workflow):
    """Write `count` events to the stream."""

    @step
    async def talk(self, ctx: Context, ev: StartEvent) -> StopEvent:
        """Write them, `FRAME` at a time."""
        await _talk(ctx, ev.get("count", 1))
        return StopEvent(result="done")


class Clocked(Workflow):
    """Write events to the stream; the result is the process's CPU seconds when so many of them were written."""

    @step
    async def talk(self, ctx: Context, ev: StartEvent) -> StopEvent:
        """Write them up to the last mark."""
        seconds: list[float] = []
        written = 0
        for mark in ev.marks:
            await _talk(ctx, mark - written)
            written = mark
            seconds.append(time.process_time())
        return StopEvent(result=seconds)


class HeldTalk(Workflow):
    """Write events to the stream once told to."""

    @step
    async def hold(self, ev: StartEvent) -> None:
        """Wait to be told."""

    @step
    async def talk(self, ctx: Context, ev: Go) -> StopEvent:
        """Write them, `FRAME` at a time."""
        await _talk(ctx, ev.count)
        return StopEvent(result="done")


class PingPong(Workflow):
    """Ask `count` questions, one after the other."""

    @step
    async def ask(self, ctx: Context, ev: StartEvent) -> StopEvent:
        """Ask and wait, again and again."""
        for number in range(ev.get("count", 1)):
            await ctx.wait_for_event(
                Answer,
                waiter_event=Question(number=number),
                waiter_id=f"question-{number}",
                requirements={"number": number},
                timeout=None,
            )
        return StopEvent(result="done")
