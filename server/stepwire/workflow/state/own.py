"""Give each taker of an event an object of its own, so that nobody sees what another one changes in it.

A run that was loaded from a store has separate objects for all that it holds. A run that stays in memory must show its
steps the same, so events are copied where they change hands. Only what can change is copied: values such as numbers and
texts are shared, and so are objects of classes that a store could not keep either (clients, locks), which exist in
process only.
"""

from __future__ import annotations

import copy
import dataclasses
import sys
import sysconfig
from collections import deque
from datetime import date, datetime, time, timedelta
from decimal import Decimal
from sys import getrefcount
from types import NoneType
from typing import Any, Final, TypeAlias, TypeVar
from uuid import UUID

from pydantic import BaseModel

__all__ = ["Kept", "given", "is_sole", "keep", "own", "own_value"]

M = TypeVar("M", bound=BaseModel)

Kept: TypeAlias = tuple[type[M], dict[str, Any], tuple[str, ...]] | tuple[M]
"""What a model was: its class, its fields and which of them are set; or a copy of it, if something in it can change."""

_SHARED = frozenset({NoneType, bool, int, float, complex, str, bytes, datetime, date, time, timedelta, Decimal, UUID})
_COUNTED: Final = (
    sys.implementation.name == "cpython"
    and (3, 11) <= sys.version_info[:2] <= (3, 13)
    and not sysconfig.get_config_var("Py_GIL_DISABLED")
)
"""Whether this interpreter counts each reference at once, as the tests have seen it. Others may count too few (since
3.14 those on the stack may be borrowed), so that an event which somebody holds would not be copied: they copy each."""
_new = object.__new__
_set = object.__setattr__
# Past a model's own __setattr__, and faster than by name: each event is copied.
_set_fields = BaseModel.__dict__["__pydantic_fields_set__"].__set__
_set_extra = BaseModel.__dict__["__pydantic_extra__"].__set__
_set_dict = BaseModel.__dict__["__dict__"].__set__
_set_private = BaseModel.__dict__["__pydantic_private__"].__set__


class _HasPrivate(dict[type, bool]):
    """Tell by `_private[cls]` whether objects of a class may have private attributes, sooner than each can tell."""

    def __missing__(self, cls: type[BaseModel]) -> bool:
        found = self[cls] = bool(cls.__private_attributes__)
        return found


_private: Final = _HasPrivate()


def own(model: M) -> M:
    """Return a copy of an event or model that shares nothing changeable with it."""
    extra = model.__pydantic_extra__
    if extra or _private[type(model)]:
        return _model(model, {})
    fields = model.__dict__
    for value in fields.values():
        if type(value) not in _SHARED:
            return _model(model, {})
    made = _new(type(model))
    _set_dict(made, fields.copy())
    _set_fields(made, model.__pydantic_fields_set__.copy())
    _set_extra(made, None if extra is None else {})
    _set_private(made, None)
    return made


def keep(model: M) -> Kept[M]:
    """Return what a model is now, for `given`: what is kept is often never given again, so no model is made."""
    if model.__pydantic_extra__ or _private[type(model)]:
        return (_model(model, {}),)
    for value in model.__dict__.values():
        if type(value) not in _SHARED:
            return (_model(model, {}),)
    return type(model), model.__dict__.copy(), tuple(model.__pydantic_fields_set__)


def given(kept: Kept[M]) -> M:
    """Return a model as it was when it was kept, which shares nothing changeable with any other."""
    if len(kept) == 1:
        return own(kept[0])
    cls, fields, fields_set = kept
    made = _new(cls)
    _set_dict(made, fields.copy())
    _set_fields(made, set(fields_set))
    _set_extra(made, {} if cls.model_config.get("extra") == "allow" else None)
    _set_private(made, None)
    return made


def own_value(value: Any) -> Any:
    """Return a copy of a value that shares nothing changeable with it, but objects of classes that cannot be saved."""
    return _value(value, {})


def is_sole(model: BaseModel, references: int) -> bool:
    """Tell whether nobody but its `references` holds a model in which nothing can change, so that it needs no copy.

    Each event that a step returns is looked at, and most steps keep no reference to it. False where that is unknown.
    """
    if not _COUNTED or getrefcount(model) > references + 2:  # the parameters of this function and of that one
        return False
    if model.__pydantic_extra__ or _private[type(model)]:
        return False
    for value in model.__dict__.values():  # noqa: SIM110 - a generator takes twice as long
        if type(value) not in _SHARED:
            return False
    return True


def _model(model: M, memo: dict[int, Any]) -> M:
    made = _new(type(model))
    memo[id(model)] = made
    extra, private = model.__pydantic_extra__, model.__pydantic_private__
    made.__dict__.update({name: _value(value, memo) for name, value in model.__dict__.items()})
    _set_fields(made, model.__pydantic_fields_set__.copy())
    _set_extra(made, None if extra is None else {name: _value(value, memo) for name, value in extra.items()})
    _set_private(made, None if private is None else {name: _value(each, memo) for name, each in private.items()})
    return made


def _value(value: Any, memo: dict[int, Any]) -> Any:
    cls = type(value)
    if cls in _SHARED:
        return value
    if (known := memo.get(id(value))) is not None:
        return known
    if cls is list:
        made: Any = []
        memo[id(value)] = made
        made.extend(_value(item, memo) for item in value)
        return made
    if cls is dict:
        made = {}
        memo[id(value)] = made
        for key, item in value.items():
            made[key] = _value(item, memo)
        return made
    if isinstance(value, BaseModel):
        return _model(value, memo)
    if isinstance(value, tuple):
        items = [_value(item, memo) for item in value]
        if all(a is b for a, b in zip(items, value, strict=True)):
            return value
        return cls._make(items) if hasattr(cls, "_make") else cls(items)
    if isinstance(value, list | dict | set | deque | bytearray):
        return _collection(value, memo)
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        return _dataclass(value, memo)
    return value


def _collection(value: Any, memo: dict[int, Any]) -> Any:
    """Copy a set, or a collection of a class derived from a built-in one."""
    made = copy.copy(value)
    memo[id(value)] = made
    if isinstance(made, dict):
        for key, item in value.items():
            made[key] = _value(item, memo)
    elif isinstance(made, list | deque):
        for index, item in enumerate(value):
            made[index] = _value(item, memo)
    return made


def _dataclass(value: Any, memo: dict[int, Any]) -> Any:
    made = copy.copy(value)
    memo[id(value)] = made
    for field in dataclasses.fields(value):
        if hasattr(value, field.name):
            _set(made, field.name, _value(getattr(value, field.name), memo))
    return made
