"""Convert the payloads of the contract between JSON bytes and protobuf values."""

from __future__ import annotations

import asyncio
import json
from typing import Any

from google.protobuf import json_format, struct_pb2

from stepwire.server.runs.errors import InvalidError
from stepwire.v1 import types_pb2 as pb
from stepwire.workflow.hosting import INLINE_VALUES, values_in

_EXACT = 2**53
"""Beyond this a double does not hold every integer."""
_INLINE_BYTES = 16 * 1024
"""The size of a protobuf value, or of the JSON that becomes one, that is converted on the event loop: about 20 ms."""
_MAX_VALUE_DEPTH = 30
"""Levels of a Value in an answer: protobuf's parsers refuse messages nested 100 deep, and each level takes three."""


def json_of(payload: pb.Payload, reason: str) -> bytes | None:
    """Return a client's payload as JSON bytes, which may still be malformed; None if it is unset.

    Raises:
        InvalidError: With `reason`, for a protobuf value that JSON cannot express.
    """
    which = payload.WhichOneof("encoding")
    if which is None:
        return None
    if which == "json":
        return payload.json
    value = payload.value
    if not _complete(value):  # protobuf's own conversion takes it for null
        raise InvalidError(reason, "A payload holds a value without a kind")
    try:
        text = json.dumps(json_format.MessageToDict(value), ensure_ascii=False)
    except (json_format.SerializeToJsonError, ValueError) as error:
        raise InvalidError(reason, "A payload holds NaN or an infinity") from error
    return json.dumps(json.loads(text, parse_float=_number), ensure_ascii=False, separators=(",", ":")).encode()


async def read_payload(payload: pb.Payload, reason: str) -> bytes | None:
    """Return a client's payload as `json_of` does; a large protobuf value is converted in a thread."""
    if payload.WhichOneof("encoding") == "value" and payload.value.ByteSize() > _INLINE_BYTES:
        return await asyncio.get_running_loop().run_in_executor(None, json_of, payload, reason)
    return json_of(payload, reason)


def is_slow_to_write(size: int, encoding: int) -> bool:
    """Tell whether making an answer of so many bytes of JSON takes too long for the event loop."""
    return encoding != pb.PAYLOAD_ENCODING_JSON and size > _INLINE_BYTES


async def write_payload(data: bytes, encoding: int) -> pb.Payload:
    """Return JSON bytes as `payload` does; a large protobuf value is made in a thread."""
    if is_slow_to_write(len(data), encoding):
        return await asyncio.get_running_loop().run_in_executor(None, payload, data, encoding)
    return payload(data, encoding)


def takes_a_thread(payload: pb.Payload) -> bool:
    """Tell whether an event with this payload is converted or validated in a thread: others may overtake it."""
    if payload.WhichOneof("encoding") == "value":
        return payload.value.ByteSize() > _INLINE_BYTES
    return values_in(payload.json) > INLINE_VALUES


def _complete(value: struct_pb2.Value) -> bool:
    """Tell whether a value and all that it holds have a kind."""
    kind = value.WhichOneof("kind")
    if kind == "struct_value":
        return all(map(_complete, value.struct_value.fields.values()))
    if kind == "list_value":
        return all(map(_complete, value.list_value.values))
    return kind is not None


def _number(text: str) -> int | float:
    """Return a number of a protobuf Value. Those are all doubles: one that is whole and exact was an integer."""
    number = float(text)
    return int(number) if number.is_integer() and abs(number) <= _EXACT else number


def payload(data: bytes, encoding: int) -> pb.Payload:
    """Return JSON bytes as a payload in the encoding that a request asked for.

    Raises:
        InvalidError: The document is nested too deep for a protobuf value.
    """
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
