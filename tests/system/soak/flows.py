"""The workflows of the soak: one for each thing that runs do, one that looks inside the server, one that leaks."""

from __future__ import annotations

import asyncio
import contextvars
import ctypes
import ctypes.util
import gc
import os
import sys
import time
from collections.abc import Callable

from stepwire.workflow import (
    ConstantDelayRetryPolicy,
    Context,
    Event,
    HumanResponseEvent,
    InputRequiredEvent,
    StartEvent,
    StopEvent,
    Workflow,
    step,
)


class Begin(StartEvent):
    """Begin, with so many items of work."""

    count: int = 5


class Item(Event):
    """Be worked on."""

    number: int


class Done(Event):
    """Tell what came of an item."""

    number: int


class Question(InputRequiredEvent):
    """Ask."""

    text: str


class Answer(HumanResponseEvent):
    """Answer."""

    text: str


class Note(HumanResponseEvent):
    """Be written down."""

    text: str


class Work(Workflow):
    """Fan out to sync steps that fail once, write to the stream, collect."""

    @step
    async def begin(self, ctx: Context, ev: Begin) -> Item | None:
        """Send the items."""
        await ctx.store.set("count", ev.count)
        for number in range(ev.count):
            ctx.send_event(Item(number=number))
        return None

    @step(num_workers=4, retry_policy=ConstantDelayRetryPolicy(delay=0.01, maximum_attempts=3))
    def work(self, ctx: Context, ev: Item) -> Done:
        """Work in a thread; the first item fails the first time."""
        if ev.number == 0 and ctx.step_info().attempt == 1:
            raise ValueError("once")
        ctx.write_event_to_stream(Done(number=ev.number))
        time.sleep(0.001)
        return Done(number=ev.number)

    @step
    async def end(self, ctx: Context, ev: Done) -> StopEvent | None:
        """Stop when all are there."""
        found = ctx.collect_events(ev, [Done] * await ctx.store.get("count"))
        return None if found is None else StopEvent(result=len(found))


class Ask(Workflow):
    """Ask and wait, taking notes meanwhile."""

    def __init__(self) -> None:
        super().__init__(timeout=None)

    @step
    async def ask(self, ctx: Context, ev: Begin) -> StopEvent:
        """Ask."""
        await ctx.store.set("data", {"blob": "x" * 2000, "count": 0})
        answer = await ctx.wait_for_event(Answer, waiter_event=Question(text="?"), timeout=None)
        return StopEvent(result=answer.text)

    @step
    async def note(self, ctx: Context, ev: Note) -> None:
        """Write a note down."""
        await ctx.store.set("last", ev.text)


class Fail(Workflow):
    """Fail, or take longer than the run may."""

    @step
    async def fail(self, ev: Begin) -> StopEvent:
        """Fail with a count, else hang."""
        if ev.count:
            raise ValueError("no")
        await asyncio.Event().wait()
        return StopEvent()


def _page_cache() -> Callable[[], int]:
    """Return what tells how many bytes SQLite holds, nearly all of them pages; 0 where it cannot be asked."""
    try:
        used = ctypes.CDLL(ctypes.util.find_library("sqlite3")).sqlite3_memory_used
    except (OSError, AttributeError, TypeError):
        return lambda: 0
    used.restype = ctypes.c_longlong
    return used  # type: ignore[no-any-return]


page_cache = _page_cache()


class Probe(Workflow):
    """Say what there is inside the server's process."""

    @step
    async def look(self, ev: StartEvent) -> StopEvent:
        """Count, garbage thrown away first."""
        gc.collect()
        # A step is shown its own tasks only; code that does not run in one sees all.
        tasks, blocks = len(contextvars.Context().run(asyncio.all_tasks)), sys.getallocatedblocks()
        return StopEvent(result={"tasks": tasks, "blocks": blocks, "cache": page_cache()})


_LEAKED: list[object] = []


class Leak(Workflow):
    """Lose something each time: what the soak must notice."""

    @step
    async def leak(self, ev: StartEvent) -> StopEvent:
        """Lose what `kind` says."""
        if ev.kind == "tasks":
            _LEAKED.append(asyncio.create_task(asyncio.Event().wait()))
        elif ev.kind == "files":
            _LEAKED.append(os.open(os.devnull, os.O_RDONLY))
        elif ev.kind == "memory":
            _LEAKED.append(["x" * 1000 + str(number) for number in range(1000)])
        return StopEvent()
