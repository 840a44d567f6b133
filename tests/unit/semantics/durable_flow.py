"""A flow whose step does what a test wants, for the tests of durability."""

from __future__ import annotations

import asyncio
from typing import Any

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


class Work(Event):
    n: int = 0


class Done(Event):
    n: int = 0


class Note(Event):
    text: str = ""


class Prompt(InputRequiredEvent):
    n: int = 0


class Answer(HumanResponseEvent):
    n: int = 0


class Flow(Workflow):
    """One step whose body the test gives; `attempts` counts how often it began."""

    def __init__(self, body: Any) -> None:
        super().__init__(timeout=None, disable_validation=True)
        self.body = body
        self.attempts = 0
        self.at_work = asyncio.Event()
        self.go_on = asyncio.Event()

    @step
    async def work(self, ctx: Context, ev: StartEvent) -> StopEvent:
        self.attempts += 1
        return StopEvent(result=await self.body(self, ctx))

    @step
    async def sink(self, ctx: Context, ev: Work) -> None:
        return None

    async def pause(self) -> None:
        """Hang in the first attempt, go on in the next."""
        if self.attempts == 1:
            self.at_work.set()
            await self.go_on.wait()


async def settle(turns: int = 10) -> None:
    """Give tasks that can go on a chance to; what is tested after it must not have happened."""
    for _ in range(turns):
        await asyncio.sleep(0)
