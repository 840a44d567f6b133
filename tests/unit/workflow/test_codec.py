from __future__ import annotations

import contextlib
import enum
import json
from collections import OrderedDict, defaultdict, deque
from dataclasses import dataclass, field
from datetime import UTC, date, datetime, time, timedelta, timezone
from decimal import Decimal
from functools import cached_property
from typing import Any, NamedTuple
from uuid import UUID
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import BaseModel, ConfigDict, Field, PrivateAttr, RootModel, field_validator

from stepwire.workflow.codec.decoder import decode, from_tagged
from stepwire.workflow.codec.encoder import encode, encode_keys, to_tagged
from stepwire.workflow.codec.limits import MAX_DEPTH
from stepwire.workflow.codec.structure import same
from stepwire.workflow.definition.types import TypeRegistry
from stepwire.workflow.errors import SerializationError, SnapshotError, UnknownTypeError
from stepwire.workflow.events import Event, StepFailedEvent, StopEvent


class Colour(enum.Enum):
    RED = "red"
    BLUE = 2


class Level(enum.IntEnum):
    LOW = 1


class Right(enum.Flag):
    READ = 1
    WRITE = 2


class Inner(BaseModel):
    x: int = 0
    tags: set[str] = set()


class Box(BaseModel):
    model_config = ConfigDict(arbitrary_types_allowed=True, extra="allow")
    name: str = Field(default="box", alias="boxName", validate_default=True)
    inner: Inner | None = None
    anything: Any = None
    _secret: Any = PrivateAttr(default=None)
    _unset: int

    model_config["populate_by_name"] = True

    @cached_property
    def loud(self) -> str:
        return self.name.upper()


class Numbers(RootModel[list[int]]):
    pass


class Ping(Event):
    number: int = 0
    payload: Any = None
    _private: Any = PrivateAttr(default=None)


class Doubled(BaseModel):
    n: int

    @field_validator("n")
    @classmethod
    def _double(cls, n: int) -> int:
        return 2 * n


NAMES = TypeRegistry([Colour, Level, Right, Inner, Box, Numbers, Ping, Doubled, Event, StopEvent, StepFailedEvent])

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


def canonical(value: Any) -> str:
    """Show a hashable value so that the order of a set does not matter."""
    if isinstance(value, tuple):
        return f"({', '.join(map(canonical, value))})"
    if isinstance(value, frozenset):
        return f"{{{', '.join(sorted(map(canonical, value)))}}}"
    return repr(value)


def identical(one: Any, other: Any) -> bool:
    """Equal, and of the same types all the way down, and with the same zones and signs."""
    if type(one) is not type(other):
        return False
    if isinstance(one, dict):
        return len(one) == len(other) and all(identical(a, b) for a, b in zip(one.items(), other.items(), strict=True))
    if isinstance(one, list | tuple):
        return len(one) == len(other) and all(map(identical, one, other))
    if isinstance(one, set | frozenset):
        return one == other and sorted(map(canonical, one)) == sorted(map(canonical, other))
    if isinstance(one, BaseModel):
        return (
            {k: v for k, v in one.__dict__.items() if k in type(one).model_fields}.keys()
            == {k: v for k, v in other.__dict__.items() if k in type(one).model_fields}.keys()
            and all(identical(one.__dict__[k], other.__dict__[k]) for k in type(one).model_fields)
            and identical(one.__pydantic_extra__, other.__pydantic_extra__)
            and identical(one.__pydantic_private__, other.__pydantic_private__)
            and one.__pydantic_fields_set__ == other.__pydantic_fields_set__
        )
    return bool(one == other) and repr(one) == repr(other)


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


def test_s21_the_deepest_models_come_back() -> None:
    event = Event()
    for _ in range(MAX_DEPTH - 1):
        event = Event(inner=event)
    assert decode(encode(event, NAMES), NAMES, validate=False) == event


