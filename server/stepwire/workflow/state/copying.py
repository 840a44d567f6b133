"""Take states apart and copy them."""

from __future__ import annotations

import copy
from collections import deque
from dataclasses import is_dataclass
from datetime import date, datetime, time, timedelta
from decimal import Decimal
from enum import Enum
from types import NoneType
from typing import Any, TypeVar
from uuid import UUID

from pydantic import BaseModel

from stepwire.workflow.codec.models import rebuild

__all__ = ["copy_state", "is_mutable", "saved_values_of", "values_of"]

M = TypeVar("M", bound=BaseModel)
Memo = dict[int, Any]

_IMMUTABLE = frozenset(
    {NoneType, bool, int, float, complex, str, bytes} | {datetime, date, time, timedelta, Decimal, UUID}
)


def is_mutable(value: Any) -> bool:
    """Return whether someone who holds `value` could change it in place."""
    cls = type(value)
    if cls in _IMMUTABLE or isinstance(value, Enum):
        return False
    if cls is tuple or cls is frozenset:
        return any(map(is_mutable, value))
    return True


def values_of(state: BaseModel) -> dict[str, Any]:
    """Return the live top-level values: declared fields, then dynamic ones."""
    declared = type(state).__pydantic_fields__
    values = {key: value for key, value in state.__dict__.items() if key in declared}
    if state.__pydantic_extra__:
        values.update(state.__pydantic_extra__)
    return values


def saved_values_of(state: BaseModel) -> dict[str, Any]:
    """Return what has to be saved of a state: its top-level values, then the private attributes that are set."""
    values = values_of(state)
    if state.__pydantic_private__:
        values.update(state.__pydantic_private__)
    return values


def copy_state(state: M, memo: Memo | None = None) -> M:
    """Return a deep copy; an object inside it that cannot be copied is shared.

    So is one in a field with `exclude=True`, unless it is plain data: a client or a tokenizer, which a copy would cut
    off from what it belongs to.

    `memo` is filled with the copy of each object inside the state by the object's id, as `copy.deepcopy` does.
    """
    private = state.__pydantic_private__
    values = _copy_values({**values_of(state), **(private or {})}, {} if memo is None else memo)
    model = rebuild(
        type(state),
        {key: values.pop(key) for key in type(state).__pydantic_fields__ if key in values},
        {key: values.pop(key) for key in state.__pydantic_extra__ or ()},
        None if private is None else values,
        set(state.__pydantic_fields_set__),
    )
    assert isinstance(model, type(state))
    return model


def _copy_values(values: dict[str, Any], memo: Memo) -> dict[str, Any]:
    whole: Memo = {}
    for value in values.values():
        if isinstance(value, BaseModel):
            _share_handles(value, whole)
    memo.update(whole)
    try:
        copied = copy.deepcopy(values, whole)
    except Exception:  # noqa: BLE001 - __deepcopy__ is the author's code; see below
        return {key: _copy_around(value, memo) for key, value in values.items()}
    memo.update(whole)
    return copied


_DATA = (dict, list, tuple, set, frozenset, deque, bytearray, BaseModel)


def _share_handles(model: BaseModel, memo: Memo, seen: set[int] | None = None) -> None:
    """Have `copy.deepcopy` share what fields with `exclude=True` hold, unless it is plain data."""
    seen = set() if seen is None else seen
    if id(model) in seen:
        return
    seen.add(id(model))
    declared = type(model).__pydantic_fields__
    for name, value in model.__dict__.items():
        if isinstance(value, BaseModel):
            _share_handles(value, memo, seen)
        elif isinstance(value, list):
            for item in value:
                if isinstance(item, BaseModel):
                    _share_handles(item, memo, seen)
        elif name in declared and declared[name].exclude and not (isinstance(value, _DATA) or is_dataclass(value)):
            memo[id(value)] = value


def _copy_around(value: Any, memo: Memo) -> Any:
    """Return a deep copy that shares what cannot be copied, and nothing else.

    In process a state may hold a client, a lock or a file; 1.x let them be. What lies beside them is copied.
    """
    if id(value) in memo:
        return memo[id(value)]
    cls = type(value)
    made: Any
    if cls is dict:
        made = memo[id(value)] = {}
        made.update((key, _copy_around(item, memo)) for key, item in value.items())
    elif cls is list:
        made = memo[id(value)] = []
        made.extend(_copy_around(item, memo) for item in value)
    elif cls is tuple:
        made = memo[id(value)] = tuple(_copy_around(item, memo) for item in value)
    elif isinstance(value, BaseModel) and cls.__deepcopy__ is BaseModel.__deepcopy__:
        made = memo[id(value)] = rebuild(cls, {}, {}, {}, set(value.__pydantic_fields_set__))
        for home in ("__dict__", "__pydantic_extra__", "__pydantic_private__"):
            parts = getattr(value, home)
            copied = None if parts is None else {key: _copy_around(item, memo) for key, item in parts.items()}
            object.__setattr__(made, home, copied)
    else:
        # A memo of its own: that of a failed copy holds half-made objects.
        try:
            made = memo[id(value)] = copy.deepcopy(value, {})
        except Exception:  # noqa: BLE001 - as above
            return value
    return made
