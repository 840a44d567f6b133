"""Find fields of bytes whose text in JSON is not base64.

The parser of protobuf's Python library leaves out the characters that it does not know: "!!!" would be no bytes.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from functools import cache
from typing import Any, Final, NamedTuple

from google.protobuf.descriptor import Descriptor, FieldDescriptor

__all__ = ["is_base64", "no_base64"]

_COMMON: Final = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789"
_STANDARD: Final = _COMMON + b"+/"
_URL_SAFE: Final = _COMMON + b"-_"
_GROUP: Final = 4
"""Characters that hold three bytes."""
_OWN_JSON: Final = "google.protobuf."
"""Types that are written in JSON in a way of their own. None that the contract uses holds bytes."""


class _Field(NamedTuple):
    """A field that is bytes, or leads to one."""

    name: str
    """As the contract has it; JSON may have it in camel case."""
    message: Descriptor | None
    """The type of a message or of the values of a map; None for bytes."""
    repeated: bool
    mapped: bool


def no_base64(found: Any, descriptor: Any, path: str = "") -> str | None:
    """Return the path of a field of bytes that is not base64, as in `values.0.value.json`; None if there is none.

    Args:
        found: A message as read from JSON. What does not fit the message is left to the parser.
        descriptor: The descriptor of the message.
        path: The path of the message, with a point behind it.
    """
    if not isinstance(found, dict):
        return None
    for key, field in _fields(descriptor).items():
        value = found.get(key)
        if value is None:
            continue
        for place, each in _values(value, field):
            where = f"{path}{field.name}{place}"
            if field.message is not None:
                wrong = no_base64(each, field.message, f"{where}.")
                if wrong is not None:
                    return wrong
            elif isinstance(each, str) and not is_base64(each):
                return where
    return None


def is_base64(text: str) -> bool:
    """Return whether a text is base64 in one of the two alphabets, with its whole padding or without any."""
    try:
        data = text.encode("ascii")
    except UnicodeEncodeError:
        return False
    bare = data.rstrip(b"=")
    missing = -len(bare) % _GROUP
    if missing == _GROUP - 1 or len(data) - len(bare) not in (0, missing):
        return False
    return not bare.translate(None, _STANDARD) or not bare.translate(None, _URL_SAFE)


def _values(value: Any, field: _Field) -> Iterator[tuple[str, Any]]:
    """Yield the values of a field, each with its place in it."""
    if field.mapped:
        if isinstance(value, dict):
            yield from ((f".{key}", each) for key, each in value.items())
    elif field.repeated:
        if isinstance(value, list):
            yield from ((f".{index}", each) for index, each in enumerate(value))
    else:
        yield "", value


@cache
def _fields(descriptor: Descriptor) -> Mapping[str, _Field]:
    """Return the fields of a message that are bytes or lead to some, by their names in JSON: each may have two."""
    found = {}
    for field in descriptor.fields:
        kind = field.message_type
        mapped = kind is not None and kind.GetOptions().map_entry
        value = kind.fields_by_name["value"] if kind is not None and mapped else field
        if value.type == FieldDescriptor.TYPE_BYTES or _holds_bytes(value.message_type, frozenset()):
            entry = _Field(field.name, value.message_type, field.is_repeated, mapped)
            found[field.json_name] = found[field.name] = entry
    return found


def _holds_bytes(descriptor: Descriptor | None, above: frozenset[Descriptor]) -> bool:
    if descriptor is None or descriptor in above or descriptor.full_name.startswith(_OWN_JSON):
        return False
    return any(
        field.type == FieldDescriptor.TYPE_BYTES or _holds_bytes(field.message_type, above | {descriptor})
        for field in descriptor.fields
    )
