from __future__ import annotations

import copy
import json
import pickle
from datetime import UTC, datetime
from decimal import Decimal
from enum import Enum
from typing import Annotated, Any
from uuid import UUID

import pytest
from pydantic import BaseModel, ConfigDict, Field, PlainSerializer, PrivateAttr, ValidationError

from stepwire.workflow.errors import SerializationError
from stepwire.workflow.events import (
    Event,
    HumanResponseEvent,
    InputRequiredEvent,
    StartEvent,
    StepFailedEvent,
    StopEvent,
    WorkflowCancelledEvent,
    WorkflowFailedEvent,
    WorkflowTimedOutEvent,
    event_from_json,
    event_to_json,
)


class Point(Event):
    x: int
    y: int = 0


class WithPrivate(Event):
    name: str
    _secret: str = PrivateAttr(default="none")


class Holder(Event):
    inner: Event
    more: list[Event] = Field(default_factory=list)


class Note(BaseModel):
    text: str
    weight: float = 1.0


class Colour(Enum):
    RED = "red"


class Opaque:
    """Has no JSON form."""


# --- construction and dict-likeness -----------------------------------------------------------


def test_undeclared_arguments_are_dynamic_fields() -> None:
    event = Point(x=1, topic="cats")
    assert (event.x, event.y, event.topic) == (1, 0, "cats")
    assert event._data == {"topic": "cats"}


def test_an_unknown_attribute_is_an_attribute_error() -> None:
    with pytest.raises(AttributeError, match="nothing"):
        _ = Event().nothing
    assert not hasattr(Event(), "nothing")


def test_declared_fields_are_validated() -> None:
    assert Point(x="3").x == 3
    with pytest.raises(ValidationError):
        Point()  # type: ignore[call-arg]


def test_assignment_goes_to_fields_or_to_data() -> None:
    event = Point(x=1)
    event.y = 5
    event.topic = "dogs"
    event.items = "a key like any other"  # type: ignore[method-assign,assignment]
    event._under = 1
    assert event.y == 5
    assert event._data == {"topic": "dogs", "items": "a key like any other", "_under": 1}
    assert event["items"] == "a key like any other"
    assert list(event.items()) == list(event._data.items())


def test_dict_like_over_dynamic_fields_only() -> None:
    event = Point(x=1, a=1, b=2)
    event["c"] = 3
    assert event["a"] == 1
    assert event.get("b") == 2
    assert event.get("zzz") is None
    assert event.get("zzz", 9) == 9
    assert "c" in event
    assert "x" not in event
    assert list(event) == list(event.keys()) == ["a", "b", "c"]
    assert list(event.values()) == [1, 2, 3]
    assert len(event) == 3
    assert event.to_dict() == {"a": 1, "b": 2, "c": 3}
    with pytest.raises(KeyError):
        _ = event["zzz"]


def test_an_event_without_dynamic_fields_is_true() -> None:
    assert len(Event()) == 0
    assert bool(Event()) is True


def test_to_dict_is_a_copy_and_data_is_live() -> None:
    event = Event(a=1)
    event.to_dict()["b"] = 2
    assert "b" not in event
    event._data["b"] = 2
    assert event.b == 2
    event._data = {"only": 1}
    assert event.to_dict() == {"only": 1}


def test_private_attributes_and_data_are_taken_by_name() -> None:
    event = WithPrivate(name="n", _secret="s", _data={"k": 1}, other=2)
    assert event._secret == "s"
    assert event._data == {"k": 1}
    assert WithPrivate(name="n")._secret == "none"


def test_a_default_is_not_shared_between_events() -> None:
    first, second = WorkflowTimedOutEvent(timeout=1), WorkflowTimedOutEvent(timeout=1)
    first.active_steps.append("a")
    assert second.active_steps == []


def test_arbitrary_types_are_kept_as_they_are() -> None:
    class Wrapper(Event):
        thing: Opaque

    thing = Opaque()
    assert Wrapper(thing=thing).thing is thing
    assert Event(thing=thing).thing is thing


def test_a_frozen_event_stays_frozen() -> None:
    class Frozen(Event):
        model_config = ConfigDict(frozen=True)
        a: int

    event: Any = Frozen(a=1, b=2)
    with pytest.raises(ValidationError):
        event.a = 2
    with pytest.raises(ValidationError):
        event.b = 3
    assert (event.a, event.b) == (1, 2)


def test_a_subclass_may_forbid_dynamic_fields() -> None:
    class Strict(Event):
        model_config = ConfigDict(extra="forbid")
        a: int

    with pytest.raises(ValidationError):
        Strict(a=1, b=2)  # type: ignore[call-arg]
    event = Strict(a=1)
    assert event._data == {}
    assert len(event) == 0
    with pytest.raises(ValueError, match="b"):
        event.b = 2


def test_a_property_with_a_setter_is_used() -> None:
    class Renamed(Event):
        a: int

        @property
        def b(self) -> int:
            return self.a

        @b.setter
        def b(self, value: int) -> None:
            self.a = value

    event = Renamed(a=1)
    event.b = 7
    assert event.a == 7
    assert event._data == {}


def test_equality_is_by_value_and_copies_are_equal() -> None:
    event = Point(x=1, topic=["cats"])
    assert event == Point(x=1, topic=["cats"])
    assert event != Point(x=1, topic=["dogs"])
    assert event != Point(x=1)
    for twin in (copy.deepcopy(event), pickle.loads(pickle.dumps(event)), event.model_copy()):
        assert twin == event
        assert type(twin) is Point


