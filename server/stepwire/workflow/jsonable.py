"""Find what no JSON holds, or no reader of it takes: NaN and infinities, very long integers, broken text."""

from __future__ import annotations

import dataclasses
import math
import re
from collections.abc import Callable, Mapping
from typing import Any, Final

from pydantic import BaseModel
from pydantic_core import PydanticSerializationError

__all__ = [
    "MAX_INT_DIGITS",
    "has_long_integer",
    "is_text",
    "may_hold_non_finite",
    "non_finite",
    "readable",
    "unserializable",
    "with_long_integers",
]

MAX_INT_DIGITS: Final = 4200
"""Decimal digits of an integer: json.loads refuses more than 4300 (sys.set_int_max_str_digits)."""

_LONG_DIGITS: Final = re.compile(rb"(?<![0-9])[0-9]{%d}" % (MAX_INT_DIGITS + 1))
_TEXT: Final = re.compile(rb'"(?:[^"\\]|\\.)*"')

_SHORT = 2048
"""Bytes of JSON up to which looking at the values is no slower than looking at the text."""

_MARKS = (b"nan", b"inf", b"\\u", *(b"e%d" % digit for digit in range(10)), b"e+")
"""What the text of a number that is not finite has: its name, perhaps in escapes, or an exponent that overflows."""

_DIGITS = bytes(0x30 if 0x30 <= byte <= 0x39 or byte == 0x5F else 0x20 for byte in range(256))
_MANY_DIGITS = b"0" * 309
"""The digits of a number without an exponent that overflows."""


def may_hold_non_finite(data: bytes | str) -> bool:
    """Return False if values made of this JSON are finite for certain; quick for long text."""
    if len(data) < _SHORT:
        return True
    text = data.encode("utf-8", "surrogatepass") if isinstance(data, str) else data
    lowered = text.lower()
    return any(mark in lowered for mark in _MARKS) or _MANY_DIGITS in text.translate(_DIGITS)


def non_finite(model: BaseModel) -> tuple[str, ...]:
    """Return the names of the fields that hold NaN or an infinity at any depth."""
    fields = {**model.__dict__, **(model.__pydantic_extra__ or {})}
    return tuple(key for key, value in fields.items() if _is_non_finite(value))


def _is_non_finite(value: Any) -> bool:
    if isinstance(value, float):
        return not math.isfinite(value)
    if isinstance(value, str | bytes | int) or value is None:
        return False
    if isinstance(value, BaseModel):
        return bool(non_finite(value))
    if isinstance(value, Mapping):
        return any(map(_is_non_finite, value.values())) or any(map(_is_non_finite, value))
    if isinstance(value, list | tuple | set | frozenset):
        return any(map(_is_non_finite, value))
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        return any(_is_non_finite(getattr(value, field.name, None)) for field in dataclasses.fields(value))
    return False


def has_long_integer(data: bytes) -> bool:
    """Tell whether JSON holds an integer of more than MAX_INT_DIGITS digits outside its texts."""
    return _LONG_DIGITS.search(data) is not None and _LONG_DIGITS.search(_TEXT.sub(b'""', data)) is not None


def with_long_integers(model: BaseModel) -> tuple[str, ...]:
    """Return the names of the fields whose JSON holds an integer of more than MAX_INT_DIGITS digits."""
    return _fields_where(model, has_long_integer)


def unserializable(model: BaseModel) -> tuple[str, ...]:
    """Return the names of the fields that cannot be serialized."""
    return _fields_where(model, None)


def _fields_where(model: BaseModel, is_wrong: Callable[[bytes], bool] | None) -> tuple[str, ...]:
    keys = []
    for key in {**model.__dict__, **(model.__pydantic_extra__ or {})}:
        try:
            data = model.__pydantic_serializer__.to_json(model, include={key}, polymorphic_serialization=True)
        except (PydanticSerializationError, ValueError, TypeError, RecursionError):
            if is_wrong is None:
                keys.append(key)
        else:
            if is_wrong is not None and is_wrong(data):
                keys.append(key)
    return tuple(keys)


def is_text(text: str) -> bool:
    """Tell whether UTF-8 can write a text: it has no half of a surrogate pair."""
    if text.isascii():
        return True
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return True


def readable(text: str) -> str:
    """Return a text with a question mark for what UTF-8 cannot write, as bytes of a file name in another encoding."""
    return text if text.isascii() else text.encode(errors="replace").decode()
