"""Workflows that misbehave as operators know it."""

from __future__ import annotations

import asyncio
import subprocess
import sys
import threading
import time
from typing import Any

from stepwire.workflow import Context, HumanResponseEvent, StartEvent, StopEvent, Workflow, step

HELD = threading.Event()


class Answer(HumanResponseEvent):
    """Go on."""


class Work(Workflow):
    """Do what the input says."""

    def __init__(self) -> None:
        super().__init__(timeout=None)

    @step(timeout=0.05)
    async def hurry(self, ev: Answer) -> StopEvent:
        """Take longer than is allowed."""
        await asyncio.sleep(30)
        return StopEvent()

    @step
    async def work(self, ctx: Context, ev: StartEvent) -> StopEvent | None:
        """Return, fail, wait, or leave it to the other step."""
        match ev.get("do"):
            case "fail":
                raise ValueError("as asked")
            case "wait":
                await ctx.wait_for_event(Answer, timeout=None)
            case "leave":
                return None
        return StopEvent(result="done")


class Hold(Workflow):
    """Hold a thread until `HELD` is set."""

    def __init__(self) -> None:
        super().__init__(timeout=None)

    @step
    def hold(self, ev: StartEvent) -> StopEvent:
        """Hold it."""
        HELD.wait()
        return StopEvent()


class Block(Workflow):
    """Block the event loop, in a step or in a task that a step started, for so many seconds."""

    def __init__(self) -> None:
        super().__init__(timeout=None)

    @step
    async def block(self, ev: StartEvent) -> StopEvent:
        """Block."""
        seconds: Any = ev.get("seconds")
        if ev.get("library"):
            command = [sys.executable, "-c", f"import time; time.sleep({seconds})"]
            subprocess.run(command, check=True)  # here it waits for the library  # noqa: ASYNC221 - what this is for
        elif ev.get("child"):
            await asyncio.gather(in_a_task(seconds), asyncio.sleep(0))
        else:
            time.sleep(seconds)  # here it blocks  # noqa: ASYNC251 - what this is for
        return StopEvent(result="done")


async def in_a_task(seconds: float) -> None:
    """Block in a task of its own."""
    time.sleep(seconds)  # here the task blocks  # noqa: ASYNC251 - what this is for