# --- model_dump -------------------------------------------------------------------------------


def test_model_dump_holds_data_when_there_is_any() -> None:
    assert Point(x=1).model_dump() == {"x": 1, "y": 0}
    assert Point(x=1, z=2).model_dump() == {"x": 1, "y": 0, "_data": {"z": 2}}
    assert json.loads(Point(x=1, z=2).model_dump_json()) == {"x": 1, "y": 0, "_data": {"z": 2}}


def test_model_dump_takes_pydantics_arguments() -> None:
    event = Point(x=1, at=datetime(2024, 1, 2, tzinfo=UTC))
    assert event.model_dump(mode="json", exclude={"y"}) == {
        "x": 1,
        "_data": {"at": "2024-01-02T00:00:00Z"},
    }
    assert event.model_dump(include={"x"}) == {"x": 1}
    assert event.model_dump_json(include={"x"}, indent=1) == '{\n "x": 1\n}'


def test_what_model_dump_wrote_can_be_read() -> None:
    event = Point(x=1, topic="cats")
    assert Point(**event.model_dump()) == event
    assert Point.model_validate(event.model_dump()) == event
    assert Point.model_validate_json(event.model_dump_json()) == event


def test_model_validate_leaves_an_event_as_it_is() -> None:
    event = Event(a=1)
    event["_data"] = {"b": 2}
    assert Event.model_validate(event) is event
    assert event["_data"] == {"b": 2}


def test_model_dump_of_a_nested_event_is_of_its_own_type() -> None:
    event = Holder(inner=Point(x=1, z=3))
    assert event.model_dump()["inner"] == {"x": 1, "y": 0, "z": 3}


# --- StopEvent --------------------------------------------------------------------------------


def test_stop_event_result() -> None:
    event = StopEvent(result=[1], why="done")
    assert event.result == [1]
    assert event.to_dict() == {"why": "done"}
    assert StopEvent().result is None


def test_s12_stop_event_result_survives_serialization() -> None:
    event = StopEvent(result={"a": [1, None]}, why="done")
    assert event.model_dump()["result"] == {"a": [1, None]}
    assert StopEvent(**event.model_dump()) == event
    assert event_from_json(StopEvent, event_to_json(event)) == event
    assert pickle.loads(pickle.dumps(event)) == event
    assert StopEvent().model_dump() == {"result": None}


def test_a_custom_stop_event_shows_an_inherited_result_only_when_it_is_set() -> None:
    class Done(StopEvent):
        total: int

    assert Done(total=1).model_dump() == {"total": 1}
    assert json.loads(event_to_json(Done(total=1))) == {"total": 1}
    assert Done(total=1, result=2).model_dump() == {"result": 2, "total": 1}
    assert json.loads(event_to_json(Done(total=1, result=2))) == {"result": 2, "total": 1}


def test_a_subclass_may_type_its_result() -> None:
    class Counted(StopEvent):
        result: int | None = 3

    assert Counted().result == 3
    assert Counted(result=None).model_dump() == {"result": None}
    with pytest.raises(ValidationError):
        Counted(result="many")


def test_get_result_may_be_overridden_and_is_inherited() -> None:
    class Doubled(StopEvent):
        n: int

        def _get_result(self) -> Any:
            return self.n * 2

    class Shifted(Doubled):
        by: int = 1

        def _get_result(self) -> Any:
            return super()._get_result() + self.by

    class Plain(Shifted):
        pass

    assert Doubled(n=2).result == 4
    assert Shifted(n=2).result == 5
    assert Plain(n=2, by=3).result == 7
    assert StopEvent(result=1).result == 1


def test_terminal_events_are_stop_events_with_their_reason() -> None:
    failed = WorkflowFailedEvent(step=None, error_type="ValueError", message="m", attempts=2)
    assert failed.model_dump() == {
        "step": None,
        "error_type": "ValueError",
        "message": "m",
        "attempts": 2,
        "reference": "",
    }
    assert WorkflowCancelledEvent().reason == ""
    assert WorkflowTimedOutEvent(timeout=1.5, active_steps=["a"]).timeout == 1.5
    for event in (failed, WorkflowCancelledEvent(), WorkflowTimedOutEvent(timeout=1)):
        assert isinstance(event, StopEvent)
        assert event.result is None
        assert event_from_json(type(event), event_to_json(event)) == event


def test_step_failed_event_carries_the_exception_in_process_only() -> None:
    error = ValueError("m")
    event = StepFailedEvent(
        step="s",
        error_type="ValueError",
        message="m",
        attempts=1,
        event=Point(x=1, z=2),
        _exception=error,
    )
    assert event.exception is error
    wire = json.loads(event_to_json(event))
    assert wire == {
        "step": "s",
        "error_type": "ValueError",
        "message": "m",
        "attempts": 1,
        "event": {"x": 1, "y": 0, "z": 2},
    }
    restored = event_from_json(StepFailedEvent, wire)
    assert restored.exception is None
    restored.exception = error
    assert restored.exception is error
    assert restored._data == {}


@pytest.mark.parametrize("cls", [StartEvent, StopEvent, InputRequiredEvent, HumanResponseEvent])
def test_every_kind_takes_dynamic_fields(cls: type[Event]) -> None:
    assert cls(prefix="p").prefix == "p"


# --- the wire ---------------------------------------------------------------------------------


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
