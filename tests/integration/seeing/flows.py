"""Workflows that fail, wait and work, to be looked at."""

from __future__ import annotations

import asyncio
from typing import Any

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

TEXT = "connection refused\nby the bank"


class Charge(Event):
    amount: int = 1


class Ship(Event):
    to: str = ""


class Lost(Event):
    """What no step takes."""


class Question(InputRequiredEvent):
    text: str


class Answer(HumanResponseEvent):
    yes: bool


class Down(Exception):
    """What a dependency that is down raises."""


class Shop(Workflow):
    """Charge with retries while the dependency is down, and ask a question beside."""

    down = True
    delay = 3600.0

    @step
    async def begin(self, ctx: Context, ev: StartEvent) -> Charge | Ship | None:
        """Send both."""
        ctx.send_event(Charge(amount=3))
        ctx.send_event(Ship(to="Oslo"))
        return None

    @step(retry_policy=ConstantDelayRetryPolicy(maximum_attempts=3, delay=delay))
    async def charge(self, ctx: Context, ev: Charge) -> None:
        """Fail as long as it is down."""
        if self.down:
            raise Down(TEXT)

    @step
    async def ship(self, ctx: Context, ev: Ship) -> StopEvent:
        """Ask, and end."""
        answer = await ctx.wait_for_event(Answer, waiter_event=Question(text=f"Ship to {ev.to}?"), waiter_id="ship")
        return StopEvent(result=answer.yes)


class Failing(Workflow):
    """Fail twice at once, then for good."""

    @step(retry_policy=ConstantDelayRetryPolicy(maximum_attempts=2, delay=0.0))
    async def charge(self, ctx: Context, ev: StartEvent) -> StopEvent:
        """Raise."""
        raise Down(TEXT)


class Late(Workflow):
    """Take longer than its step may."""

    @step(timeout=0.01)
    async def sleep(self, ctx: Context, ev: StartEvent) -> StopEvent:
        """Sleep."""
        await asyncio.Event().wait()
        return StopEvent()


class Busy(Workflow):
    """Run until it is told to end."""

    entered: asyncio.Event

    @step
    async def work(self, ctx: Context, ev: StartEvent) -> StopEvent:
        """Wait for nothing that comes."""
        self.entered.set()
        await asyncio.Event().wait()
        return StopEvent()


class Stalled(Workflow):
    """Send what no step takes."""

    types = (Lost,)

    @step
    async def begin(self, ctx: Context, ev: StartEvent) -> StopEvent | None:
        """Send an event to nobody."""
        if not ev.get("lose", True):
            return StopEvent()
        ctx.send_event(Lost())
        return None


class Inner(Workflow):
    """Ask from within."""

    @step
    async def ask(self, ctx: Context, ev: StartEvent) -> StopEvent:
        """Ask."""
        answer = await ctx.wait_for_event(Answer, waiter_event=Question(text="From within?"), waiter_id="deep")
        return StopEvent(result=answer.yes)


class Outer(Workflow):
    """Start a run inside a step."""

    types = (Question, Answer)

    @step
    async def nest(self, ctx: Context, ev: StartEvent) -> StopEvent:
        """Run the inner workflow."""
        result: Any = await Inner(timeout=None).run()
        return StopEvent(result=result)
