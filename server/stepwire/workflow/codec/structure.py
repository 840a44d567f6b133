"""Compare values by what they are made of, because `==` does not see everything that a restore could lose.

`==` takes 1 for True, 0.0 for -0.0 and two zones for one; it does not look at the length limit of a deque, the factory
of a defaultdict, or private attributes; and an object may be equal to itself only.
"""

from __future__ import annotations

import copyreg
import math
from collections import defaultdict, deque
from collections.abc import Callable
from datetime import date, datetime, time, timedelta, timezone
from decimal import Decimal
from enum import Enum, Flag
from types import NoneType
from typing import Any
from uuid import UUID
from zoneinfo import ZoneInfo

from pydantic import BaseModel
from pydantic_core import TzInfo

__all__ = ["same"]

Same = Callable[[Any, Any], bool]
_Compare = Callable[[Any, Any, Same], bool]


def same(one: Any, other: Any, opaque: Same | None = None) -> bool:
    """Return whether two values are equal in value and type all the way down.

    Args:
        one: A value.
        other: The value to compare it with.
        opaque: Decides about two objects of one class whose inside cannot be told; by default they differ.

    Returns:
        False whenever the answer is not certain.
    """

    def compare(left: Any, right: Any) -> bool:
        if left is right:
            return True
        cls = type(left)
        if cls is not type(right):
            return False
        if cls in _EQUAL_IS_SAME:
            return bool(left == right)
        by_type = _COMPARE.get(cls)
        if by_type is not None:
            return by_type(left, right, compare)
        if isinstance(left, BaseModel):
            return _models(left, right, compare)
        if isinstance(left, Enum):
            return isinstance(left, Flag) and left.value == right.value
        if isinstance(left, type):
            return False
        return _objects(left, right, compare, opaque)

    try:
        return compare(one, other)
    except RecursionError:  # something that contains itself
        return False


def _floats(one: float, other: float, compare: Same) -> bool:
    return one == other and math.copysign(1, one) == math.copysign(1, other)


def _decimals(one: Decimal, other: Decimal, compare: Same) -> bool:
    return one.as_tuple() == other.as_tuple()


def _clocks(one: Any, other: Any, compare: Same) -> bool:
    if one.fold != other.fold or one.replace(tzinfo=None) != other.replace(tzinfo=None):
        return False
    return _zones(one.tzinfo, other.tzinfo)


def _zones(one: Any, other: Any) -> bool:
    if one is other:
        return True
    if type(one) in _FIXED and type(other) in _FIXED:  # a fixed offset behaves the same in either class
        return bool(one.utcoffset(None) == other.utcoffset(None)) and bool(one.tzname(None) == other.tzname(None))
    # A zone that was read from a file has no key.
    return isinstance(one, ZoneInfo) and isinstance(other, ZoneInfo) and bool(one.key) and one.key == other.key


def _sequences(one: Any, other: Any, compare: Same) -> bool:
    return len(one) == len(other) and all(map(compare, one, other))


def _deques(one: deque[Any], other: deque[Any], compare: Same) -> bool:
    return one.maxlen == other.maxlen and _sequences(one, other, compare)


def _dicts(one: dict[Any, Any], other: dict[Any, Any], compare: Same) -> bool:
    return _sequences(one, other, compare) and all(map(compare, one.values(), other.values()))


def _defaultdicts(one: defaultdict[Any, Any], other: defaultdict[Any, Any], compare: Same) -> bool:
    return one.default_factory is other.default_factory and _dicts(one, other, compare)


def _sets(one: Any, other: Any, compare: Same) -> bool:
    if len(one) != len(other):
        return False
    # By equality first, which says which item to compare with which.
    others = {item: item for item in other}
    missing = object()
    return all(compare(item, others.get(item, missing)) for item in one)


def _models(one: BaseModel, other: BaseModel, compare: Same) -> bool:
    declared = type(one).__pydantic_fields__
    left, right = one.__dict__, other.__dict__  # they hold cached properties too
    absent = object()
    return (
        one.__pydantic_fields_set__ == other.__pydantic_fields_set__
        and all(
            compare(left.get(key, absent), right.get(key, absent)) for key in declared if key in left or key in right
        )
        and compare(one.__pydantic_extra__, other.__pydantic_extra__)
        and compare(one.__pydantic_private__, other.__pydantic_private__)
    )


def _objects(one: Any, other: Any, compare: Same, opaque: Same | None) -> bool:
    """Compare by what `copy` and `pickle` would take out of the objects."""
    cls = type(one)
    reduce = copyreg.dispatch_table.get(cls)
    try:
        left, right = [each.__reduce_ex__(4) if reduce is None else reduce(each) for each in (one, other)]
    except Exception:  # noqa: BLE001 - `__reduce_ex__` may be the author's code, and most locks and clients refuse
        return opaque is not None and opaque(one, other)
    if isinstance(left, str) or isinstance(right, str):
        return bool(left == right)
    return all(map(compare, _parts(left), _parts(right)))


def _parts(reduced: Any) -> list[Any]:
    """Return what `__reduce_ex__` returned, its iterators of items as lists."""
    parts = [*reduced, *(None,) * (6 - len(reduced))]
    for at in (3, 4):
        if parts[at] is not None:
            parts[at] = list(parts[at])
    return parts


_FIXED = (timezone, TzInfo)
_EQUAL_IS_SAME = frozenset({int, bool, NoneType, str, bytes, bytearray, UUID, timedelta, date})
_COMPARE: dict[type, _Compare] = {
    float: _floats,
    Decimal: _decimals,
    datetime: _clocks,
    time: _clocks,
    list: _sequences,
    tuple: _sequences,
    deque: _deques,
    dict: _dicts,
    defaultdict: _defaultdicts,
    set: _sets,
    frozenset: _sets,
}
