"""Copying, comparing and validating whole states."""

from __future__ import annotations

import copy
from collections.abc import Container
from datetime import date, datetime, time, timedelta
from decimal import Decimal
from enum import Enum
from types import NoneType
from typing import Any, TypeVar
from uuid import UUID

from pydantic import BaseModel

from stepwire.workflow.codec.models import rebuild
from stepwire.workflow.state.dict_state import DictState

__all__ = ["copy_state", "is_mutable", "same", "validated", "values_of"]

M = TypeVar("M", bound=BaseModel)

_IMMUTABLE = frozenset(
    {NoneType, bool, int, float, complex, str, bytes} | {datetime, date, time, timedelta, Decimal, UUID}
)


def is_mutable(value: Any) -> bool:
    """Say whether `value` could be changed in place by who holds it."""
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


def copy_state(state: M) -> M:
    """Return a deep copy; a top-level value that cannot be copied is shared."""
    private = state.__pydantic_private__
    values = _copy_values({**values_of(state), **(private or {})})
    declared = type(state).model_fields
    return _assemble(
        state,
        {key: values.pop(key) for key in declared if key in values},
        {key: values.pop(key) for key in state.__pydantic_extra__ or ()},
        None if private is None else values,
    )


def _copy_values(values: dict[str, Any]) -> dict[str, Any]:
    try:
        return copy.deepcopy(values)
    except Exception:  # noqa: BLE001 - __deepcopy__ is the author's code; see below
        return {key: _copy_value(value) for key, value in values.items()}


def _copy_value(value: Any) -> Any:
    # In process a state may hold a client, a lock or a file. None of those can be copied, and 1.x
    # let them be. Each value has its own memo: that of a failed copy holds half-made objects.
    try:
        return copy.deepcopy(value)
    except Exception:  # noqa: BLE001 - as above
        return value


def _assemble(like: M, fields: dict[str, Any], extra: dict[str, Any], private: dict[str, Any] | None) -> M:
    model = rebuild(type(like), fields, extra, private, set(like.__pydantic_fields_set__))
    assert isinstance(model, type(like))
    return model


def validated(state: M, keys: Container[str] | None = None) -> M:
    """Return `state` passed through the validators of its class and of the models inside it.

    With `keys` only the models under those are looked into. Raises pydantic's ValidationError.
    Models inside are validated each on its own, as pydantic takes an instance for valid. Private
    attributes and the set of explicit names are kept.
    """
    cls = type(state)
    if cls is DictState:  # nothing is declared
        return state
    values = {
        key: _validate_inside(value) if keys is None or key in keys else value
        for key, value in values_of(state).items()
    }
    given: Any = values["root"] if cls.__pydantic_root_model__ else values
    model: Any = cls.__pydantic_validator__.validate_python(given, by_name=True, by_alias=False)
    explicit = state.__pydantic_fields_set__ & values.keys()
    object.__setattr__(model, "__pydantic_fields_set__", explicit)
    object.__setattr__(model, "__pydantic_private__", state.__pydantic_private__)
    assert isinstance(model, cls)
    return model


def _validate_inside(value: Any) -> Any:
    if isinstance(value, BaseModel):
        return validated(value)
    if type(value) is dict:
        return {key: _validate_inside(item) for key, item in value.items()}
    if type(value) is list or type(value) is tuple:
        return type(value)(map(_validate_inside, value))
    return value


def same(one: Any, other: Any) -> bool:
    """Say whether two values are equal in value and type all the way down.

    False whenever that is not certain: what differs only here is saved once too often.
    """
    if one is other:
        return True
    cls = type(one)
    if cls is not type(other):
        return False
    if cls is dict:
        return (
            len(one) == len(other)
            and list(one) == list(other)
            and all(
                type(left) is type(right) and same(one[left], other[right])
                for left, right in zip(one, other, strict=True)
            )
        )
    if cls is list or cls is tuple:
        return len(one) == len(other) and all(map(same, one, other))
    if isinstance(one, BaseModel):
        return (
            same(one.__dict__, other.__dict__)
            and same(one.__pydantic_extra__, other.__pydantic_extra__)
            and same(one.__pydantic_private__, other.__pydantic_private__)
            and one.__pydantic_fields_set__ == other.__pydantic_fields_set__
        )
    if cls in _EQUAL_IS_SAME:
        return bool(one == other)
    return False


# Not float (0.0 == -0.0), Decimal (1 == 1.0) and the datetimes (equal in different zones).
_EQUAL_IS_SAME = frozenset({int, str, bytes, UUID, timedelta, date})
