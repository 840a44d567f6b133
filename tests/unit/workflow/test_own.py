"""Copies of events: nothing that can change is shared."""

from __future__ import annotations

from collections import OrderedDict, defaultdict, deque
from dataclasses import dataclass, field
from datetime import UTC, datetime
from decimal import Decimal
from enum import Enum
from functools import cached_property
from typing import Any, NamedTuple

import pytest
from pydantic import BaseModel, ConfigDict, PrivateAttr

from stepwire.workflow.events import Event
from stepwire.workflow.state.own import own


class Noted(Event):
    _note: int


class Colour(Enum):
    RED = 1


class Part(BaseModel):
    items: list[int] = []


class Frozen(BaseModel):
    model_config = ConfigDict(frozen=True)
    items: list[int]


@dataclass
class Data:
    items: list[int] = field(default_factory=list)


@dataclass(frozen=True)
class FrozenData:
    items: list[int]


class Pair(NamedTuple):
    left: list[int]
    right: int


class Holder(Event):
    value: Any = None
    _note: list[int] = PrivateAttr(default_factory=list)

    @cached_property
    def length(self) -> int:
        return len(self.value)


class Plain(Event):
    n: int = 0
    text: str = ""


def items(value: Any) -> Any:
    """Return the first list of ints inside."""
    if isinstance(value, list) and (not value or isinstance(value[0], int)):
        return value
    if isinstance(value, BaseModel | Data | FrozenData):
        return value.items  # type: ignore[union-attr]
    if isinstance(value, dict):
        return items(next(iter(value.values())))
    return items(next(iter(value)))


MUTABLE = [
    [1],
    [[1]],
    {"a": [1]},
    ([1],),
    deque([[1]], maxlen=3),
    defaultdict(list, a=[1]),
    OrderedDict(a=[1]),
    Part(items=[1]),
    Frozen(items=[1]),
    Data([1]),
    FrozenData([1]),
    Pair([1], 2),
    {"deep": [{"x": Part(items=[1])}]},
]


@pytest.mark.parametrize("value", MUTABLE, ids=lambda value: type(value).__name__)
def test_what_can_change_is_copied(value: Any) -> None:
    event = Holder(value=value)
    twin = own(event)
    assert twin == event
    assert type(twin.value) is type(event.value)
    items(twin.value).append(2)
    assert items(event.value) == [1]


def test_sets_and_bytes() -> None:
    event = Holder(value=[{1}, bytearray(b"a")], more={"b": {2}})
    twin = own(event)
    twin.value[0].add(5)
    twin.value[1].extend(b"b")
    twin.more["b"].add(7)
    assert (event.value, event.more) == ([{1}, bytearray(b"a")], {"b": {2}})


@pytest.mark.parametrize(
    "value", [1, "a", None, b"x", Decimal(1), datetime.now(UTC), Colour.RED, (1, "a"), frozenset({1})]
)
def test_what_cannot_change_is_shared(value: Any) -> None:
    assert own(Holder(value=value)).value is value


def test_objects_that_no_store_could_keep_are_shared() -> None:
    client = object()
    assert own(Holder(value={"client": client})).value["client"] is client


def test_the_event_itself_is_another() -> None:
    event = Plain(n=1, text="a")
    twin = own(event)
    assert (twin, twin.model_fields_set) == (event, {"n", "text"})
    twin.n = 2
    twin.extra = "x"
    assert (event.n, event.model_dump()) == (1, {"n": 1, "text": "a"})


def test_dynamic_fields_private_attributes_and_cached_properties() -> None:
    event = Holder(value=[1, 2], more=[1])
    event._note.append(1)
    assert event.length == 2
    twin = own(event)
    twin.more.append(2)
    twin._note.append(2)
    assert (event.more, event._note, twin.more, twin._note, twin.length) == ([1], [1], [1, 2], [1, 2], 2)


def test_private_attributes_without_a_value_are_not_shared() -> None:
    event = Noted()
    twin = own(event)
    twin._note = 1
    assert not hasattr(event, "_note")


def test_shared_and_circular_values_stay_so() -> None:
    inner = [1]
    event = Holder(value=[inner, inner])
    event.value.append(event.value)
    twin = own(event)
    assert twin.value[0] is twin.value[1] is not inner
    assert twin.value[2] is twin.value
