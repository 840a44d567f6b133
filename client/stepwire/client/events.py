"""Events on the client: the caller's own classes where registered, else `GenericEvent`."""

from __future__ import annotations

import enum
import threading
import weakref
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, fields
from datetime import UTC, datetime
from typing import Any, TypeAlias

from pydantic import BaseModel, ValidationError

from stepwire.client._core.payload import from_payload, payload_json, to_json_bytes, to_payload
from stepwire.client.errors import EventDecodeError
from stepwire.v1 import types_pb2

__all__ = ["EntryKind", "EventLike", "EventMeta", "EventRole", "GenericEvent", "event_meta"]


class EntryKind(enum.StrEnum):
    """Say how an event came into the log."""

    UNSPECIFIED = "unspecified"
    STREAM = "stream"
    RECEIVED = "received"
    SENT = "sent"
    TERMINAL = "terminal"


class EventRole(enum.StrEnum):
    """Say what an event is for."""

    UNSPECIFIED = "unspecified"
    START = "start"
    STOP = "stop"
    INPUT_REQUIRED = "input_required"
    HUMAN_RESPONSE = "human_response"


_KINDS = dict(enumerate(EntryKind))
_ROLES = dict(enumerate(EventRole))


@dataclass(frozen=True, slots=True)
class EventMeta:
    """Where an event stands in the log; `step` is "" when it came from outside.

    `delivered` is how many deliveries it became plus the waiters it resolved; `time` is UTC.
    """

    type: str
    sequence: int
    time: datetime
    kind: EntryKind
    role: EventRole
    step: str
    delivered: int


_META_NAMES = frozenset(field.name for field in fields(EventMeta)) - {"type"}


class GenericEvent(Mapping[str, Any]):
    """An event of any type: a read-only mapping of its fields, which are attributes too.

    `type` is the class name on the server. An event from a log has `sequence, time, kind, role,
    step, delivered` as attributes as well; a field of such a name is reachable as an item.
    """

    __slots__ = ("_fields", "meta", "type")

    def __init__(self, type: str, /, **fields: Any) -> None:
        self.type = type
        self.meta: EventMeta | None = None
        self._fields = fields

    @classmethod
    def of(cls, type: str, fields: Mapping[str, Any], meta: EventMeta | None = None) -> GenericEvent:
        """Return the event of a type with the given fields."""
        event = cls(type)
        event._fields = dict(fields)
        event.meta = meta
        return event

    def __getattr__(self, name: str) -> Any:
        if name.startswith("__"):
            raise AttributeError(name)
        if name in _META_NAMES and self.meta is not None:
            return getattr(self.meta, name)
        try:
            return self._fields[name]
        except KeyError:
            raise AttributeError(f"event {self.type} has no field {name}") from None

    def __getitem__(self, name: str) -> Any:
        return self._fields[name]

    def __iter__(self) -> Iterator[str]:
        return iter(self._fields)

    def __len__(self) -> int:
        return len(self._fields)

    def __bool__(self) -> bool:
        return True

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, GenericEvent):
            return NotImplemented
        return self.type == other.type and self._fields == other._fields

    __hash__ = None  # type: ignore[assignment]  # fields are mutable values

    def __repr__(self) -> str:
        return f"GenericEvent({self.type!r}, {', '.join(f'{k}={v!r}' for k, v in self.items())})"

    def to_dict(self) -> dict[str, Any]:
        """Return a shallow copy of the fields."""
        return dict(self._fields)


EventLike: TypeAlias = BaseModel | GenericEvent | tuple[str, Mapping[str, Any]]
"""What can be sent: a pydantic model (its class name is the type), a GenericEvent, a pair."""


class _MetaTable:
    """Keep the metadata of models beside them: models are the caller's, not to be written on."""

    def __init__(self) -> None:
        self._lock = threading.RLock()  # a collection may run the callback inside `put`
        self._entries: dict[int, tuple[weakref.ref[Any], EventMeta]] = {}

    def put(self, event: BaseModel, meta: EventMeta) -> None:
        key = id(event)

        def forget(dead: weakref.ref[Any]) -> None:
            with self._lock:
                entry = self._entries.get(key)
                if entry is not None and entry[0] is dead:
                    del self._entries[key]

        with self._lock:
            self._entries[key] = (weakref.ref(event, forget), meta)

    def get(self, event: BaseModel) -> EventMeta | None:
        entry = self._entries.get(id(event))
        return entry[1] if entry is not None and entry[0]() is event else None


_table = _MetaTable()


def event_meta(event: BaseModel | GenericEvent) -> EventMeta:
    """Return where an event that this client received stands in the log.

    Raises ValueError for an event that was not received (a copy of one counts as such).
    """
    meta = event.meta if isinstance(event, GenericEvent) else _table.get(event)
    if meta is None:
        raise ValueError(f"this {type(event).__name__} was not received from a run")
    return meta


class EventTypes:
    """The caller's event classes by the names they have on the wire."""

    def __init__(self, classes: Iterable[type[BaseModel]] = ()) -> None:
        self._classes = {cls.__name__: cls for cls in classes}

    def extended(self, classes: Iterable[type[BaseModel]]) -> EventTypes:
        """Return these types and `classes`; the latter win."""
        types = EventTypes()
        types._classes = {**self._classes, **{cls.__name__: cls for cls in classes}}
        return types

    def find(self, name: str) -> type[BaseModel] | None:
        """Return the class registered for a type."""
        return self._classes.get(name)

    def decode(self, entry: types_pb2.LogEntry) -> Any:
        """Return the event of a log entry, with its metadata.

        Raises EventDecodeError when it does not fit the registered class.
        """
        meta = EventMeta(
            entry.type,
            entry.sequence,
            entry.time.ToDatetime(tzinfo=UTC),
            _KINDS.get(entry.kind, EntryKind.UNSPECIFIED),
            _ROLES.get(entry.role, EventRole.UNSPECIFIED),
            entry.step,
            entry.delivered,
        )
        return self._build(entry.type, entry.payload, meta)

    def decode_event(self, event: types_pb2.Event) -> Any:
        """Return an event that is in no log (a prompt)."""
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
            _table.put(event, meta)
        return event


def describe(error: ValidationError) -> str:
    """Return which fields are wrong and how, without their values."""
    found = error.errors(include_url=False, include_context=False, include_input=False)
    return ", ".join(f"{'.'.join(map(str, item['loc'])) or '(all)'} ({item['type']})" for item in found)


def type_name(event_type: str | type[BaseModel]) -> str:
    """Return the name that a type has on the wire."""
    return event_type if isinstance(event_type, str) else event_type.__name__


def encode_event(event: EventLike) -> types_pb2.Event:
    """Return the message of an event to send."""
    if isinstance(event, GenericEvent):
        return types_pb2.Event(type=event.type, payload=to_payload(event.to_dict()))
    if isinstance(event, BaseModel):
        payload = types_pb2.Payload(json=to_json_bytes(event))
        return types_pb2.Event(type=type(event).__name__, payload=payload)
    if isinstance(event, tuple):
        name, fields = event
        return types_pb2.Event(type=name, payload=to_payload(dict(fields)))
    raise TypeError("an event is a pydantic model, a GenericEvent or a (type name, fields) pair")
