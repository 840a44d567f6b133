"""Plain JSON of values that hold models of adopted libraries, whose own serializers may fail."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any, Final

from pydantic import BaseModel
from pydantic_core import PydanticSerializationError, to_json

from stepwire.workflow.events import Event, event_to_json

__all__ = ["FAILURES", "library_json"]

FAILURES: Final = (PydanticSerializationError, ValueError, TypeError, RecursionError, AttributeError)
"""What the serializers of models raise, those of authors too."""


def library_json(value: Any) -> bytes:
    """Return a value as plain JSON.

    Models are written by their own serializers where these work, and else field by field. Text stands for what has no
    JSON form.
    """
    if isinstance(value, Event):
        return event_to_json(value)
    try:
        return to_json(value, by_alias=True, bytes_mode="base64", inf_nan_mode="null", serialize_unknown=False)
    except FAILURES:
        pass
    if isinstance(value, BaseModel):
        fields = type(value).__pydantic_fields__
        kept = {name: item for name, item in value.__dict__.items() if name in fields and not fields[name].exclude}
        value = {**kept, **(value.__pydantic_extra__ or {})}
    if isinstance(value, Mapping):
        return b"{%b}" % b",".join(
            b"%b:%b" % (json.dumps(str(key)).encode(), library_json(item)) for key, item in value.items()
        )
    if isinstance(value, list | tuple | set | frozenset):
        return b"[%b]" % b",".join(map(library_json, value))
    try:
        return json.dumps(str(value)).encode()
    except Exception:  # noqa: BLE001 - __str__ is the author's code
        return json.dumps(type(value).__name__).encode()