def test_s21_all_failing_keys_are_named_and_no_values() -> None:
    state = {"ok": 1, "first": object(), "second": {"in": [float("nan")]}, "third": Text("s3cret")}
    with pytest.raises(SerializationError) as caught:
        encode_keys(state, NAMES)
    assert caught.value.keys == ("first", "second.in.0", "third")
    for key in caught.value.keys:
        assert key in str(caught.value)
    assert "s3cret" not in str(caught.value)
    assert isinstance(caught.value, ValueError)


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


def test_a_live_exception_is_not_saved() -> None:
    failed = StepFailedEvent(step="s", error_type="E", message="m", attempts=1, event=Ping(number=2))
    failed.exception = RuntimeError("boom")
    back = decode(encode(failed, NAMES), NAMES)
    assert back.exception is None
    assert (back.step, back.event) == ("s", Ping(number=2))


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


@pytest.mark.parametrize("value", [deque([1, (2,)]), deque(maxlen=3), {"a": deque([b"x"], maxlen=1)}])
def test_a_deque_keeps_its_length_limit(value: Any) -> None:
    back = decode(encode(value, NAMES), NAMES)
    assert back == value
    found, was = (back, value) if isinstance(value, deque) else (back["a"], value["a"])
    assert found.maxlen == was.maxlen


@dataclass
class Slot:
    start: Any
    tries: int = field(default=0, init=False)


@dataclass(frozen=True, slots=True)
class Fixed:
    items: list[Any]


class Point(NamedTuple):
    x: Any
    y: Any = 0


@dataclass
class Sized(dict[str, int]):
    size: int = 0


RECORDS = TypeRegistry([Slot, Fixed, Point, Colour, Inner])
BERLIN = datetime(2026, 10, 25, 2, 30, fold=1, tzinfo=ZoneInfo("Europe/Berlin"))


def test_dataclasses_and_named_tuples_come_back_with_all_that_is_in_them() -> None:
    slot = Slot([BERLIN, Colour.RED, Inner(x=1)])
    slot.tries = 3
    slot.more = (1,)  # type: ignore[attr-defined]
    back = decode(encode([slot, Fixed([slot]), Point(BERLIN, slot)], RECORDS), RECORDS)
    assert same(back, [slot, Fixed([slot]), Point(BERLIN, slot)])


def test_a_dataclass_that_has_changed() -> None:
    @dataclass
    class Now:
        kept: int
        new: list[int] = field(default_factory=list)
        other: int = 5

    @dataclass
    class Later:
        kept: int
        required: int

    Now.__name__ = Later.__name__ = "Slot"
    data = b'{"$dataclass":["@Slot",{"kept":1}]}'
    assert decode(data, TypeRegistry([Now])) == Now(1)
    with pytest.raises(SnapshotError, match=r"required \(missing\)"):
        decode(data, TypeRegistry([Later]))


def test_dataclasses_that_are_more_than_their_attributes_are_refused() -> None:
    with pytest.raises(SerializationError):
        encode(Sized(), RECORDS)
    with pytest.raises(SerializationError, match="not among the types"):
        encode(Slot(1), NAMES)


@pytest.mark.parametrize(
    "data",
    [
        b'{"$dataclass":["Inner",{}]}',
        b'{"$dataclass":["@Inner",{}]}',
        b'{"$dataclass":["@Point",{}]}',
        b'{"$dataclass":["@Slot",[]]}',
        b'{"$dataclass":["@Slot",{}]}',
        b'{"$namedtuple":["@Slot",[]]}',
        b'{"$namedtuple":["Inner",[]]}',
        b'{"$namedtuple":["@Point",[1]]}',
    ],
)
def test_malformed_records_are_snapshot_errors(data: bytes) -> None:
    with pytest.raises(SnapshotError):
        decode(data, RECORDS)


def test_uuid_and_date_are_what_they_were() -> None:
    value = [UUID(int=5), date(2024, 2, 29), timedelta(days=-1, microseconds=3), bytearray(b"\x00")]
    assert identical(decode(encode(value, NAMES), NAMES), value)
