"""Workflows whose runs the console shows."""

from __future__ import annotations

from typing import Any, Literal

from pydantic import Field

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


class Expense(StartEvent):
    who: str
    amount: int
    tags: list[str] = Field(default_factory=list)


class Checked(Event):
    amount: int


class Approval(HumanResponseEvent):
    verdict: Literal["approve", "refuse"]
    by: str
    limit: int = 100


class Expenses(Workflow):
    """Ask a person about an expense."""

    @step
    async def check(self, ctx: Context, ev: Expense) -> Checked:
        """Keep who asks."""
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


class Note(HumanResponseEvent):
    n: int


class Noted(Event):
    n: int


class Notes(Workflow):
    """Write each note to the stream."""

    @step
    async def begin(self, ev: StartEvent) -> InputRequiredEvent:
        return InputRequiredEvent(text="notes?")

    @step(num_workers=1)
    async def note(self, ctx: Context, ev: Note) -> StopEvent | None:
        ctx.write_event_to_stream(Noted(n=ev.n))
        return StopEvent(result=ev.n) if ev.n < 0 else None


class Forge(StartEvent):
    text: str


class Forged(Event):
    text: str


class Forger(Workflow):
    """Put a text everywhere where a text can be: <script>window.forged = 1</script>"""

    @step
    async def put(self, ctx: Context, ev: Forge) -> StopEvent:
        await ctx.store.set("text", ev.text)
        await ctx.store.set("nested", {"key": [ev.text, {ev.text.replace(".", ""): ev.text}]})
        ctx.write_event_to_stream(Forged(text=ev.text))
        await ctx.wait_for_event(Note, waiter_event=InputRequiredEvent(text=ev.text, more=ev.text))
        raise ValueError(ev.text)
