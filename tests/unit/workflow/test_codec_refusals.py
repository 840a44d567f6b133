"""What cannot be saved, and what is no saved value."""

from __future__ import annotations

import enum
import json
from collections import OrderedDict, defaultdict
from decimal import Decimal
from typing import Any

import pytest
from pydantic import BaseModel
from tests.unit.workflow.coded import (
    NAMES,
    Doubled,
    Ping,
)

from stepwire.workflow.codec.decoder import decode
from stepwire.workflow.codec.encoder import encode, encode_keys
from stepwire.workflow.codec.limits import MAX_DEPTH
from stepwire.workflow.errors import SerializationError, SnapshotError, UnknownTypeError
from stepwire.workflow.events import StepFailedEvent


class Text(str):
    __slots__ = ()


class Unregistered(BaseModel):
    x: int = 1


def _cycle() -> list[Any]:
    cycle: list[Any] = []
    cycle.append({"again": cycle, "and": cycle})
    return cycle


@pytest.mark.parametrize(
    ("value", "path"),
    [
        ({"a": {"b": [0, float("nan")]}}, "a.b.1"),
        ({"a": float("inf")}, "a"),
        ({"a": Decimal("NaN")}, "a"),
        ({"a": Decimal("-Infinity")}, "a"),
        ({"a": object()}, "a"),
        ({"a": lambda: None}, "a"),
        ({"a": Text("x")}, "a"),
        ({Text("a"): 1}, "<Text>"),
        ({"a": OrderedDict(x=1)}, "a"),
        ({"a": defaultdict(list)}, "a"),
        ({"a": 1 + 2j}, "a"),
        ({"a": Unregistered()}, "a"),
        ({"a": enum.Enum("Other", "X").X}, "a"),  # type: ignore[attr-defined]
        ({"a": [Ping(payload={"b": object()})]}, "a.0.payload.b"),
        ({"a": Ping(dyn=(1, object()))}, "a.dyn.1"),
        ({"a": "\ud800"}, "a"),
        ({"a": {"b": {"\ud800": 1}}}, "a.b.\ud800"),
        ({"a": [10**5000]}, "a.0"),
        ({"a": Doubled.model_construct()}, "a.n"),  # type: ignore[call-arg]
    ],
)
def test_s21_what_cannot_be_saved_is_refused_by_path(value: Any, path: str) -> None:
    with pytest.raises(SerializationError) as caught:
        encode(value, NAMES)
    assert caught.value.keys == (path,)
    with pytest.raises(SerializationError) as caught:
        encode_keys({"top": value, "fine": 1}, NAMES)
    assert caught.value.keys == (f"top.{path}",)


def test_s21_cycles_and_depth_are_refused() -> None:
    with pytest.raises(SerializationError, match="deep"):
        encode(_cycle(), NAMES)

    def nest(levels: int) -> Any:
        value: Any = 1
        for _ in range(levels):
            value = [value]
        return value

    assert decode(encode(nest(MAX_DEPTH), NAMES), NAMES) == nest(MAX_DEPTH)
    with pytest.raises(SerializationError, match="deep"):
        encode(nest(MAX_DEPTH + 1), NAMES)


def test_s21_all_failing_keys_are_named_and_no_values() -> None:
    state = {"ok": 1, "first": object(), "second": {"in": [float("nan")]}, "third": Text("s3cret")}
    with pytest.raises(SerializationError) as caught:
        encode_keys(state, NAMES)
    assert caught.value.keys == ("first", "second.in.0", "third")
    for key in caught.value.keys:
        assert key in str(caught.value)
    assert "s3cret" not in str(caught.value)
    assert isinstance(caught.value, ValueError)


def test_a_live_exception_is_not_saved() -> None:
    failed = StepFailedEvent(step="s", error_type="E", message="m", attempts=1, event=Ping(number=2))
    failed.exception = RuntimeError("boom")
    back = decode(encode(failed, NAMES), NAMES)
    assert back.exception is None
    assert (back.step, back.event) == ("s", Ping(number=2))


def test_decode_tells_which_fields_do_not_validate_and_no_values() -> None:
    data = b'{"$model":["Inner",{"x":"s3cret","tags":{"$set":[]}}]}'
    with pytest.raises(SnapshotError, match=r"Inner does not validate: x") as caught:
        decode(data, NAMES)
    assert "s3cret" not in str(caught.value)
    assert caught.value.__cause__ is None


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"nope",
        b"NaN",
        b"[Infinity]",
        b"\xff",
        b'{"$what":1}',
        b'{"$tuple":1}',
        b'{"$set":[[]]}',
        b'{"$deque":[1]}',
        b'{"$deque":[[1],"x"]}',
        b'{"$deque":[[1],-1]}',
        b'{"$dict":[[1]]}',
        b'{"$dict":[[[],1]]}',
        b'{"$bytes":"*"}',
        b'{"$bytes":1}',
        b'{"$datetime":"soon"}',
        b'{"$datetime":["2024-01-01T00:00:00","../../etc/passwd",0]}',
        b'{"$datetime":["2024-01-01T00:00:00",[1e30,"x"],0]}',
        b'{"$date":5}',
        b'{"$timedelta":[1,2]}',
        b'{"$timedelta":[999999999999,0,0]}',
        b'{"$decimal":"NaN"}',
        b'{"$decimal":"x"}',
        b'{"$uuid":"x"}',
        b'{"$enum":["Colour","GREEN"]}',
        b'{"$enum":["Colour",[]]}',
        b'{"$enum":["Inner","x"]}',
        b'{"$flag":["Right","x"]}',
        b'{"$flag":["Colour",1]}',
        b'{"$model":["Colour",{}]}',
        b'{"$model":["Inner"]}',
        b'{"$model":["Inner",[]]}',
        b'{"$model":["Inner",{"x":1,"tags":[]},{"other":1}]}',
        b'{"$model":[1,{}]}',
        b'{"$component":["Inner",{}]}',
        b"[" * 5000 + b"]" * 5000,
        b"1" * 5000,
    ],
)
def test_s21_malformed_payloads_are_snapshot_errors(data: bytes) -> None:
    for validate in (True, False):
        with pytest.raises(SnapshotError):
            decode(data, NAMES, validate=validate)


def test_s22_a_payload_cannot_name_a_type_that_is_not_registered() -> None:
    for name in ("Unregistered", "builtins.dict", "os.system", "stepwire.workflow.events.Event"):
        with pytest.raises(UnknownTypeError) as caught:
            decode(json.dumps({"$model": [name, {}]}), NAMES)
        assert caught.value.type_name == name
