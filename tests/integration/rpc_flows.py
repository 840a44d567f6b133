"""Workflows that the tests of the contract serve."""

from __future__ import annotations

import asyncio
from datetime import datetime
from enum import Enum
from typing import Any

from pydantic import BaseModel, Field

from stepwire.workflow import (
    Context,
    DictState,
    Event,
    HumanResponseEvent,
    InputRequiredEvent,
    StartEvent,
    StopEvent,
    Workflow,
    WorkflowError,
    step,
)

SECRET = "s3cr3t-value"
"""What tests put into values and exceptions: it must never come back in an error."""


class Size(Enum):
    SMALL = "small"
    LARGE = "large"


class Order(StartEvent):
    item: str
    count: int = 1


class Question(InputRequiredEvent):
    text: str


class Answer(HumanResponseEvent):
    order: str = ""
    yes: bool


class Note(HumanResponseEvent):
    n: int
    text: str = ""
    blob: bytes = b""


class Ledger(Event, internal=True):
    x: str = ""


class Ping(Event):
    n: int = 0


class Pong(Event):
    n: int


class Poke(HumanResponseEvent):
    n: int = 0


class Receipt(StopEvent):
    total: int
    lines: list[str] = Field(default_factory=list)


class Ask(Workflow):
    """Ask before shipping.

    Notes are kept.
    """

    @step
    async def ask(self, ctx: Context[DictState], ev: Order) -> StopEvent:
        """Ask whether to ship."""
        await ctx.store.set("item", ev.item)
        await ctx.store.set("count", ev.count)
        answer = await ctx.wait_for_event(
            Answer, waiter_event=Question(text=f"Ship {ev.item}?"), waiter_id="ship", requirements={"order": "7"}
        )
        return StopEvent(result={"yes": answer.yes, "note": await ctx.store.get("note", default=None)})

    @step
    async def note(self, ctx: Context[DictState], ev: Note) -> None:
        """Keep a note, and tell of it."""
        await ctx.store.set("note", ev.n)
        if ev.blob:
            await ctx.store.set("blob", ev.blob)
        ctx.write_event_to_stream(Pong(n=ev.n))


class AskAgain(Workflow):
    """The same workflow after a change that does not fit: the step `ask` is gone."""

    @step
    async def ask_politely(self, ctx: Context[DictState], ev: Order) -> StopEvent:
        return StopEvent(result=None)


class Line(BaseModel):
    name: str
    price: int = 0


class Cart(BaseModel):
    owner: str = "nobody"
    limit: int = Field(default=10, ge=0)
    lines: list[Line] = []
    tags: dict[str, int] = {}
    size: Size = Size.SMALL
    blob: bytes = b""
    at: datetime | None = None


class Shop(Workflow):
    """A workflow with a typed state."""

    @step
    async def open(self, ctx: Context[Cart], ev: StartEvent) -> InputRequiredEvent:
        return InputRequiredEvent(prefix="anything else?")

    @step
    async def close(self, ctx: Context[Cart], ev: HumanResponseEvent) -> Receipt:
        cart = await ctx.store.get_state()
        return Receipt(total=sum(line.price for line in cart.lines), lines=[line.name for line in cart.lines])


class Count(Workflow):
    """Write n events to the stream, with events between steps in between."""

    @step(num_workers=1)
    async def start(self, ctx: Context[DictState], ev: StartEvent) -> Ping:
        await ctx.store.set("last", ev.get("n", 3))
        return Ping(n=1)

    @step(num_workers=1)
    async def go_on(self, ctx: Context[DictState], ev: Ping) -> Ping | StopEvent:
        ctx.write_event_to_stream(Pong(n=ev.n))
        last = await ctx.store.get("last")
        return StopEvent(result=ev.n) if ev.n >= last else Ping(n=ev.n + 1)


class Echo(Workflow):
    """Give the input back: to the stream, into the state, as the result."""

    @step
    async def echo(self, ctx: Context[DictState], ev: StartEvent) -> StopEvent:
        value: Any = ev.get("value")
        await ctx.store.set("value", value)
        ctx.write_event_to_stream(Event(value=value))
        return StopEvent(result=value)


class Fail(Workflow):
    @step
    async def boom(self, ctx: Context[DictState], ev: StartEvent) -> StopEvent:
        """Fail as asked."""
        if ev.get("public"):
            raise WorkflowError(SECRET, public=ev.public)
        raise ValueError(SECRET)


class Gate:
    """Lets steps of `Hold` go on; tests open it."""

    def __init__(self) -> None:
        self.entered: list[str] = []
        self.opened = asyncio.Event()
        self._arrived = asyncio.Condition()

    async def pass_through(self, name: str) -> None:
        """Say that one came, then wait until the gate is opened."""
        async with self._arrived:
            self.entered.append(name)
            self._arrived.notify_all()
        await self.opened.wait()

    async def arrived(self, count: int) -> None:
        """Wait until `count` came."""
        async with self._arrived:
            await self._arrived.wait_for(lambda: len(self.entered) >= count)


class Hold(Workflow):
    """Stay in a step until the gate is opened."""

    def __init__(self, gate: Gate, **options: Any) -> None:
        super().__init__(**options)
        self.gate = gate

    @step
    async def hold(self, ctx: Context[DictState], ev: StartEvent) -> StopEvent:
        await self.gate.pass_through(ev.get("name", ""))
        return StopEvent(result=ev.get("name", ""))


class Picky(Workflow):
    """Two steps take different events; a third one waits without a prompt."""

    @step
    async def first(self, ctx: Context[DictState], ev: StartEvent) -> StopEvent:
        await ctx.wait_for_event(Answer, waiter_id="end")
        return StopEvent(result=await ctx.store.get("seen", default=[]))

    @step
    async def on_poke(self, ctx: Context[DictState], ev: Poke) -> None:
        async with ctx.store.edit_state() as state:
            state.seen = [*state.get("seen", []), f"poke {ev.n}"]

    @step
    async def on_either(self, ctx: Context[DictState], ev: Poke | Note) -> None:
        async with ctx.store.edit_state() as state:
            state.seen = [*state.get("seen", []), f"either {ev.n}"]
