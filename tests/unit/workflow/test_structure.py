from __future__ import annotations

import copy
import enum
import re
import threading
from collections import Counter, OrderedDict, defaultdict, deque
from dataclasses import dataclass
from datetime import UTC, date, datetime, time, timedelta, timezone
from decimal import Decimal
from ipaddress import IPv4Address
from pathlib import Path
from typing import Any, NamedTuple
from zoneinfo import ZoneInfo

import pytest
from pydantic import BaseModel, ConfigDict, PrivateAttr, SecretStr
from pydantic_core import TzInfo

from stepwire.workflow.codec.structure import same


class Word(enum.StrEnum):
    A = "a"


class Right(enum.Flag):
    READ = 1
    WRITE = 2


class Plain:
    def __init__(self, inside: Any) -> None:
        self.inside = inside


class Slotted:
    __slots__ = ("inside",)

    def __init__(self, inside: Any) -> None:
        self.inside = inside


@dataclass(eq=False)
class ById:
    name: Any


class Pair(NamedTuple):
    one: Any


class Model(BaseModel):
    model_config = ConfigDict(extra="allow")
    x: Any = 0
    _private: Any = PrivateAttr(default=0)


def model(x: Any = 0, private: Any = 0, **extra: Any) -> Model:
    made = Model(x=x, **extra)
    made._private = private
    return made


NOON = datetime(2026, 10, 25, 2, 30)  # noqa: DTZ001 - without a zone

ALIKE = [
    1, True, None, "a", b"a", 1.5, -0.0, Decimal("1.0"), NOON, NOON.replace(fold=1), NOON.replace(tzinfo=UTC),
    NOON.replace(tzinfo=ZoneInfo("Europe/Oslo")), time(1, fold=1), date(2026, 1, 1), timedelta(1), Word.A,
    Right.READ | Right.WRITE, [1, [2]], (1, (2,)), {1, (2,)}, frozenset({"a"}), {"a": {1: 2}}, deque([1], 2),
    defaultdict(list, a=[1]), OrderedDict(a=1), Counter("aab"), Path("/a/b"), IPv4Address("1.2.3.4"), SecretStr("s"),
    re.compile("a+"), range(3), 1 + 2j, Plain([1, Plain(2)]), Slotted({"a": 1}), ById(1), Pair([1]),
    model([1], {"p": 1}, more=(1,)), Plain(model()), bytearray(b"x"), Right.READ,
]  # fmt: skip


@pytest.mark.parametrize("value", ALIKE, ids=lambda value: type(value).__name__)
def test_a_deep_copy_is_the_same(value: Any) -> None:
    assert same(value, copy.deepcopy(value))
    assert same([value, {"k": value}], copy.deepcopy([value, {"k": value}]))


UNLIKE: list[tuple[Any, Any]] = [
    (1, True), (1, 1.0), (0.0, -0.0), ("a", Word.A), ([1], (1,)), ({1}, {True}), ({1: 2}, {True: 2}), ({1}, {2}),
    ({"a": 1, "b": 2}, {"b": 2, "a": 1}), (Decimal("1"), Decimal("1.0")), (NOON, NOON.replace(fold=1)),
    (NOON.replace(tzinfo=ZoneInfo("Europe/Oslo")), NOON.replace(tzinfo=ZoneInfo("Europe/Berlin"))),
    (NOON.replace(tzinfo=timezone(timedelta(hours=1))), NOON.replace(tzinfo=timezone(timedelta(hours=1), "X"))),
    (deque([1]), deque([1], 3)), (defaultdict(list), defaultdict(set)), (defaultdict(list), {}),
    (OrderedDict(a=1), {"a": 1}), (OrderedDict(a=1, b=2), OrderedDict(b=2, a=1)), (Path("a"), Path("b")),
    (Plain(1), Plain(2)), (Plain(1), Plain(True)), (Slotted(1), Slotted(2)), (ById(1), ById(2)),
    (ById(0.0), ById(-0.0)),
    (Pair(1), (1,)), (Pair(1), Pair(True)), (model(1), model(2)), (model(), model(private=1)), (model(), model(more=1)),
    (Model(), Model(x=0)), (Model, Plain), (SecretStr("a"), SecretStr("b")), (range(3), range(4)),
    (re.compile("a"), re.compile("a", re.IGNORECASE)), (threading.Lock(), threading.Lock()), (Right.READ, Right.WRITE),
]  # fmt: skip


@pytest.mark.parametrize(("one", "other"), UNLIKE, ids=lambda value: repr(value)[:20])
def test_what_equality_does_not_see(one: Any, other: Any) -> None:
    assert not same(one, other)
    assert not same(other, one)
    assert not same({"k": [one]}, {"k": [other]})


def test_fixed_offsets_are_the_same_in_either_class() -> None:
    assert same(NOON.replace(tzinfo=UTC), NOON.replace(tzinfo=TzInfo(0)))


def test_objects_that_nothing_can_look_into_are_for_the_caller_to_compare() -> None:
    one, other = Plain(threading.Lock()), Plain(threading.Lock())
    assert not same(one, other)
    assert same(one, other, lambda left, right: True)
    assert not same(one, Plain(1), lambda left, right: True)


def test_what_contains_itself_is_not_certain() -> None:
    one: list[Any] = []
    one.append(one)
    other: list[Any] = []
    other.append(other)
    assert not same(one, other)
