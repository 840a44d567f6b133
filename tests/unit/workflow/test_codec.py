from __future__ import annotations

import contextlib
import json
from datetime import UTC, datetime, time, timedelta, timezone
from typing import Any
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import BaseModel
from tests.unit.workflow.coded import (
    NAMES,
    Box,
    Colour,
    Doubled,
    Inner,
    Level,
    Numbers,
    Ping,
    Right,
    identical,
)

from stepwire.workflow.codec.decoder import decode, from_tagged
from stepwire.workflow.codec.encoder import encode, encode_keys, to_tagged
from stepwire.workflow.codec.limits import MAX_DEPTH
from stepwire.workflow.definition.types import TypeRegistry
from stepwire.workflow.errors import SerializationError, SnapshotError
from stepwire.workflow.events import Event, StopEvent

zones = st.sampled_from([None, UTC, timezone(timedelta(hours=-3, minutes=-30)), ZoneInfo("Europe/Berlin")])
text = st.text(max_size=8) | st.sampled_from(["$tuple", "$model", "$", "_data", "$dict"])
atoms = (
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats(allow_nan=False, allow_infinity=False)
    | text
    | st.binary(max_size=8)
    | st.datetimes(timezones=zones, allow_imaginary=False)
    | st.dates()
    | st.times()
    | st.timedeltas()
    | st.decimals(allow_nan=False, allow_infinity=False)
    | st.uuids()
    | st.sampled_from([Colour.RED, Colour.BLUE, Level.LOW, Right.READ, Right.READ | Right.WRITE])
)
hashable = st.recursive(atoms, lambda inner: st.lists(inner, max_size=3).map(tuple) | st.frozensets(inner, max_size=3))


def _box(anything: Any, extra: dict[str, Any], secret: Any) -> Box:
    box = Box(anything=anything, inner=Inner(x=1, tags={"a"}))
    assert box.__pydantic_extra__ is not None
    box.__pydantic_extra__.update(extra)
    box._secret = secret
    return box


def _ping(payload: Any, dynamic: dict[str, Any], private: Any) -> Ping:
    ping = Ping(payload=payload)
    ping._data.update(dynamic)
    ping._private = private
    return ping


values = st.recursive(
    atoms | hashable,
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.lists(inner, max_size=3).map(tuple)
        | st.dictionaries(text, inner, max_size=3)
        | st.dictionaries(hashable, inner, max_size=3)
        | st.sets(hashable, max_size=3)
        | st.builds(_box, inner, st.dictionaries(st.sampled_from("pqr"), inner, max_size=2), inner)
        | st.builds(_ping, inner, st.dictionaries(text, inner, max_size=2), inner)
    ),
    max_leaves=8,
)


# Hypothesis would show the whole recursive strategy when it retries a draw.
@pytest.mark.filterwarnings("ignore:Generating overly large repr")
@settings(max_examples=200, deadline=None)
@given(value=values)
def test_s21_round_trip(value: Any) -> None:
    data = encode(value, NAMES)
    assert identical(decode(data, NAMES, validate=False), value)
    assert identical(decode(data, NAMES), value)
    assert identical(from_tagged(to_tagged(value, NAMES), NAMES), value)


@settings(max_examples=100, deadline=None)
@given(data=st.recursive(atoms, lambda i: st.lists(i) | st.dictionaries(text, i), max_leaves=6))
def test_s21_what_json_says_is_never_an_unexpected_error(data: Any) -> None:
    try:
        raw = json.dumps(data)
    except TypeError:
        return
    with contextlib.suppress(SnapshotError):
        decode(raw, NAMES)


@pytest.mark.parametrize(
    "value",
    [
        {"$tuple": [1]},
        {"$model": ["Ping", {}]},
        {"$dict": [[1, 2]]},
        {"$unknown": None},
        {"$": 1},
        {"a": {"$set": {"$set": []}}},
        {"$a": 1, "$b": 2},
        {1: "int", "1": "str", (2, 3): None, None: {}, Colour.RED: [b"x"]},
        {True: 1},
        {1.0: 1},
    ],
)
def test_s21_dicts_that_look_like_tags_come_back(value: Any) -> None:
    assert identical(decode(encode(value, NAMES), NAMES), value)


