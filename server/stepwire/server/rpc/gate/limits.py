"""Limits on what a call carries, looked at before it is parsed, and on how much each principal does at a time."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any, Final

from stepwire.server.runs.errors import LimitError
from stepwire.server.runs.payloads import deeper_than
from stepwire.v1 import run_service_pb2 as runs
from stepwire.v1 import state_service_pb2 as state
from stepwire.v1 import types_pb2 as pb


@dataclass(frozen=True, kw_only=True)
class Limits:
    """Sizes in bytes, quotas of each principal (0: none), `stalled_after` in seconds (0: never)."""

    message_bytes: int = 16 << 20
    event_bytes: int = 1 << 20
    state_bytes: int = 8 << 20
    snapshot_bytes: int = 16 << 20
    depth: int = 100
    calls: int = 1024
    streams: int = 0
    waiters: int = 0
    events_per_second: int = 0
    sync_backlog: int = 10_000
    stalled_after: float = 30.0

    def check_message(self, size: int) -> None:
        """Refuse a message that is too long, before anything parses it. LimitError."""
        if size > self.message_bytes:
            raise LimitError(f"A message may have at most {self.message_bytes} bytes", limit="message_bytes")

    def check_held(self, kind: str, size: int) -> None:
        """Refuse the request of a stream or a wait that is too long: it stays in memory as long as they do. LimitError.

        A wait may carry two payloads of events.
        """
        largest = _HELD_BYTES + (2 * self.event_bytes if kind == "wait" else 0)
        if size > largest:
            raise LimitError(f"A request that is held may have at most {largest} bytes", limit="message_bytes")

    def check_payload(self, payload: pb.Payload, largest: int, limit: str) -> None:
        """Refuse a payload that is too long or too deep, before anything parses it. LimitError."""
        which = payload.WhichOneof("encoding")
        if which == "json":
            data = payload.json
            if len(data) > largest:
                raise LimitError(f"This may have at most {largest} bytes", limit=limit)
            if deeper_than(data, self.depth):
                raise LimitError(f"Payloads may be nested at most {self.depth} levels", limit="depth")
        elif which == "value":
            if payload.value.ByteSize() > largest:
                raise LimitError(f"This may have at most {largest} bytes", limit=limit)
            if self.depth < _DEEPEST_VALUE and _value_deeper(payload.value, self.depth):
                raise LimitError(f"Payloads may be nested at most {self.depth} levels", limit="depth")

    def check_event(self, payload: pb.Payload) -> None:
        """Refuse an event's payload that is too long or too deep. LimitError."""
        self.check_payload(payload, self.event_bytes, "event_bytes")

    def check_request(self, request: Any) -> None:
        """Refuse what a request carries when it is too long or too deep. LimitError."""
        payloads = _PAYLOADS.get(type(request))
        if payloads is not None:
            payloads(self, request)


_HELD_BYTES: Final = 64 * 1024
_DEEPEST_VALUE: Final = 34
"""Deeper ones are refused by protobuf's parser."""


def _value_deeper(value: Any, depth: int) -> bool:
    kind = value.WhichOneof("kind")
    if kind == "list_value":
        return depth == 0 or any(_value_deeper(item, depth - 1) for item in value.list_value.values)
    if kind == "struct_value":
        return depth == 0 or any(_value_deeper(item, depth - 1) for item in value.struct_value.fields.values())
    return False


def _start(limits: Limits, request: Any) -> None:
    limits.check_event(request.input)
    if request.WhichOneof("source") == "snapshot" and request.snapshot.ByteSize() > limits.snapshot_bytes:
        raise LimitError(f"A snapshot may have at most {limits.snapshot_bytes} bytes", limit="snapshot_bytes")


def _event(limits: Limits, request: Any) -> None:
    limits.check_event(request.event.payload)


def _wait(limits: Limits, request: Any) -> None:
    limits.check_event(request.requirements)
    limits.check_event(request.waiter_event.payload)


def _set(limits: Limits, request: Any) -> None:
    for item in request.values:
        limits.check_payload(item.value, limits.state_bytes, "state_bytes")


def _replace(limits: Limits, request: Any) -> None:
    limits.check_payload(request.value, limits.state_bytes, "state_bytes")


_PAYLOADS: Final[dict[type, Callable[[Limits, Any], None]]] = {
    runs.StartRunRequest: _start,
    runs.SendEventRequest: _event,
    runs.PublishEventRequest: _event,
    runs.WaitForEventRequest: _wait,
    state.SetStateRequest: _set,
    state.ReplaceStateRequest: _replace,
}

CARRIERS: Final = frozenset(kind.__name__.removesuffix("Request") for kind in _PAYLOADS)
"""The methods whose requests carry what is looked at."""


class Usage:
    """What one principal does now: open streams and waits, and a bucket of events that refills every second."""

    __slots__ = ("_rate", "_refilled", "_tokens", "streams", "waiters")

    def __init__(self, rate: int) -> None:
        self.streams = 0
        self.waiters = 0
        self._rate = rate
        self._tokens = float(rate)
        self._refilled = time.monotonic()

    def spend(self) -> None:
        """Take one event from the bucket. LimitError that says when there is one again."""
        rate = self._rate
        if not rate:
            return
        now = time.monotonic()
        tokens = min(float(rate), self._tokens + (now - self._refilled) * rate)
        self._refilled = now
        if tokens < 1.0:
            self._tokens = tokens
            message = f"At most {rate} events a second are taken from a caller"
            raise LimitError(message, limit="events_per_second", retry_after=max(0.001, (1.0 - tokens) / rate))
        self._tokens = tokens - 1.0

    @property
    def idle(self) -> bool:
        """Whether nothing would be lost by forgetting this."""
        return not self.streams and not self.waiters and time.monotonic() - self._refilled > 1.0


class Usages:
    """The usage of each principal; those that do nothing are forgotten now and then."""

    def __init__(self, rate: int) -> None:
        self._rate = rate
        self._usages: dict[tuple[str, str], Usage] = {}
        self._sweep_at = 4096

    def of(self, namespace: str, name: str) -> Usage:
        """Return the usage of a principal."""
        key = (namespace, name)
        usage = self._usages.get(key)
        if usage is None:
            if len(self._usages) >= self._sweep_at:
                self._usages = {other: found for other, found in self._usages.items() if not found.idle}
                self._sweep_at = max(4096, 2 * len(self._usages))
            usage = self._usages[key] = Usage(self._rate)
        return usage

    def __iter__(self) -> Iterator[tuple[tuple[str, str], Usage]]:
        return iter(self._usages.items())
