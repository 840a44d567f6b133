"""The workflows that the corpus was made with. What released folders hold names them: add, never change."""

from __future__ import annotations

from datetime import UTC, datetime
from decimal import Decimal
from enum import Enum
from typing import Any
from uuid import UUID

from pydantic import BaseModel

from stepwire.workflow import (
    ConstantDelayRetryPolicy,
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


class Size(Enum):
    SMALL = "small"
    LARGE = "large"


class Line(BaseModel):
    name: str
    price: Decimal = Decimal(0)


class Cart(BaseModel):
    owner: str = "nobody"
    size: Size = Size.SMALL
    lines: list[Line] = []


class Question(InputRequiredEvent):
    text: str = ""


class Answer(HumanResponseEvent):
    n: int = 0
    line: Line | None = None


class Item(HumanResponseEvent):
    n: int = 0


class Note(Event):
    text: str = ""


EXACT: dict[str, Any] = {
    "text": "grüße, 世界",
    "bytes": b"\x00\xff",
    "at": datetime(2025, 1, 2, 3, 4, 5, 678, tzinfo=UTC),
    "decimal": Decimal("1.10"),
    "uuid": UUID(int=7),
    "enum": Size.LARGE,
    "set": {1, 2, 3},
    "tuple": (1, "two", None),
    "numbered": {1: "one", (2, 3): "two"},
    "nested": [Line(name="tea", price=Decimal("2.50")), {"deep": [True, 1.5]}],
}
"""Values that JSON alone does not keep."""


class Exact(Workflow):
    """Ask; keep values of every kind in the state."""

    version = "1"

    def __init__(self) -> None:
        super().__init__(timeout=None)

    @step
    async def work(self, ctx: Context[DictState], ev: StartEvent) -> StopEvent:
        for key, value in EXACT.items():
            await ctx.store.set(key, value)
        ctx.write_event_to_stream(Note(text="once"))
        answer = await ctx.wait_for_event(Answer, waiter_event=Question(text="?"), waiter_id="q", timeout=None)
        return StopEvent(result=answer.n)


class Shop(Workflow):
    """Ask; a typed state."""

    version = "1"

    def __init__(self) -> None:
        super().__init__(timeout=None)

    @step
    async def work(self, ctx: Context[Cart], ev: StartEvent) -> StopEvent:
        await ctx.store.set("owner", "ada")
        await ctx.store.set("lines", [Line(name="tea", price=Decimal("2.50"))])
        answer = await ctx.wait_for_event(
            Answer, waiter_event=Question(text="more?"), waiter_id="q", requirements={"n": 1}, timeout=None
        )
        cart = await ctx.store.get_state()
        lines = [*cart.lines, *([answer.line] if answer.line else [])]
        return StopEvent(result=str(sum(line.price for line in lines)))


class Nap(Workflow):
    """Sleep for an hour; when told, fail first and try again an hour later."""

    version = "1"

    def __init__(self) -> None:
        super().__init__(timeout=None)

    @step(retry_policy=ConstantDelayRetryPolicy(maximum_attempts=2, delay=3600))
    async def work(self, ctx: Context[DictState], ev: StartEvent) -> StopEvent:
        if ev.get("fail") and ctx.step_info().attempt == 1:
            raise ValueError("the first time it fails")
        await ctx.sleep(3600)
        return StopEvent(result=ctx.step_info().attempt)


class Gather(Workflow):
    """Collect three items."""

    version = "1"

    def __init__(self) -> None:
        super().__init__(timeout=None)

    @step
    async def begin(self, ctx: Context[DictState], ev: StartEvent) -> InputRequiredEvent | None:
        return InputRequiredEvent(prefix="three items")

    @step(num_workers=1)
    async def gather(self, ctx: Context[DictState], ev: Item) -> StopEvent | None:
        found: list[Any] | None = ctx.collect_events(ev, [Item] * 3, buffer_id="items")
        return StopEvent(result=[item.n for item in found]) if found else None