def test_s21_plain_json_is_itself() -> None:
    value = {"a": [1, 2.5, None, True, "é"], "b": {"c": {}}}
    assert json.loads(encode(value, NAMES)) == value
    assert encode(value, NAMES).decode() == '{"a":[1,2.5,null,true,"é"],"b":{"c":{}}}'


def test_s21_models_nest_with_their_own_type() -> None:
    event = Ping(payload=[Box(boxName="b", extra=Numbers([1])), StopEvent(result=Inner(x=3))], d=Inner())
    back = decode(encode(event, NAMES), NAMES)
    assert identical(back, event)
    assert type(back.payload[0]) is Box
    assert type(back.payload[1].result) is Inner
    assert type(back.d) is Inner


def test_s21_cached_properties_are_not_fields() -> None:
    box = Box(boxName="b")
    assert box.loud == "B"
    assert "loud" not in decode(encode(box, NAMES), NAMES, validate=False).__dict__


def test_s21_times_keep_zone_and_fold() -> None:
    berlin = datetime(2024, 10, 27, 2, 30, fold=1, tzinfo=ZoneInfo("Europe/Berlin"))
    named = datetime(2024, 1, 1, tzinfo=timezone(timedelta(hours=1), "XYZ"))
    naive = berlin.replace(tzinfo=None)
    for value in (berlin, named, naive, time(1, 2, tzinfo=UTC), time(1, fold=1)):
        back = decode(encode(value, NAMES), NAMES)
        assert (back, back.tzinfo, back.tzname(), back.fold) == (
            value,
            value.tzinfo,
            value.tzname(),
            value.fold,
        )

    class When(BaseModel):
        at: datetime

    at = When.model_validate_json('{"at": "2024-01-01T00:00:00+02:00"}').at  # pydantic's own zone
    back = decode(encode(at, NAMES), NAMES)
    assert (back, back.utcoffset()) == (at, timedelta(hours=2))


def test_s21_equal_sets_give_equal_bytes() -> None:
    items = ["a", "b", (1, 2), b"x", *range(100, 0, -7)]
    one, other = set(items), set()
    for item in reversed(items):
        other.add(item)
    assert encode(one, NAMES) == encode(other, NAMES)


def test_s21_the_deepest_models_come_back() -> None:
    event = Event()
    for _ in range(MAX_DEPTH - 1):
        event = Event(inner=event)
    assert decode(encode(event, NAMES), NAMES, validate=False) == event


def test_s21_encode_keys_encodes_each_value() -> None:
    encoded = encode_keys({"a": (1,), "b": "x"}, NAMES)
    assert encoded == {"a": b'{"$tuple":[1]}', "b": b'"x"'}


def test_s21_what_a_thread_changes_meanwhile_is_saved_after_all() -> None:
    class Busy(BaseModel):
        pass

    shared: dict[str, Any] = {"busy": Busy(), "x": 1}

    class Meddler(TypeRegistry):
        left = 2

        def name_of(self, cls: type) -> str:
            if self.left:  # as a thread would, between two items of the walk
                self.left -= 1
                shared[f"new{self.left}"] = self.left
            return super().name_of(cls)

    meddler = Meddler([Busy])
    assert decode(encode(shared, meddler), meddler) == shared
    assert shared.keys() == {"busy", "x", "new0", "new1"}
    meddler.left = 100
    with pytest.raises(SerializationError, match="changes while"):
        encode(shared, meddler)


@pytest.mark.parametrize("validate", [True, False])
def test_decode_runs_no_validator_over_a_value_that_fits(validate: bool) -> None:
    model = Doubled(n=2)
    assert model.n == 4
    assert decode(encode(model, NAMES), NAMES, validate=validate).n == 4


def test_decode_validates_what_newer_code_declares() -> None:
    class Old(Event):
        gone: int
        kept: int = 0

    class New(Event):
        kept: int = 0
        late: str = "default"
        now_declared: int

    Old.__name__ = New.__name__ = "Same"
    data = encode(Old(gone=1, kept=2, now_declared="3"), TypeRegistry([Old]))
    back = decode(data, TypeRegistry([New]), validate=False)
    assert (back.kept, back.late, back.now_declared, back.gone) == (2, "default", 3, 1)
