"""JSON values to and from `Payload`. The client writes and requests JSON, and reads both encodings."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

from google.protobuf.json_format import MessageToDict
from pydantic import BaseModel, TypeAdapter
from pydantic_core import PydanticSerializationError, from_json, to_json

from stepwire.v1 import types_pb2

JSON = types_pb2.PAYLOAD_ENCODING_JSON


def to_json_bytes(value: Any) -> bytes:
    """Return a value as JSON text. Models are written by their own rules, bytes as base64.

    Raises:
        pydantic_core.PydanticSerializationError: A value has no JSON form. It is a ValueError and names the fields.
    """
    try:
        return _json(value)
    except PydanticSerializationError as error:
        failing = [name for name, field in _fields(value).items() if not _has_json(field)]
        if not failing:
            raise
        raise PydanticSerializationError(f"{', '.join(failing)}: {error}") from None


def _json(value: Any) -> bytes:
    # Polymorphic: write a nested model by its own class, not by the class that the field declares.
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
    """Return the JSON text of a payload, None when it is empty."""
    kind = payload.WhichOneof("encoding")
    if kind == "json":
        return payload.json
    if kind == "value":
        return json.dumps(MessageToDict(payload.value)).encode()
    return None


def from_payload(payload: types_pb2.Payload, as_: Any = None) -> Any:
    """Return the value of a payload, None when it is empty.

    `as_` is a type that pydantic can validate; the value is validated and returned as that type.

    Raises:
        pydantic.ValidationError: The value does not fit `as_`.
    """
    text = payload_json(payload)
    if as_ is not None:
        return TypeAdapter(as_).validate_json(b"null" if text is None else text)
    return None if text is None else from_json(text)
