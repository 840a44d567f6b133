"""Values of the standard library's types: dataclasses, named tuples, deques."""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass, field
from datetime import date, datetime, timedelta
from typing import Any, NamedTuple
from uuid import UUID
from zoneinfo import ZoneInfo

import pytest
from tests.unit.workflow.coded import (
    NAMES,
    Colour,
    Inner,
    identical,
)

from stepwire.workflow.codec.decoder import decode
from stepwire.workflow.codec.encoder import encode
from stepwire.workflow.codec.structure import same
from stepwire.workflow.definition.types import TypeRegistry
from stepwire.workflow.errors import SerializationError, SnapshotError


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
