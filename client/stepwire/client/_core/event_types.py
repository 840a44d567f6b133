"""From log entries to events, and from events to messages."""

from __future__ import annotations

from collections.abc import Iterable
from datetime import UTC
from typing import Any

from pydantic import BaseModel, ValidationError

from stepwire.client._core.failure import to_failure
from stepwire.client._core.payload import from_payload, payload_json, to_json_bytes, to_payload
from stepwire.client._core.run_status import status_of
from stepwire.client._core.times import to_datetime
from stepwire.client.errors import EventDecodeError
from stepwire.client.events import (
    ChildEvent,
    EntryKind,
    EventLike,
    EventMeta,
    EventRole,
    Execution,
    ExecutionStatus,
    GenericEvent,
    remember_meta,
)
from stepwire.v1 import types_pb2

_KINDS = dict(enumerate(EntryKind))
_ROLES = dict(enumerate(EventRole))
_STATUSES = dict(enumerate(ExecutionStatus))


def event_role(number: int) -> EventRole:
    """Return the role that the contract numbers so; a number that this client does not know is UNSPECIFIED."""
    return _ROLES.get(number, EventRole.UNSPECIFIED)


class EventTypes:
    """The caller's event classes by the names they have on the wire."""

    def __init__(self, classes: Iterable[type[BaseModel]] = ()) -> None:
        self._classes = {cls.__name__: cls for cls in classes}

    def extended(self, classes: Iterable[type[BaseModel]]) -> EventTypes:
        """Return these types and `classes`; `classes` win where names clash."""
        types = EventTypes()
        types._classes = {**self._classes, **{cls.__name__: cls for cls in classes}}
        return types

    def find(self, name: str) -> type[BaseModel] | None:
        """Return the class that is registered for a type, None when there is none."""
        return self._classes.get(name)

    def decode(self, entry: types_pb2.LogEntry) -> Any:
        """Return the event of a log entry, with its metadata.

        Raises:
            EventDecodeError: The event does not fit the class that is registered for its type.
        """
        meta = EventMeta(
            entry.type,
            entry.sequence,
            entry.time.ToDatetime(tzinfo=UTC),
            _KINDS.get(entry.kind, EntryKind.UNSPECIFIED),
            event_role(entry.role),
            entry.step,
            entry.delivered,
            entry.delivery_id,
            _execution(entry.execution) if entry.HasField("execution") else None,
            _child(entry.child) if entry.HasField("child") else None,
        )
        return self._build(entry.type, entry.payload, meta)

    def decode_event(self, event: types_pb2.Event) -> Any:
        """Return an event that is in no log, such as the prompt of a waiter."""
        return self._build(event.type, event.payload, None)

    def _build(self, name: str, payload: types_pb2.Payload, meta: EventMeta | None) -> Any:
        cls = self._classes.get(name)
        if cls is None:
            return GenericEvent.of(name, from_payload(payload) or {}, meta)
        try:
            event = cls.model_validate_json(payload_json(payload) or b"{}")
        except ValidationError as error:
            where = f" at sequence {meta.sequence}" if meta else ""
            # Not chained: pydantic's text quotes the values.
            raise EventDecodeError(
                f"event {name}{where} does not fit the registered class: {describe(error)}"
            ) from None
        if meta is not None:
            remember_meta(event, meta)
        return event


def _execution(told: types_pb2.Execution) -> Execution:
    return Execution(
        delivery_id=told.delivery_id,
        status=_STATUSES.get(told.status, ExecutionStatus.UNSPECIFIED),
        attempt=told.attempt,
        caused_by=told.caused_by,
        duration=told.duration.ToTimedelta() if told.HasField("duration") else None,
        error=to_failure(told.error) if told.HasField("error") else None,
        next_attempt_at=to_datetime(told, "next_attempt_at"),
    )


def _child(told: types_pb2.ChildEvent) -> ChildEvent:
    return ChildEvent(told.run_id, told.workflow, status_of(told.status))


def describe(error: ValidationError) -> str:
    """Return which fields are wrong and why, without their values."""
    found = error.errors(include_url=False, include_context=False, include_input=False)
    return ", ".join(f"{'.'.join(map(str, item['loc'])) or '(all)'} ({item['type']})" for item in found)


def type_name(event_type: str | type[BaseModel]) -> str:
    """Return the name that a type has on the wire."""
    return event_type if isinstance(event_type, str) else event_type.__name__


def encode_event(event: EventLike) -> types_pb2.Event:
    """Return an event to send as a message. Raises TypeError for what is no event."""
    if isinstance(event, GenericEvent):
        return types_pb2.Event(type=event.type, payload=to_payload(event.to_dict()))
    if isinstance(event, BaseModel):
        payload = types_pb2.Payload(json=to_json_bytes(event))
        return types_pb2.Event(type=type(event).__name__, payload=payload)
    if isinstance(event, tuple):
        name, fields = event
        return types_pb2.Event(type=name, payload=to_payload(dict(fields)))
    raise TypeError(
        f"{type(event).__name__} is no event: pass a pydantic model, a GenericEvent or a pair (type name, fields)"
    )
