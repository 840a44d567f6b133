"""The context and the state of a run."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import asynccontextmanager
from typing import Any

from pydantic import BaseModel

from stepwire.client import models
from stepwire.client._aio.transport import AioTransport
from stepwire.client._core.polls import wait_for_event
from stepwire.client._core.run_calls import RunCalls
from stepwire.client._core.state_calls import MISSING, Edit, StateCalls
from stepwire.client.events import EventLike


class Context:
    """The context of a run, seen by a client: the methods that steps have on theirs.

    The client makes a `request_id` for each write. One that the caller gives makes it safe to repeat by the caller too.
    """

    def __init__(self, transport: AioTransport, calls: RunCalls) -> None:
        self._transport = transport
        self._calls = calls
        self.store = Store(transport, calls)

    async def send_event(
        self, event: EventLike, step: str | None = None, *, request_id: str | None = None
    ) -> models.SendResult:
        """Send an event to all steps and waiters that take it, or to one step.

        Raises:
            NotFoundError: There is no such run or step.
            InvalidArgumentError: The event is wrong, or the step does not accept it.
            FailedPreconditionError: The run has ended or is blocked.
        """
        return await self._transport.unary(self._calls.send_event(event, step, request_id))

    async def wait_for_event(
        self,
        event_type: str | type[BaseModel],
        waiter_event: EventLike | None = None,
        waiter_id: str | None = None,
        requirements: Mapping[str, Any] | None = None,
        timeout: float | None = 2000,
    ) -> Any:
        """Return the next event of a type whose fields have the values of `requirements`.

        The wait observes the log: steps and other clients get the event too. It begins after the event that the
        last equal wait on this handle returned. The first one begins at the start of a run that this client
        started, else at the present end of the log. So a question that was already asked is not missed.

        Args:
            event_type: The type, or the class to return the event as.
            waiter_event: An event to write to the stream first, once per `waiter_id`.
            waiter_id: The id of the wait; None for the server's default.
            requirements: The values that fields of the event must have.
            timeout: Seconds to wait; None for no limit.

        Raises:
            DeadlineError: No event came within `timeout`. It is a TimeoutError.
            FailedPreconditionError: The run ended first.
        """
        operation = wait_for_event(self._calls, event_type, waiter_event, waiter_id, requirements, timeout)
        return await self._transport.run(operation)

    async def write_event_to_stream(self, event: EventLike, *, request_id: str | None = None) -> int:
        """Write an event to the run's stream and return its sequence."""
        return await self._transport.unary(self._calls.publish_event(event, request_id))

    async def to_dict(self) -> dict[str, Any]:
        """Return the last committed context as a dict with the keys of the 1.x model."""
        snapshot = await self._transport.unary(self._calls.snapshot(0, True))
        return snapshot.context_dict or {}


class Store:
    """The state of a run. Paths are dotted; "" is the whole state.

    A write returns the new etag. A write that is given an earlier `etag` raises AbortedError when the state has
    changed since. The client makes a `request_id` for each write; one that the caller gives makes a repeat by the
    caller safe too.
    """

    def __init__(self, transport: AioTransport, calls: RunCalls) -> None:
        self._transport = transport
        self._calls = StateCalls(calls)

    async def get(self, path: str, default: Any = MISSING, *, as_: Any = None) -> Any:
        """Return the value at a path.

        Args:
            path: The dotted path.
            default: What to return when there is no value.
            as_: The type of the value, any that pydantic validates; None for plain JSON values.

        Raises:
            NotFoundError: There is no value and no default.
        """
        return await self._transport.run(self._calls.get(path, default, as_))

    async def set(self, path: str, value: Any, *, etag: str | None = None, request_id: str | None = None) -> str:
        """Set the value at a path. Missing dicts on the way are created."""
        return await self.set_many({path: value}, etag=etag, request_id=request_id)

    async def set_many(
        self, values: Mapping[str, Any], *, etag: str | None = None, request_id: str | None = None
    ) -> str:
        """Set the values at several paths, all or none."""
        return await self._transport.unary(self._calls.set_many(values, etag, request_id))

    async def unset(self, *paths: str, etag: str | None = None, request_id: str | None = None) -> str:
        """Remove the values at paths, all or none. Raises NotFoundError when one has no value."""
        return await self._transport.unary(self._calls.unset(paths, etag, request_id))

    async def get_state(self, *, as_: Any = None) -> Any:
        """Return the whole state as a dict, or as `as_`."""
        return await self.get("", as_=as_)

    async def set_state(self, value: Any, *, etag: str | None = None, request_id: str | None = None) -> str:
        """Replace the whole state."""
        return await self._transport.unary(self._calls.replace(value, etag, request_id))

    @asynccontextmanager
    async def edit_state(self, *, as_: Any = None) -> AsyncIterator[Any]:
        """Change the state in a block: read at its start, written at its end, if nobody else wrote.

        Raises AbortedError at the end when the state was changed meanwhile; nothing was written
        then. An error inside writes nothing. `update_state` repeats instead.
        """
        edit = Edit(self._calls, as_)
        yield await self._transport.run(edit.begin())
        await self._transport.run(edit.commit())

    async def update_state(self, change: Callable[[Any], Any], *, as_: Any = None) -> Any:
        """Call `change` with the state and write what it returns, or what it made of its argument.

        Again with the new state when another wrote meanwhile. Returns what was written.
        """
        return await self._transport.run(self._calls.update(change, as_))
