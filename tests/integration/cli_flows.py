"""Workflows that the tests of the command line serve."""

from __future__ import annotations

from enum import Enum
from typing import Any

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


class Speed(Enum):
    SLOW = "slow"
    FAST = "fast"


class Greeting(StartEvent):
    name: str


class Tick(Event):
    n: int


class Ask(InputRequiredEvent):
    question: str


class Approval(HumanResponseEvent):
    order: str
    approved: bool
    parcels: int
    speed: Speed


class Greet(Workflow):
    """Greet someone.

    With ticks.
    """

    @step
    async def greet(self, ctx: Context[DictState], ev: Greeting) -> StopEvent:
        for n in range(2):
            ctx.write_event_to_stream(Tick(n=n))
        return StopEvent(result=f"Hello, {ev.name}!")


class Order(Workflow):
    @step
    async def order(self, ctx: Context[DictState], ev: StartEvent) -> StopEvent:
        await ctx.store.set("order.paid", False)
        answer = await ctx.wait_for_event(
            Approval, waiter_event=Ask(question="Ship it?"), waiter_id="ship", requirements={"order": "7"}
        )
        note = await ctx.store.get("note", default=None)
        return StopEvent(result={"approved": answer.approved, "speed": answer.speed.value, "note": note})


class Confirm(Workflow):
    """Ask for an event without declared fields, of which one is required: the way of llama-index-workflows."""

    @step
    async def ask(self, ctx: Context[DictState], ev: StartEvent) -> StopEvent:
        asked = InputRequiredEvent(prefix="Refund A-17?")
        answer = await ctx.wait_for_event(HumanResponseEvent, asked, requirements={"what": "A-17"})
        return StopEvent(result=f"{answer.what}: {answer.response}")


class Name(Workflow):
    """One step returns the question, another takes the answer."""

    @step
    async def ask(self, ev: StartEvent) -> InputRequiredEvent:
        return InputRequiredEvent(prefix="Your name? ")

    @step
    async def greet(self, ev: HumanResponseEvent) -> StopEvent:
        return StopEvent(result=f"Hello, {ev.response}!")


class Parcels(Workflow):
    """Ask in a child."""

    @step
    async def order(self, ev: StartEvent) -> StopEvent:
        return StopEvent(result=await Order(timeout=None).run())


class Parcel(Event): ...


class Lost(Workflow):
    """Return an event that the step does not name and nothing takes."""

    @step
    async def pack(self, ev: StartEvent) -> StopEvent:
        lost: Any = Parcel()
        return lost  # type: ignore[no-any-return]


class Fail(Workflow):
    @step
    async def fail(self, ev: StartEvent) -> StopEvent:
        raise ValueError("boom")
