"""What a field holds is accepted for it, without the author's validators: for all the types that pydantic knows."""

from __future__ import annotations

import enum
import re
from collections import Counter, OrderedDict, defaultdict, deque
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import date, datetime, time, timedelta
from decimal import Decimal
from fractions import Fraction
from ipaddress import IPv4Address, IPv4Network
from pathlib import Path
from typing import Annotated, Any, Literal, NamedTuple
from uuid import UUID

import pytest
from pydantic import (
    AfterValidator,
    AnyUrl,
    Base64Bytes,
    Base64Str,
    BaseModel,
    BeforeValidator,
    ByteSize,
    Field,
    HttpUrl,
    Json,
    PlainValidator,
    PositiveInt,
    PostgresDsn,
    RootModel,
    SecretStr,
    ValidationError,
    create_model,
)
from typing_extensions import TypedDict

from stepwire.workflow.codec.schemas import held


class Kind(enum.Enum):
    A = 1


@dataclass
class Point:
    x: int = 1


class Pair(NamedTuple):
    a: int = 1


class Keys(TypedDict, total=False):
    a: int


class Inner(BaseModel):
    a: int = 1


class Root(RootModel[list[int]]):
    pass


TYPES: list[Any] = [
    (int, 1), (float, 1), (str, "a"), (bool, True), (bytes, b"a"), (Decimal, "1"), (datetime, "2020-01-01T00:00:00"),
    (date, "2020-01-01"), (time, "10:00"), (timedelta, 3), (UUID, str(UUID(int=4))), (Path, "a"), (complex, 1 + 2j),
    (IPv4Address, "1.2.3.4"), (IPv4Network, "1.0.0.0/8"), (AnyUrl, "http://a"), (HttpUrl, "http://a"),
    (PostgresDsn, "postgres://a@b/c"), (SecretStr, "x"), (Json, '{"a":1}'), (Json[list[int]], "[1]"),
    (Base64Bytes, b"aGk="), (Base64Str, "aGk="), (ByteSize, "1KB"), (PositiveInt, 3), (Fraction, "1/2"),
    (list[int], (1, 2)), (tuple[int, ...], [1]), (tuple[int, str], [1, "a"]), (set[int], [1]), (frozenset[int], [1]),
    (dict[str, int], {"a": "1"}), (deque[int], [1]), (defaultdict[str, int], {"a": 1}),
    (OrderedDict[str, int], {"a": 1}),
    (Counter[str], {"a": 1}), (Sequence[int], [1]), (Sequence[int], (1,)), (Mapping[str, int], {"a": 1}),
    (Iterable[int], [1]), (Literal["a"], "a"), (int | None, None), (int | str, "a"), (Kind, 1), (Point, {"x": 2}),
    (Pair, [1]), (Keys, {"a": 1}), (Inner, {"a": 1}), (Root, [1]), (re.Pattern, "a"),
    pytest.param(Any, object(), id="any"),
    (type[int], bool),
    (Callable[[], None], print), (list[dict[str, AnyUrl]], [{"a": "http://x"}]),
    (Annotated[str, AfterValidator(str.upper)], "a"),
    (Annotated[list[str], BeforeValidator(lambda text: text.split(","))], "a,b"),
    (Annotated[int, PlainValidator(str)], 1),
]  # fmt: skip


@pytest.mark.parametrize(("annotation", "given"), TYPES, ids=lambda each: str(each)[:25])
def test_what_validation_made_is_what_the_field_holds(annotation: Any, given: Any) -> None:
    cls: Any = create_model("Holder", a=(annotation, ...))
    value = vars(cls(a=given))["a"]
    assert held(cls).validate_python({"a": value}, strict=True).keys() == {"a"}


@pytest.mark.parametrize(
    ("annotation", "value"),
    [
        (int, "1"),
        (str, 1),
        (list[int], (1,)),
        (datetime, "2020-01-01"),
        (Inner, {"a": 1}),
        (Kind, 1),
        (PositiveInt, -1),
    ],
    ids=str,
)
def test_what_only_validation_could_make_fit_is_not_what_it_holds(annotation: Any, value: Any) -> None:
    cls: Any = create_model("Holder", a=(annotation, Field(default=None)))
    with pytest.raises(ValidationError):
        held(cls).validate_python({"a": value}, strict=True)
