"""Workflows whose runs the console shows."""

from __future__ import annotations

import asyncio
from typing import Any, Literal

from pydantic import Field

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


class Lasting(Workflow):
    """A workflow without a timeout, so that a busy machine ends no run that a test looks at."""

    def __init__(self) -> None:
        super().__init__(timeout=None)


class Expense(StartEvent):
    who: str
    amount: int
    tags: list[str] = Field(default_factory=list)


class Checked(Event):
    amount: int


class Approval(HumanResponseEvent):
    verdict: Literal["approve", "refuse"]
    by: str
    limit: int = Field(100, le=1000)


class Expenses(Lasting):
    """Ask a person about an expense."""

    @step
    async def check(self, ctx: Context, ev: Expense) -> Checked:
        """Keep the name of the person that asks."""
        await ctx.store.set("expense", {"who": ev.who, "amount": ev.amount, "tags": ev.tags})
        return Checked(amount=ev.amount)

    @step
    async def decide(self, ctx: Context, ev: Checked) -> StopEvent:
        """Ask a person."""
        expense: dict[str, Any] = await ctx.store.get("expense")
        question = InputRequiredEvent(text=f"Pay {ev.amount} to {expense['who']}?")
        answer = await ctx.wait_for_event(Approval, waiter_event=question)
        await ctx.store.set("by", answer.by)
        return StopEvent(result=f"{answer.verdict} by {answer.by}")


class Order(StartEvent):
    customer: str
    amount: int


class Reserved(Event):
    amount: int


class Paid(Event):
    receipt: str


class Orders(Lasting):
    """Reserve an order, charge its customer, and send it."""

    @step
    async def reserve(self, ctx: Context, ev: Order) -> Reserved:
        """Take the goods out of the stock."""
        await ctx.store.set("order", {"customer": ev.customer, "amount": ev.amount})
        return Reserved(amount=ev.amount)

    @step(retry_policy=ConstantDelayRetryPolicy(maximum_attempts=3, delay=0.4))
    async def charge(self, ev: Reserved) -> Paid:
        """Charge the customer's card."""
        await asyncio.sleep(0.2)
        if ev.amount > 1000:
            raise ConnectionError("the bank does not answer")
        return Paid(receipt=f"receipt over {ev.amount}")

    @step
    async def send(self, ev: Paid) -> StopEvent:
        """Hand it over to the post."""
        return StopEvent(result=ev.receipt)


class Note(HumanResponseEvent):
    n: int


class Noted(Event):
    n: int


class Notes(Lasting):
    """Write each note to the stream."""

    @step
    async def begin(self, ev: StartEvent) -> InputRequiredEvent:
        return InputRequiredEvent(text="notes?")

    @step(num_workers=1)
    async def note(self, ctx: Context, ev: Note) -> StopEvent | None:
        ctx.write_event_to_stream(Noted(n=ev.n))
        return StopEvent(result=ev.n) if ev.n < 0 else None


class Failing(Lasting):
    """Fail, and try again in an hour."""

    @step(retry_policy=ConstantDelayRetryPolicy(maximum_attempts=3, delay=3600.0))
    async def charge(self, ev: StartEvent) -> StopEvent:
        """Raise."""
        raise ConnectionError("the bank is down")


class Many(StartEvent):
    count: int


class Flood(Lasting):
    """Write many events to the stream."""

    @step
    async def pour(self, ctx: Context, ev: Many) -> StopEvent:
        for n in range(ev.count):
            ctx.write_event_to_stream(Noted(n=n))
            if n % 1000 == 999:
                await asyncio.sleep(0)
        return StopEvent(result=ev.count)


class Forge(StartEvent):
    text: str


class Forged(Event):
    text: str


class Forger(Lasting):
    """Put a text everywhere where a text can be: <script>window.forged = 1</script>"""

    @step
    async def put(self, ctx: Context, ev: Forge) -> StopEvent:
        await ctx.store.set("text", ev.text)
        await ctx.store.set("nested", {"key": [ev.text, {ev.text.replace(".", ""): ev.text}]})
        ctx.write_event_to_stream(Forged(text=ev.text))
        await ctx.wait_for_event(Note, waiter_event=InputRequiredEvent(text=ev.text, more=ev.text))
        raise ValueError(ev.text)


class Tide(StartEvent):
    at_once: int
    per_second: float


class Tides(Lasting):
    """Write many events at once, then some each second for ever."""

    @step
    async def rise(self, ctx: Context, ev: Tide) -> StopEvent:
        for n in range(ev.at_once):
            ctx.write_event_to_stream(Noted(n=n))
            if n % 1000 == 999:
                await asyncio.sleep(0)
        n = ev.at_once
        while True:
            await asyncio.sleep(1 / ev.per_second)
            ctx.write_event_to_stream(Noted(n=n))
            n += 1


class Trip(StartEvent):
    travellers: list[str]


class Trips(Lasting):
    """Ask about the expense of each traveller, each in a run of its own."""

    @step
    async def travel(self, ctx: Context, ev: Trip) -> StopEvent:
        """Start a run for each traveller."""
        asked = [ctx.start_run("expenses", who=who, amount=40) for who in ev.travellers]
        return StopEvent(result=await asyncio.gather(*asked))


class Tour(StartEvent):
    groups: list[list[str]]


class Tours(Lasting):
    """Start a trip for each group, which starts a run for each traveller."""

    @step
    async def lead(self, ctx: Context, ev: Tour) -> StopEvent:
        """Start the trips."""
        trips = [ctx.start_run("trips", travellers=group) for group in ev.groups]
        return StopEvent(result=await asyncio.gather(*trips))
