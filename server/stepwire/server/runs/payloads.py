"""Payloads: JSON documents of clients as typed values, and values as JSON.

Admission (`rpc/gate`) has checked the size and the depth of a document before anything here parses it.
"""

from __future__ import annotations

import hashlib
import json
from types import NoneType
from typing import Any

import pydantic_core
from pydantic import BaseModel, ValidationError

from stepwire.server.registry import Served
from stepwire.server.runs.errors import (
    InternalEventError,
    InvalidError,
    LimitError,
    UnknownEventTypeError,
    Violation,
    did_you_mean,
    too_large,
)
from stepwire.workflow.hosting import (
    Event,
    EventTooLargeError,
    Received,
    SerializationError,
    any_library,
    event_to_json,
    library_json,
    receive,
    wire_validator,
)

_MAX_VIOLATIONS = 50
"""Violations that an error lists: its details must stay below 8 KB."""

VALUE_BYTES = 16
"""What each value of a document counts for at least. Work and memory depend on the values, and a value of one digit
takes as much of both as one of 16."""

_PLAIN = frozenset({str, int, float, bool, dict, list, NoneType})
"""Types of most values: to ask an event class about them takes functions of Python."""

_NO_BRACKETS = bytes(set(range(256)) - set(b"[]{}"))
_ONE_KIND = bytes.maketrans(b"{}", b"[]")


def _outside_texts(data: bytes) -> bytes:
    """Return JSON without its texts. A regular expression takes five times as long, and nothing else runs meanwhile."""
    if b"\\" in data:
        data = data.replace(b"\\\\", b"").replace(b'\\"', b"")
    return b"".join(data.split(b'"')[::2])


def deeper_than(data: bytes, levels: int) -> bool:
    """Tell whether JSON is nested deeper than `levels`, without parsing it.

    Each pass takes the innermost brackets away, so a document that is wide and flat takes one pass.
    """
    if data.count(b"[") + data.count(b"{") <= levels:
        return False
    brackets = _outside_texts(data).translate(_ONE_KIND, _NO_BRACKETS)
    for _ in range(levels):
        inner = brackets.replace(b"[]", b"")
        if len(inner) == len(brackets):
            break
        brackets = inner
    return b"[]" in brackets or brackets.count(b"[") > levels


def weight(data: bytes, limit: int = 0) -> int:
    """Return the bytes that JSON counts for: its length, or VALUE_BYTES for each of its values if that is more.

    Up to `limit` the result may be too high: commas and brackets in texts count as values, too. To leave them out takes
    ten times as long.
    """
    marks = data.count(b",") + data.count(b"[") + data.count(b"{")
    if marks * VALUE_BYTES > max(len(data), limit):
        bare = _outside_texts(data)
        marks = bare.count(b",") + bare.count(b"[") + bare.count(b"{")
    return max(len(data), marks * VALUE_BYTES)


def parse_json(data: bytes, reason: str, what: str = "The payload") -> Any:
    """Parse JSON from a client.

    Args:
        data: The JSON text.
        reason: The reason of the error.
        what: The subject of the error's message.

    Raises:
        InvalidError: The text is not JSON, or holds NaN or an infinity.
    """
    try:
        return pydantic_core.from_json(data, allow_inf_nan=False, cache_strings="keys")
    except ValueError as error:
        # The text of the parser's error says where, and quotes nothing of the value.
        raise InvalidError(reason, f"{what} is not valid JSON: {str(error)[:120]}") from error


def parse_object(data: bytes, reason: str, what: str = "The payload") -> dict[str, Any]:
    """Parse a JSON object from a client, as `parse_json`. Empty bytes are the empty object."""
    value = parse_json(data, reason, what) if data else {}
    if not isinstance(value, dict):
        raise InvalidError(reason, f"{what} must be a JSON object")
    return value


async def parse_event(served: Served, type_name: str, data: bytes) -> Received:
    """Make an event that a client sends; a large one in a thread.

    Raises:
        UnknownEventTypeError: The workflow has no event type of this name that a client may send.
        InternalEventError: The author has declared the type internal.
        InvalidError: INVALID_EVENT, with the fields that do not fit.
    """
    if not type_name:
        raise InvalidError("INVALID_EVENT", "The event has no type", [Violation("event.type", "is required")])
    cls = served.sendable.get(type_name) or served.sendable.get(served.names.current(type_name))
    if cls is None:
        if served.names.current(type_name) in served.internal:
            raise InternalEventError(
                f"{type_name[:128]} is an internal event of workflow {served.name}: only its steps send it",
                workflow=served.name,
                type=type_name[:128],
            )
        raise UnknownEventTypeError(
            f"Workflow {served.name} has no event type of this name that can be sent: {type_name[:128]}"
            f"{did_you_mean(type_name, served.sendable)}",
            workflow=served.name,
            type=type_name[:128],
        )
    try:
        return await receive(cls, data or b"{}", served.names)
    except (ValidationError, SerializationError, RecursionError) as error:
        message = f"The fields do not fit {type_name}"
        raise _invalid(error, "INVALID_EVENT", "The event's payload", message, data) from error


