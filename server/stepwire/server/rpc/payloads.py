"""Payloads of the contract: JSON bytes and protobuf values."""

from __future__ import annotations

import json
from typing import Any

from google.protobuf import json_format, struct_pb2

from stepwire.server.runs.errors import InvalidError
from stepwire.v1 import types_pb2 as pb

_EXACT = 2**53
_MAX_VALUE_DEPTH = 30
"""protobuf's parsers refuse messages nested 100 deep, and each level of a Value takes three."""


def json_of(payload: pb.Payload) -> bytes | None:
    """Return a payload from a client as JSON bytes, unchecked; None when it is unset."""
    which = payload.WhichOneof("encoding")
    if which is None:
        return None
    if which == "json":
        return payload.json
    try:
        value = json_format.MessageToDict(payload.value)
    except (json_format.SerializeToJsonError, ValueError) as error:
        raise InvalidError("INVALID_REQUEST", "A payload holds NaN, an infinity or an unset value") from error
    return json.dumps(value, ensure_ascii=False, separators=(",", ":")).encode()


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
