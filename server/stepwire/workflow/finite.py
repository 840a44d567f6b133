"""Find NaN and infinities, which no JSON holds."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Mapping
from typing import Any

from pydantic import BaseModel

__all__ = ["may_hold_non_finite", "non_finite"]

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
