"""The context and the state of a run, for threads."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any

from pydantic import BaseModel

from stepwire.client import models
from stepwire.client._core.polls import wait_for_event
from stepwire.client._core.run_calls import RunCalls
from stepwire.client._core.state_calls import MISSING, Edit, StateCalls
from stepwire.client._sync.transport import SyncTransport
from stepwire.client.events import EventLike


class SyncContext:
    """As `Context`, blocking."""

    def __init__(self, transport: SyncTransport, calls: RunCalls) -> None:
        self._transport = transport
        self._calls = calls
        self.store = SyncStore(transport, calls)

    def send_event(
        self, event: EventLike, step: str | None = None, *, request_id: str | None = None
    ) -> models.SendResult:
        """Send an event to all steps and waiters that take it, or to one step."""
        return self._transport.unary(self._calls.send_event(event, step, request_id))

    def wait_for_event(
        self,
        event_type: str | type[BaseModel],
        waiter_event: EventLike | None = None,
        waiter_id: str | None = None,
        requirements: Mapping[str, Any] | None = None,
        timeout: float | None = 2000,
    ) -> Any:
        """Return the next event of a type whose fields have the values of `requirements`."""
        operation = wait_for_event(self._calls, event_type, waiter_event, waiter_id, requirements, timeout)
        return self._transport.run(operation)

    def write_event_to_stream(self, event: EventLike, *, request_id: str | None = None) -> int:
        """Write an event to the run's stream and return its sequence."""
        return self._transport.unary(self._calls.publish_event(event, request_id))

    def to_dict(self) -> dict[str, Any]:
        """Return the last committed context as a dict with the keys of the 1.x model."""
        snapshot = self._transport.unary(self._calls.snapshot(0, True))
        return snapshot.context_dict or {}


class SyncStore:
    """As `Store`, blocking."""

    def __init__(self, transport: SyncTransport, calls: RunCalls) -> None:
        self._transport = transport
        self._calls = StateCalls(calls)

    def get(self, path: str, default: Any = MISSING, *, as_: Any = None) -> Any:
        """Return the value at a path, as `as_` when given."""
        return self._transport.run(self._calls.get(path, default, as_))

    def set(self, path: str, value: Any, *, etag: str | None = None, request_id: str | None = None) -> str:
        """Set the value at a path. Missing dicts on the way are created."""
        return self.set_many({path: value}, etag=etag, request_id=request_id)

    def set_many(self, values: Mapping[str, Any], *, etag: str | None = None, request_id: str | None = None) -> str:
        """Set the values at several paths, all or none."""
        return self._transport.unary(self._calls.set_many(values, etag, request_id))

    def unset(self, *paths: str, etag: str | None = None, request_id: str | None = None) -> str:
        """Remove the values at paths, all or none. Raises NotFoundError when one has no value."""
        return self._transport.unary(self._calls.unset(paths, etag, request_id))

    def get_state(self, *, as_: Any = None) -> Any:
        """Return the whole state as a dict, or as `as_`."""
        return self.get("", as_=as_)

    def set_state(self, value: Any, *, etag: str | None = None, request_id: str | None = None) -> str:
        """Replace the whole state."""
        return self._transport.unary(self._calls.replace(value, etag, request_id))

    @contextmanager
    def edit_state(self, *, as_: Any = None) -> Iterator[Any]:
        """Change the state in a block: read at its start, written at its end, if nobody else wrote."""
        edit = Edit(self._calls, as_)
        yield self._transport.run(edit.begin())
        self._transport.run(edit.commit())

    def update_state(self, change: Callable[[Any], Any], *, as_: Any = None) -> Any:
        """Call `change` with the state and write what it returns, or what it made of its argument."""
        return self._transport.run(self._calls.update(change, as_))
