"""Payloads of the contract: JSON bytes and protobuf values."""

from __future__ import annotations

import json
import math
from typing import Any

from google.protobuf import struct_pb2

from stepwire.server.runs.errors import InvalidError
from stepwire.v1 import types_pb2 as pb

_EXACT = 2**53
_MAX_VALUE_DEPTH = 30
"""protobuf's parsers refuse messages nested 100 deep, and each level of a Value takes three."""


def json_of(payload: pb.Payload, reason: str) -> bytes | None:
    """Return a payload from a client as JSON bytes, unchecked; None when it is unset.

    InvalidError (`reason`) for a protobuf value that no JSON can say.
    """
    which = payload.WhichOneof("encoding")
    if which is None:
        return None
    if which == "json":
        return payload.json
    return json.dumps(_plain(payload.value, reason), ensure_ascii=False, separators=(",", ":")).encode()


def _plain(value: struct_pb2.Value, reason: str) -> Any:
    kind = value.WhichOneof("kind")
    if kind == "string_value":
        return value.string_value
    if kind == "number_value":
        number = value.number_value
        if not math.isfinite(number):
            raise InvalidError(reason, "A payload holds NaN or an infinity")
        # All numbers of protobuf are doubles: what is whole and exact was an integer.
        return int(number) if number.is_integer() and abs(number) <= _EXACT else number
    if kind == "bool_value":
        return value.bool_value
    if kind == "struct_value":
        return {key: _plain(item, reason) for key, item in value.struct_value.fields.items()}
    if kind == "list_value":
        return [_plain(item, reason) for item in value.list_value.values]
    if kind == "null_value":
        return None
    raise InvalidError(reason, "A payload holds a value without a kind")


def payload(data: bytes, encoding: int) -> pb.Payload:
    """Return JSON bytes as a payload in the encoding that a request asked for."""
    if encoding == pb.PAYLOAD_ENCODING_JSON:
        return pb.Payload(json=data)
    message = pb.Payload()
    _fill(message.value, json.loads(data), 0)
    return message


def _fill(message: struct_pb2.Value, value: Any, depth: int) -> None:
    if depth > _MAX_VALUE_DEPTH:
        raise InvalidError(
            "INVALID_REQUEST", f"The answer is nested deeper than {_MAX_VALUE_DEPTH} levels: ask for encoding JSON"
        )
    if value is None:
        message.null_value = struct_pb2.NULL_VALUE
    elif value is True or value is False:
        message.bool_value = value
    elif isinstance(value, str):
        message.string_value = value
    elif isinstance(value, int):
        if -_EXACT <= value <= _EXACT:
            message.number_value = value
        else:
            message.string_value = str(value)
    elif isinstance(value, float):
        message.number_value = value
    elif isinstance(value, list):
        message.list_value.SetInParent()
        for item in value:
            _fill(message.list_value.values.add(), item, depth + 1)
    else:
        message.struct_value.SetInParent()
        for key, item in value.items():
            _fill(message.struct_value.fields[key], item, depth + 1)
