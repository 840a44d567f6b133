"""The events of LlamaIndex 2.x as events of the engine, and their plain JSON.

A declared field is written by its class, and dynamic fields stand beside the declared ones, as for events of ours.
What an event's own serializer cannot write is written field by field, and a value that has no JSON form as its text.
"""

from __future__ import annotations

import contextlib
import json
from collections.abc import Iterator, Mapping
from typing import Any

from pydantic import ValidationError
from pydantic_core import InitErrorDetails, from_json, to_json

from stepwire.workflow import events as own
from stepwire.workflow.adopted_events import adopt_event
from stepwire.workflow.codec.library_json import FAILURES, library_json
from stepwire.workflow.errors import SerializationError
from stepwire.workflow.llamaindex import installed
from stepwire.workflow.llamaindex.libraries import message_type

__all__ = ["FORM", "TheirForm", "adopt_events", "base_types", "fields_of"]

_REPLACED = ("Event", "StartEvent", "StopEvent", "InputRequiredEvent", "HumanResponseEvent")

theirs: Any = installed.events


class TheirForm:
    """Write and read their events as plain JSON."""

    data = frozenset({"_data", "_result"})

    def to_json(self, event: Any) -> bytes:
        """Return the fields as clients see them; contract of `event_to_json`."""
        private = event.__pydantic_private__
        data: bytes | None = None
        if private is None or not private.get("_data"):
            with contextlib.suppress(*FAILURES):  # the event's own serializer may want fields that it has not
                data = event.__pydantic_serializer__.to_json(
                    event, by_alias=True, polymorphic_serialization=True, warnings=False
                )
        if data is None or b'"_data":' in data:  # dynamic fields, or an event inside that has some
            data = _by_field(event)
        if b"NaN" in data or b"Infinity" in data:
            data = to_json(_finite(from_json(data)))
        return data

    def from_json(self, cls: Any, data: bytes | str | Mapping[str, Any]) -> Any:
        """Return the event with these fields; contract of `event_from_json`."""
        if not isinstance(data, Mapping):
            try:
                parsed = from_json(data, allow_inf_nan=False)
            except ValueError as error:
                raise SerializationError(f"Input for {cls.__name__} is not JSON") from error
            if not isinstance(parsed, dict):
                raise SerializationError(f"Input for {cls.__name__} is no JSON object")
            data = parsed
        wrong = [key for key in data if key.startswith("_") or key in ("self", "cls")]
        if wrong:
            raise ValidationError.from_exception_data(
                cls.__name__,
                [InitErrorDetails(type="extra_forbidden", loc=(key,), input=None) for key in wrong],
                hide_input=True,
            )
        if isinstance(message := data.get("user_msg"), dict) and (kind := message_type(cls)) is not None:
            data = {**data, "user_msg": kind.model_validate(message)}
        try:
            return cls(**data)
        except ValidationError:
            raise
        except Exception as error:  # an author's __init__ may raise anything
            raise SerializationError(f"{cls.__name__} does not take these fields: {type(error).__name__}") from error


FORM = TheirForm()


def adopt_events() -> None:
    """Make their events count as ours."""
    for name in _REPLACED:
        adopt_event(
            getattr(own, name),
            getattr(theirs, name),
            form=FORM if name == "Event" else None,
            plain_stop=name == "StopEvent",
        )


def base_types(names: list[type]) -> list[type]:
    """Return the types that every adopted workflow has: the engine's, but theirs where they have the same."""
    return [getattr(theirs, cls.__name__) if cls.__name__ in _REPLACED else cls for cls in names]


def fields_of(event: Any) -> Iterator[tuple[str, Any]]:
    """Give the fields by their names on the wire; what the class keeps out of what it writes is left out."""
    for name, field in type(event).__pydantic_fields__.items():
        if not field.exclude and name in event.__dict__:
            yield field.serialization_alias or name, event.__dict__[name]
    private = event.__pydantic_private__ or {}
    yield from (private.get("_data") or {}).items()
    if isinstance(event, theirs.StopEvent) and private.get("_result") is not None:
        yield "result", private["_result"]


def _by_field(event: Any) -> bytes:
    """Write an event that has dynamic fields, which stand beside the declared ones, or whose own serializer fails."""
    return b"{%b}" % b",".join(
        b"%b:%b" % (json.dumps(str(name)).encode(), library_json(value)) for name, value in fields_of(event)
    )


def _finite(value: Any) -> Any:
    """Replace NaN and infinities, which no JSON has, by null, as their serializer does."""
    if isinstance(value, float):
        return value if value - value == 0 else None
    if isinstance(value, dict):
        return {key: _finite(item) for key, item in value.items()}
    return list(map(_finite, value)) if isinstance(value, list) else value
