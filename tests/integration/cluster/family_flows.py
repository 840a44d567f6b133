"""Parents and children that different replicas serve."""

from __future__ import annotations

from typing import Any

from stepwire.workflow import (
    Context,
    DictState,
    HumanResponseEvent,
    InputRequiredEvent,
    StartEvent,
    StopEvent,
    Workflow,
    step,
)
from stepwire.workflow.hosting import event_to_json


class Word(StartEvent):
    """Begin with a word."""

    word: str = ""


class Asking(InputRequiredEvent):
    """Ask."""

    word: str


class Reply(HumanResponseEvent):
    """Answer."""

    word: str


class Below(Workflow):
    """Ask, and end with the answer."""

    def __init__(self) -> None:
        super().__init__(timeout=None)

    @step
    async def ask(self, ctx: Context[DictState], ev: Word) -> StopEvent:
        """Ask."""
        if ev.word == "fail":
            raise ValueError("no such word")
        reply = await ctx.wait_for_event(Reply, Asking(word=ev.word), ev.word, timeout=None)
        return StopEvent(result=[ev.word, reply.word])


class Passing(Workflow):
    """Have another replica ask, ask the same, and pass the answer on."""

    def __init__(self) -> None:
        super().__init__(timeout=None)

    @step
    async def go(self, ctx: Context[DictState], ev: Word) -> StopEvent:
        """Start a child, and end with its result."""
        handler: Any = ctx.start_run("below", word=ev.word)
        async for event in handler.stream_events():
            if isinstance(event, Asking):
                reply = await ctx.wait_for_event(Reply, event, timeout=None)
                handler.send("Reply", event_to_json(reply))
        return StopEvent(result=await handler)


class Above(Workflow):
    """Have another replica ask."""

    def __init__(self) -> None:
        super().__init__(timeout=None)

    @step
    async def go(self, ctx: Context[DictState], ev: Word) -> StopEvent:
        """Start a child, and end with its result."""
        try:
            return StopEvent(result=await ctx.start_run("below", word=ev.word))
        except Exception as error:  # noqa: BLE001 - whatever the child failed with
            return StopEvent(result=f"{type(error).__name__}: {error}")
