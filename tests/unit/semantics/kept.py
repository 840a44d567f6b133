"""A workflow and what it keeps, for the tests of serialization."""

from __future__ import annotations

from datetime import UTC, date, datetime, timedelta
from decimal import Decimal
from enum import Enum
from typing import Any
from uuid import UUID

from pydantic import BaseModel

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


class Mood(Enum):
    GOOD = 1
    BAD = 2


class Part(BaseModel):
    name: str
    mood: Mood = Mood.GOOD


class Item(Event):
    part: Part
    nested: Event | None = None


class Prompt(InputRequiredEvent):
    pass


class Key(HumanResponseEvent):
    pass


EVERYTHING: dict[str, Any] = {
    "model": Part(name="a", mood=Mood.BAD),
    "event": Item(part=Part(name="b"), nested=StopEvent(result=[1]), dynamic={"x": Part(name="c")}),
    "bytes": b"\x00\xff",
    "datetime": datetime(2024, 5, 6, 7, 8, 9, 10, tzinfo=UTC),
    "date": date(2024, 5, 6),
    "timedelta": timedelta(days=-1, microseconds=5),
    "decimal": Decimal("1.10"),
    "uuid": UUID(int=5),
    "enum": Mood.GOOD,
    "set": {1, 2},
    "frozenset": frozenset({"a"}),
    "tuple": (1, (2,), []),
    "keys": {1: "int", (1, 2): "tuple", None: "none", Mood.BAD: "enum"},
    "like a tag": {"$set": [1]},
    "like an old tag": {"__is_pydantic": True, "qualified_name": "os.system", "value": {}},
    "float": 0.1,
    "big": 2**70,
}


class Store(Workflow):
    types = (Part, Mood)

    @step
    async def work(self, ctx: Context, ev: StartEvent) -> Item | StopEvent:
        for key, value in EVERYTHING.items():
            await ctx.store.set(key, value)
        ctx.collect_events(EVERYTHING["event"], [Item, Item], buffer_id="one")
        return EVERYTHING["event"]  # type: ignore[no-any-return]

    @step
    async def hold(self, ctx: Context, ev: Item) -> Prompt | StopEvent:
        answer = await ctx.wait_for_event(
            Key, waiter_event=Prompt(held=ev), requirements={"key": (1, b"x")}, timeout=None
        )
        (first, second) = ctx.collect_events(ev, [Item, Item], buffer_id="one") or (None, None)
        state = (await ctx.store.get_state()).to_dict()
        return StopEvent(result=[state == EVERYTHING, first == second == ev == EVERYTHING["event"], answer.n])
