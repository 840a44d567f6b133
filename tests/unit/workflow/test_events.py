from __future__ import annotations

import copy
import json
import pickle
from datetime import UTC, datetime
from typing import Any

import pytest
from pydantic import ConfigDict, ValidationError
from tests.unit.workflow.some_events import Holder, Opaque, Point, WithPrivate

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
