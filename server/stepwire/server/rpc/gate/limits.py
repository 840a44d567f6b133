"""Limits on the size and depth of what a call carries, checked before a payload is parsed."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Final

from stepwire.server.runs.errors import LimitError, too_large
from stepwire.server.runs.limits import check_count, refuse
from stepwire.server.runs.payloads import VALUE_BYTES, deeper_than, weight
from stepwire.v1 import run_service_pb2 as runs
from stepwire.v1 import schedule_service_pb2 as schedules
from stepwire.v1 import state_service_pb2 as state
from stepwire.v1 import types_pb2 as pb
from stepwire.workflow.hosting import MAX_DEPTH


@dataclass(frozen=True, kw_only=True)
class Limits:
    """The limits of a server: sizes in bytes, counts for each principal (0: no limit).

    Attributes:
        message_bytes: A message, before it is parsed.
        event_bytes: The payload of an event, an input, or the requirements of a wait.
        state_bytes: A value that is written to a state.
        snapshot_bytes: A snapshot to start from.
        depth: Levels of lists and objects in a payload.
        calls: Unary calls under way, of all callers together.
        streams: Open streams of one caller.
        waiters: Calls of one caller that wait for a run or an event.
        events_per_second: Events and starts of one caller.
        sync_backlog: Sync steps that wait for a thread before events are refused.
        stalled_after: Seconds after which a stream ends whose client does not read; 0 for never.
    """

    message_bytes: int = 16 << 20
    event_bytes: int = 1 << 20
    state_bytes: int = 8 << 20
    snapshot_bytes: int = 16 << 20
    depth: int = MAX_DEPTH
    calls: int = 1024
    streams: int = 0
    waiters: int = 0
    events_per_second: int = 0
    sync_backlog: int = 10_000
    stalled_after: float = 30.0

    def check_message(self, size: int) -> None:
        """Raise LimitError if a message is too long to be parsed."""
        if size > self.message_bytes:
            raise too_large("The message", size, self.message_bytes, "message_bytes")

    def check_plain(self, size: int) -> None:
        """Raise LimitError if a request without a payload is too long to be parsed: each of its items costs time."""
        if size > _PLAIN_BYTES:
            message = f"The request has {size} bytes, and one of this method may have at most {_PLAIN_BYTES}"
            raise LimitError(message, limit="message_bytes")

    def check_held(self, kind: str, size: int) -> None:
        """Raise LimitError if the request of a stream or a wait is too long to stay in memory as long as the call.

        A wait may carry two payloads of events on top.
        """
        largest = _HELD_BYTES + (2 * self.event_bytes if kind == "wait" else 0)
        if size > largest:
            message = f"The request has {size} bytes, and one that is held may have at most {largest}"
            raise LimitError(message, limit="message_bytes")

    def check_payload(self, what: str, payload: pb.Payload, largest: int, limit: str) -> None:
        """Raise LimitError, which says what it is, if a payload is too long or too deep to be parsed."""
        which = payload.WhichOneof("encoding")
        if which == "json":
            data = payload.json
            if len(data) > largest:
                raise too_large(what, len(data), largest, limit)
            if deeper_than(data, self.depth):
                raise LimitError(f"{what} may be nested at most {self.depth} levels (max_depth)", limit="depth")
        elif which == "value":
            if (size := payload.value.ByteSize()) > largest:
                raise too_large(what, size, largest, limit)
            if self.depth < _DEEPEST_VALUE and _value_deeper(payload.value, self.depth):
                raise LimitError(f"{what} may be nested at most {self.depth} levels (max_depth)", limit="depth")

    def check_event(self, payload: pb.Payload, what: str = "The event") -> None:
        """Raise LimitError if an event's payload, or an input, is too long or too deep."""
        self.check_payload(what, payload, self.event_bytes, "event_bytes")

    def check_state(self, payload: pb.Payload, what: str = "The state") -> None:
        """Raise LimitError if values of a state are too long, too many or too deep."""
        self.check_payload(what, payload, self.state_bytes, "state_bytes")
        if payload.WhichOneof("encoding") == "json" and weight(payload.json, self.state_bytes) > self.state_bytes:
            message = (
                f"{what} may have at most {self.state_bytes} bytes (max_state_bytes), and each value counts for"
                f" {VALUE_BYTES}"
            )
            raise LimitError(message, limit="state_bytes")

    def check_request(self, request: Any) -> None:
        """Raise LimitError if anything that a request carries is too long or too deep."""
        check = _CARRIED.get(type(request))
        if check is not None:
            check(self, request)


_HELD_BYTES: Final = 64 * 1024
"""Bytes of a request that stays in memory: cursors and filters need a small part of that."""
_PLAIN_BYTES: Final = 1 << 20
"""Bytes of a unary request without a payload: a thousand paths or 32 labels need less. A list of so many bytes takes
some 50 ms; 16 MiB of tiny items would hold the event loop for seconds."""
_DEEPEST_VALUE: Final = 34
"""Levels of a protobuf Value: its parser refuses deeper ones."""


def _value_deeper(value: Any, depth: int) -> bool:
    kind = value.WhichOneof("kind")
    if kind == "list_value":
        return depth == 0 or any(_value_deeper(item, depth - 1) for item in value.list_value.values)
    if kind == "struct_value":
        return depth == 0 or any(_value_deeper(item, depth - 1) for item in value.struct_value.fields.values())
    return False


def _start(limits: Limits, request: Any) -> None:
    limits.check_event(request.input, "The input")
    if request.WhichOneof("source") != "snapshot":
        return
    if (size := request.snapshot.ByteSize()) > limits.snapshot_bytes:
        raise too_large("The snapshot", size, limits.snapshot_bytes, "snapshot_bytes")


def _spec(limits: Limits, request: Any) -> None:
    limits.check_event(request.spec.input, "The input")


def _event(limits: Limits, request: Any) -> None:
    limits.check_event(request.event.payload)


def _wait(limits: Limits, request: Any) -> None:
    limits.check_event(request.requirements, "The object of requirements")
    limits.check_event(request.waiter_event.payload)


def _set(limits: Limits, request: Any) -> None:
    refuse(check_count("values", len(request.values)))
    for item in request.values:
        limits.check_state(item.value, f"The value of {item.path[:128]}")


def _replace(limits: Limits, request: Any) -> None:
    limits.check_state(request.value)


_CARRIED: Final[dict[type, Callable[[Limits, Any], None]]] = {
    runs.StartRunRequest: _start,
    schedules.CreateScheduleRequest: _spec,
    schedules.UpdateScheduleRequest: _spec,
    runs.SendEventRequest: _event,
    runs.PublishEventRequest: _event,
    runs.WaitForEventRequest: _wait,
    state.SetStateRequest: _set,
    state.ReplaceStateRequest: _replace,
}

CARRIERS: Final = frozenset(kind.__name__.removesuffix("Request") for kind in _CARRIED)
"""The methods whose requests carry payloads or snapshots."""
