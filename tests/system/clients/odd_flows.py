"""A workflow whose types have everything that is hard to say in another language."""

from __future__ import annotations

import enum
from datetime import date, datetime, time, timedelta
from decimal import Decimal
from typing import Generic, Literal, TypeVar

from pydantic import BaseModel, Field

from stepwire.workflow import Context, Event, StartEvent, StopEvent, Workflow, step

T = TypeVar("T")


class Colour(enum.Enum):
    """A colour."""

    RED = "red"
    BLUE = "blue"


class Box(BaseModel, Generic[T]):
    """Something in a box."""

    inside: T


class Line(BaseModel):
    """A line of an order."""

    total: Decimal
    note: str | None = None
    colour: Colour = Colour.RED
    children: list[Line] = []


class Part(BaseModel):
    """A part, which has parts."""

    colour: Colour = Colour.RED
    parts: list[Part] = []


class Order(StartEvent):
    """Begin with an order."""

    lines: list[Line]
    size: Literal["small", "large"] = "small"
    place: tuple[int, str] = (1, "a")
    boxed: Box[int] | None = None
    either: Line | Colour | None = None
    by_name: dict[str, Line] = Field(default={})
    due: datetime | None = None
    day: date | None = None
    at: time | None = None
    lasts: timedelta = timedelta(seconds=90)
    hidden: Part = Part()
    order_id: str = Field(default="", alias="orderId")


class Packed(Event):
    """Say what was packed."""

    box: Box[Line]
    count: int
    due: datetime | None = None


class Shipped(StopEvent):
    """End with what was shipped."""

    result: dict[str, int]


class OrderState(BaseModel):
    """Count lines."""

    seen: int = 0


class OrderFlow(Workflow):
    """Pack an order."""

    @step
    async def pack(self, ctx: Context[OrderState], ev: Order) -> Shipped:
        """Pack it."""
        for line in ev.lines:
            ctx.write_event_to_stream(Packed(box=Box[Line](inside=line), count=1, due=ev.due))
        return Shipped(result={"lines": len(ev.lines), "seconds": int(ev.lasts.total_seconds())})
