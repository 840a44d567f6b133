"""Events as JSON, as callers send and get them."""

from __future__ import annotations

import json
from datetime import UTC, datetime
from decimal import Decimal
from typing import Annotated, Any
from uuid import UUID

import pytest
from pydantic import PlainSerializer, ValidationError
from tests.unit.workflow.some_events import Colour, Holder, Note, Opaque, Point, WithPrivate

from stepwire.workflow.errors import SerializationError
from stepwire.workflow.events import (
    Event,
    event_from_json,
    event_to_json,
)


def test_wire_json_is_flat_also_inside() -> None:
    event = Holder(inner=Point(x=1, z=3), more=[Point(x=2)], child=Event(a=Event(b=1)))
    assert json.loads(event_to_json(event)) == {
        "inner": {"x": 1, "y": 0, "z": 3},
        "more": [{"x": 2, "y": 0}],
        "child": {"a": {"b": 1}},
    }


def test_wire_json_of_rich_types_comes_back() -> None:
    class Rich(Event):
        raw: bytes
        at: datetime
        price: Decimal
        id: UUID
        colour: Colour
        tags: set[int]
        pair: tuple[int, str]
        note: Note

    event = Rich(
        raw=bytes(range(256)),
        at=datetime(2024, 1, 2, 3, tzinfo=UTC),
        price=Decimal("1.10"),
        id=UUID(int=7),
        colour=Colour.RED,
        tags={1, 2},
        pair=(1, "a"),
        note=Note(text="t"),
        extra={"deep": [None, True, "é"]},
    )
    assert event_from_json(Rich, event_to_json(event)) == event
    assert event_from_json(Rich, event_to_json(event).decode()) == event
    assert event_from_json(Rich, json.loads(event_to_json(event))) == event


def test_wire_json_takes_both_alphabets_of_base64() -> None:
    class Raw(Event):
        raw: bytes

    assert event_from_json(Raw, {"raw": "//79"}).raw == b"\xff\xfe\xfd"
    assert event_from_json(Raw, {"raw": "__79"}).raw == b"\xff\xfe\xfd"


def test_wire_json_keeps_field_serializers() -> None:
    class Marked(Event):
        n: Annotated[int, PlainSerializer(lambda value: f"n{value}")]

    assert json.loads(event_to_json(Marked(n=1))) == {"n": "n1"}


def test_unserializable_fields_are_all_named_and_values_are_not() -> None:
    class Wrapper(Event):
        thing: Opaque
        fine: int = 1

    event = Wrapper(thing=Opaque(), other=["hunter2", Opaque()], ok="hunter2")
    with pytest.raises(SerializationError, match="Wrapper") as caught:
        event_to_json(event)
    assert caught.value.keys == ("thing", "other")
    assert "hunter2" not in str(caught.value)


def test_a_cycle_is_unserializable() -> None:
    loop: list[Any] = []
    loop.append(loop)
    with pytest.raises(SerializationError) as caught:
        event_to_json(Event(loop=loop, fine=1))
    assert caught.value.keys == ("loop",)


@pytest.mark.parametrize("bad", [float("nan"), float("inf"), float("-inf")])
def test_nan_and_infinities_are_refused_wherever_they_are(bad: float) -> None:
    class Measured(Event):
        value: float | None = None
        note: Note | None = None

    for event in (
        Measured(value=bad),
        Measured(note=Note(text="t", weight=bad)),
        Measured(dynamic={"deep": [bad]}),
        Measured(dynamic=Event(value=bad)),
    ):
        with pytest.raises(SerializationError) as caught:
            event_to_json(event)
        assert len(caught.value.keys) == 1
    fine = Measured(label="NaN or Infinity", note=None)
    assert event_from_json(Measured, event_to_json(fine)) == fine


@pytest.mark.parametrize("text", [b'{"x":1,"z":NaN}', b'{"x":1,"z":[1e999]}', '{"x":1,"z":-Infinity}'])
def test_nan_and_infinities_are_refused_on_the_way_in(text: bytes | str) -> None:
    with pytest.raises(ValidationError) as caught:
        event_from_json(Point, text)
    assert [error["loc"] for error in caught.value.errors()] == [("z",)]
    assert caught.value.errors()[0]["type"] == "finite_number"


@pytest.mark.parametrize("text", [b"", b"{", b"[]", b"3", b'{"y":1}', b'{"x":"many"}', b"\xff"])
def test_bad_wire_json_is_a_validation_error(text: bytes) -> None:
    with pytest.raises(ValidationError):
        event_from_json(Point, text)


def test_a_mapping_that_is_not_json_is_refused() -> None:
    with pytest.raises(SerializationError, match="Point"):
        event_from_json(Point, {"x": 1, "z": Opaque()})


def test_the_wire_cannot_set_private_attributes() -> None:
    event = event_from_json(WithPrivate, b'{"name":"n","_secret":"forged"}')
    assert event._secret == "none"


def test_the_wire_does_not_reach_methods() -> None:
    event = event_from_json(Event, b'{"model_dump":1,"get":2}')
    assert event["model_dump"] == 1
    assert event.model_dump() == {"_data": {"model_dump": 1, "get": 2}}
