"""Workflows that several flows run, and what they ask of an engine."""

import asyncio
from typing import Any

from workflows import Context, Workflow, step
from workflows.events import Event, HumanResponseEvent, InputRequiredEvent, StartEvent, StopEvent

__all__ = ["A", "Asking", "B", "Counting", "raised", "until_asked"]


class A(Event):
    n: int = 0


class B(Event):
    n: int = 0


class Counting(Workflow):
    @step
    async def count(self, ctx: Context, ev: StartEvent) -> StopEvent:
        n = await ctx.store.get("n", default=0) + 1
        await ctx.store.set("n", n)
        return StopEvent(result=n)


class Asking(Workflow):
    @step
    async def ask(self, ctx: Context, ev: StartEvent) -> StopEvent:
        answer = await ctx.wait_for_event(HumanResponseEvent, InputRequiredEvent(prefix="?"))
        return StopEvent(result=answer.response)


async def until_asked(handler: Any) -> None:
    async for event in handler.stream_events():
        if isinstance(event, InputRequiredEvent):
            return


async def raised(function: Any, *args: Any, **kwargs: Any) -> Any:
    """Return the class and the text of what a call raises; None if it raises nothing."""
    try:
        result = function(*args, **kwargs)
        if asyncio.iscoroutine(result):
            await result
    except Exception as error:  # noqa: BLE001 - whatever it is
        return type(error), str(error)
    return None
