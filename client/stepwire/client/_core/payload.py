"""Values to and from `Payload`. This client writes and asks for JSON, and reads both encodings."""

from __future__ import annotations

import json
from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from typing import Any

from google.protobuf import duration_pb2, timestamp_pb2
from google.protobuf.json_format import MessageToDict
from pydantic import BaseModel, TypeAdapter
from pydantic_core import PydanticSerializationError, from_json, to_json

from stepwire.v1 import types_pb2

JSON = types_pb2.PAYLOAD_ENCODING_JSON


def to_json_bytes(value: Any) -> bytes:
    """Return a value as JSON text: models by their own rules, bytes as base64.

    Raises pydantic_core.PydanticSerializationError (a ValueError), which names the fields, for what
    has no JSON form.
    """
    try:
        return _json(value)
    except PydanticSerializationError as error:
        failing = [name for name, field in _fields(value).items() if not _has_json(field)]
        if not failing:
            raise
        raise PydanticSerializationError(f"{', '.join(failing)}: {error}") from None


def _json(value: Any) -> bytes:
    # Polymorphic: a model inside a model is written as what it is, not as what it is declared.
    return to_json(value, bytes_mode="base64", polymorphic_serialization=True)


def _fields(value: Any) -> dict[str, Any]:
    if isinstance(value, BaseModel):
        return {**value.__dict__, **(value.__pydantic_extra__ or {})}
    return {str(key): item for key, item in value.items()} if isinstance(value, Mapping) else {}


def _has_json(value: Any) -> bool:
    try:
        _json(value)
    except PydanticSerializationError:
        return False
    return True


def to_payload(value: Any) -> types_pb2.Payload:
    """Return a value as a payload."""
    return types_pb2.Payload(json=to_json_bytes(value))


def payload_json(payload: types_pb2.Payload) -> bytes | None:
    """Return the JSON text of a payload, None when it holds no document."""
    kind = payload.WhichOneof("encoding")
    if kind == "json":
        return payload.json
    if kind == "value":
        return json.dumps(MessageToDict(payload.value)).encode()
    return None


def from_payload(payload: types_pb2.Payload, as_: Any = None) -> Any:
    """Return the document of a payload, None when it holds none.

    With `as_`, any type that pydantic can validate, it is validated as that; pydantic's
    ValidationError when it does not fit.
    """
    text = payload_json(payload)
    if as_ is not None:
        return TypeAdapter(as_).validate_json(b"null" if text is None else text)
    return None if text is None else from_json(text)


def to_timestamp(time: datetime | None) -> timestamp_pb2.Timestamp | None:
    """Return a time as a message; a time without zone is refused."""
    if time is None:
        return None
    if time.tzinfo is None:
        raise ValueError("a datetime needs a time zone")
    message = timestamp_pb2.Timestamp()
    message.FromDatetime(time.astimezone(UTC))
    return message


def to_duration(seconds: float | timedelta) -> duration_pb2.Duration:
    """Return a time span as a message."""
    message = duration_pb2.Duration()
    span = seconds if isinstance(seconds, timedelta) else timedelta(seconds=seconds)
    message.FromTimedelta(span)
    return message
