"""Events as the caller sees them: the caller's own classes where registered, else `GenericEvent`."""

from __future__ import annotations

import enum
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, fields
from datetime import datetime, timedelta
from typing import Any, TypeAlias

from pydantic import BaseModel

from stepwire.client._core.failure import Failure
from stepwire.client._core.run_status import RunStatus
from stepwire.client._core.side_table import SideTable

__all__ = [
    "ChildEvent",
    "EntryKind",
    "EventLike",
    "EventMeta",
    "EventRole",
    "Execution",
    "ExecutionStatus",
    "GenericEvent",
    "event_meta",
]


class EntryKind(enum.StrEnum):
    """How an event came into the log."""

    UNSPECIFIED = "unspecified"
    STREAM = "stream"
    RECEIVED = "received"
    SENT = "sent"
    TERMINAL = "terminal"
    EXECUTION = "execution"
    CHILD = "child"


class EventRole(enum.StrEnum):
    """What an event is for."""

    UNSPECIFIED = "unspecified"
    START = "start"
    STOP = "stop"
    INPUT_REQUIRED = "input_required"
    HUMAN_RESPONSE = "human_response"


class ExecutionStatus(enum.StrEnum):
    """How far an attempt at a step got."""

    UNSPECIFIED = "unspecified"
    STARTED = "started"
    FINISHED = "finished"
    FAILED = "failed"
    TIMED_OUT = "timed_out"
    CANCELLED = "cancelled"
    LOST = "lost"


@dataclass(frozen=True, slots=True)
class Execution:
    """One attempt at a delivery: an event that a step processes.

    Attributes:
        delivery_id: The delivery, the same in all attempts.
        status: How far the attempt got.
        attempt: Its number, from 1.
        caused_by: The sequence of the event that the step processes.
        duration: How long the attempt took, with all its waits; None for STARTED and LOST.
        error: What it failed with; None when it did not.
        next_attempt_at: When the step is tried again; None when it is not.
    """

    delivery_id: int
    status: ExecutionStatus
    attempt: int
    caused_by: int
    duration: timedelta | None
    error: Failure | None
    next_attempt_at: datetime | None


@dataclass(frozen=True, slots=True)
class ChildEvent:
    """The start or the end of a child: a run that a step has started.

    Attributes:
        run_id: The child.
        workflow: Its workflow.
        status: RUNNING for its start, else how it ended.
    """

    run_id: str
    workflow: str
    status: RunStatus


@dataclass(frozen=True, slots=True)
class EventMeta:
    """The place of an event in its run's log.

    Attributes:
        type: The name of the event's class on the server.
        sequence: The number of the log entry, from 1.
        time: When the entry was made, in UTC.
        kind: How the event came into the log.
        role: What the event is for.
        step: The step that sent or wrote it; "" when it came from a client.
        delivered: The number of deliveries that it became plus the number of waiters that it resolved.
        delivery_id: The delivery whose step made it; 0 when it came from a client.
        execution: What became of an attempt at a step. Set for kind EXECUTION alone, which has no event: `type` is "".
        child: What became of a child. Set for kind CHILD alone, which has no event either.
    """

    type: str
    sequence: int
    time: datetime
    kind: EntryKind
    role: EventRole
    step: str
    delivered: int
    delivery_id: int = 0
    execution: Execution | None = None
    child: ChildEvent | None = None


_META_NAMES = frozenset(field.name for field in fields(EventMeta)) - {"type", "delivery_id", "execution", "child"}


class GenericEvent(Mapping[str, Any]):
    """An event of any type: a read-only mapping of its fields. The fields are attributes too.

    An event from a log also has the attributes of its `EventMeta`: `sequence`, `time`, `kind`, `role`, `step` and
    `delivered`. They hide fields of the same name, which stay reachable as items: `event["step"]`.

    Attributes:
        type: The name of the event's class on the server.
        meta: The place in the log; None for an event that the caller made.
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
"""What can be sent: a pydantic model (its class name is the type), a GenericEvent, or a pair (type name, fields)."""


# Models are the caller's: their metadata is kept beside them, not written on them.
_received: SideTable[EventMeta] = SideTable()


def event_meta(event: BaseModel | GenericEvent) -> EventMeta:
    """Return the place in the log of an event that this client received.

    Raises:
        ValueError: The event was not received. A copy of a received event counts as not received.
    """
    meta = event.meta if isinstance(event, GenericEvent) else _received.get(event)
    if meta is None:
        raise ValueError(f"this {type(event).__name__} was not received from a run")
    return meta


def remember_meta(event: BaseModel, meta: EventMeta) -> None:
    """Keep the metadata of a received model, for `event_meta`."""
    _received.put(event, meta)
