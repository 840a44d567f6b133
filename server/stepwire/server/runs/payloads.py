"""Payloads: JSON documents from clients to typed values, and back."""

from __future__ import annotations

import hashlib
import itertools
import json
import re
from typing import Any, TypeVar

import pydantic_core
from pydantic import BaseModel, ValidationError

from stepwire.server.registry import Served
from stepwire.server.runs.errors import InvalidError, UnknownEventTypeError, Violation
from stepwire.workflow.hosting import MAX_DEPTH, Event, SerializationError, StartEvent, event_from_json, event_to_json

EventT = TypeVar("EventT", bound=Event)


_STRING = re.compile(rb'"[^"\\]*+(?:\\.[^"\\]*+)*+"?', re.DOTALL)
_NO_BRACKETS = bytes(set(range(256)) - set(b"[]{}"))
_STEPS = [0] * 256
for _opening in b"[{":
    _STEPS[_opening] = 1
for _closing in b"]}":
    _STEPS[_closing] = -1


def deeper_than(data: bytes, levels: int) -> bool:
    """Tell whether JSON is nested deeper, without parsing it."""
    if data.count(b"[") + data.count(b"{") <= levels:
        return False
    brackets = _STRING.sub(b"", data).translate(None, _NO_BRACKETS)
    return max(itertools.accumulate(map(_STEPS.__getitem__, brackets)), default=0) > levels


def check_depth(data: bytes, reason: str) -> None:
    """Raise InvalidError for JSON nested deeper than MAX_DEPTH, before anything parses it."""
    if deeper_than(data, MAX_DEPTH):
        raise InvalidError(reason, f"The JSON is nested deeper than {MAX_DEPTH} levels")


def parse_json(data: bytes, reason: str, what: str = "The payload") -> Any:
    """Parse JSON from a client; InvalidError for malformed, too deep, NaN or infinite."""
    check_depth(data, reason)
    try:
        return pydantic_core.from_json(data, allow_inf_nan=False, cache_strings="keys")
    except ValueError as error:
        # The text of the parser's error says where, and quotes nothing of the value.
        raise InvalidError(reason, f"{what} is not valid JSON: {str(error)[:120]}") from error


def parse_object(data: bytes, reason: str, what: str = "The payload") -> dict[str, Any]:
    """Parse a JSON object from a client; empty bytes are the empty object."""
    value = parse_json(data, reason, what) if data else {}
    if not isinstance(value, dict):
        raise InvalidError(reason, f"{what} must be a JSON object")
    return value


def parse_event(served: Served, type_name: str, data: bytes) -> Event:
    """Make an event that a client sends. UnknownEventTypeError, InvalidError (INVALID_EVENT)."""
    if not type_name:
        raise InvalidError("INVALID_EVENT", "The event has no type", [Violation("event.type", "is required")])
    cls = served.sendable.get(type_name)
    if cls is None:
        raise UnknownEventTypeError(
            f"Workflow {served.name} has no event type of this name that can be sent",
            workflow=served.name,
            type=type_name[:128],
        )
    return _build(cls, data, "INVALID_EVENT", "The event's payload", f"The fields do not fit {type_name}")


def parse_input(served: Served, data: bytes) -> StartEvent:
    """Make the start event of a run. InvalidError (INVALID_INPUT)."""
    cls = served.workflow.start_event_class
    return _build(cls, data, "INVALID_INPUT", "The input", f"The input does not fit {cls.__name__}")


def _build(cls: type[EventT], data: bytes, reason: str, what: str, message: str) -> EventT:
    """Validate JSON into an event; InvalidError for no JSON object, or naming the fields that do not fit."""
    check_depth(data, reason)
    try:
        return event_from_json(cls, data or b"{}")
    except ValidationError as error:
        parse_object(data, reason, what)  # tells of what is no JSON object at all
        raise InvalidError(reason, message, violations_of(error)) from error
    except RecursionError as error:
        raise InvalidError(reason, f"{message}: nested too deeply") from error


def violations_of(error: ValidationError) -> list[Violation]:
    """Return pydantic's complaints by field; they never quote the input."""
    return [
        Violation(".".join(str(part) for part in problem["loc"]), _described(problem))
        for problem in error.errors(include_url=False, include_input=False, include_context=False)
    ][:50]


def _described(problem: Any) -> str:
    # The text of a validator's own exception is the author's and may quote the value.
    if problem["type"] in ("value_error", "assertion_error"):
        return "is not valid"
    return str(problem["msg"])


def value_to_json(value: Any) -> bytes:
    """Return a value of the state as plain JSON; SerializationError when it has no JSON form."""
    if isinstance(value, Event):
        return event_to_json(value)
    try:
        return pydantic_core.to_json(value, bytes_mode="base64", inf_nan_mode="constants", serialize_unknown=False)
    except (pydantic_core.PydanticSerializationError, ValueError) as error:
        raise SerializationError("the value has no JSON form") from error


def digest(*what: Any) -> str:
    """Return a digest of a parsed request, equal for requests that mean the same."""

    def plain(value: Any) -> Any:
        return json.loads(event_to_json(value)) if isinstance(value, Event) else str(value)

    text = json.dumps(what, sort_keys=True, separators=(",", ":"), default=plain, ensure_ascii=False)
    # JSON may spell half a surrogate pair; whether that is refused is not for this to say.
    return hashlib.blake2b(text.encode("utf-8", "surrogatepass"), digest_size=16).hexdigest()


def readable(data: bytes) -> Any:
    """Return what a JSON payload says, so that a digest sees the same in another spelling; else its text."""
    try:
        return json.loads(data.decode()) if data else {}
    except (ValueError, RecursionError):
        return data.decode("utf-8", "replace")


def state_from_json(state_type: type[BaseModel], value: Any, *, dynamic: bool) -> BaseModel:
    """Validate a JSON object into a whole state; InvalidError (INVALID_STATE) names the fields that do not fit."""
    if not isinstance(value, dict):
        raise InvalidError("INVALID_STATE", "The state must be a JSON object")
    try:
        if dynamic:
            return state_type(**value)
        return state_type.model_validate(value)
    except ValidationError as error:
        raise InvalidError(
            "INVALID_STATE", f"The value does not fit {state_type.__name__}", violations_of(error)
        ) from error