async def parse_input(served: Served, data: bytes) -> Received:
    """Make the start event of a run; a large one in a thread.

    Raises:
        InvalidError: INVALID_INPUT, with the fields that do not fit.
    """
    cls = served.workflow.start_event_class
    try:
        return await receive(cls, data or b"{}", served.names)
    except (ValidationError, SerializationError, RecursionError) as error:
        message = f"The input does not fit {cls.__name__}"
        raise _invalid(error, "INVALID_INPUT", "The input", message, data) from error


def _invalid(
    error: ValidationError | SerializationError | RecursionError, reason: str, what: str, message: str, data: bytes
) -> InvalidError | LimitError:
    """Return what a client is told of an event that is not valid.

    Args:
        error: Why it is not.
        reason: The reason of the error.
        what: The subject of messages about the JSON.
        message: The message about fields that do not fit.
        data: The JSON.
    """
    if isinstance(error, RecursionError):
        return InvalidError(reason, f"{message}: nested too deeply")
    if isinstance(error, EventTooLargeError):
        return unsaved(error, reason, what)
    try:
        parse_object(data, reason, what)
    except InvalidError as malformed:  # what is not a JSON object gets a better message
        return malformed
    if isinstance(error, SerializationError):
        return unsaved(error, reason, what)
    return InvalidError(reason, message, violations_of(error))


def unsaved(error: SerializationError, reason: str, what: str) -> InvalidError | LimitError:
    """Return what a client is told of an event that cannot be saved, or is too large; arguments as for `_invalid`."""
    if isinstance(error, EventTooLargeError):
        return too_large("The event", error.size, error.largest, "entry_bytes")
    return InvalidError(reason, f"{what} cannot be saved", [Violation(key, "cannot be saved") for key in error.keys])


def violations_of(error: ValidationError) -> list[Violation]:
    """Return the violations of a validation by field. They never quote the input."""
    return [
        Violation(".".join(str(part) for part in problem["loc"]), _description(problem))
        for problem in error.errors(include_url=False, include_input=False, include_context=False)
    ][:_MAX_VIOLATIONS]


def _description(problem: Any) -> str:
    # The text of a validator's own exception is the author's and may quote the value.
    if problem["type"] in ("value_error", "assertion_error"):
        return "is not valid"
    return str(problem["msg"])


def value_to_json(value: Any) -> bytes:
    """Return a value of the state as plain JSON.

    Raises:
        SerializationError: The value has no JSON form.
    """
    if type(value) not in _PLAIN and isinstance(value, Event):
        return event_to_json(value)
    try:
        return pydantic_core.to_json(
            value, by_alias=True, bytes_mode="base64", inf_nan_mode="constants", serialize_unknown=False
        )
    except (pydantic_core.PydanticSerializationError, ValueError, AttributeError) as error:
        if any_library():  # a model of it may have a serializer that fails
            return library_json(value)
        raise SerializationError("the value has no JSON form") from error


def state_from_json(state_type: type[BaseModel], value: Any, *, dynamic: bool) -> BaseModel:
    """Validate parsed JSON as a whole state; `dynamic` says that its keys are the author's own.

    Raises:
        InvalidError: INVALID_STATE, with the fields that do not fit.
    """
    if not isinstance(value, dict):
        raise InvalidError("INVALID_STATE", "The state must be a JSON object")
    try:
        if dynamic:
            return state_type(**value)
        state: BaseModel = wire_validator(state_type).validate_python(value, by_alias=True, by_name=True)
        return state
    except ValidationError as error:
        raise InvalidError(
            "INVALID_STATE", f"The value does not fit {state_type.__name__}", violations_of(error)
        ) from error


def digest(*values: Any) -> str:
    """Return a digest of JSON-able values; equal values have equal digests, whatever the order of their keys."""
    text = json.dumps(values, sort_keys=True, separators=(",", ":"), default=str, ensure_ascii=False)
    # JSON may spell half a surrogate pair. Refusing it is not the task of a digest.
    return digest_of_bytes(text.encode("utf-8", "surrogatepass"))


def digest_of_bytes(data: bytes) -> str:
    """Return a digest of bytes."""
    return hashlib.blake2b(data, digest_size=16).hexdigest()
