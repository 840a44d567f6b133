"""The asyncio client."""

from __future__ import annotations

from collections.abc import AsyncGenerator, AsyncIterator, Callable, Iterable, Mapping, Sequence
from contextlib import aclosing, asynccontextmanager
from datetime import datetime
from types import TracebackType
from typing import Any, Self, TextIO

import grpc.aio
from pydantic import BaseModel

from stepwire.client import models as _types
from stepwire.client._aio.converse import Conversation
from stepwire.client._aio.transport import AioTransport
from stepwire.client._core.calls import (
    ClientCalls,
    FromRun,
    OnConflict,
    Seconds,
    Settings,
    SnapshotLike,
)
from stepwire.client._core.channel import Endpoint, TlsConfig, Token
from stepwire.client._core.converse import MAX_UNACKED
from stepwire.client._core.progress import Progress
from stepwire.client._core.run_calls import RunCalls
from stepwire.client._core.state_calls import MISSING, Edit, StateCalls
from stepwire.client.events import EventLike, EventTypes, GenericEvent

__all__ = ["Client", "Context", "Conversation", "Run", "Store"]


class Client:
    """Speak with a Stepwire server; an async context manager, or `close` it.

    `timeout` is the deadline of a call, its repeats included, and `reconnect_timeout` how long a
    stream or a wait goes on without hearing of the server (None: without end); both in seconds.
    `tls`: None and False speak plaintext, True TLS with gRPC's roots. A `token` goes unencrypted
    to another machine only with `tls=False`. `keepalive` is the seconds between pings, at least 10,
    None for none. `events` are the classes that received events become, by class name; others
    become `GenericEvent`. An own `channel` is used as it is and never closed.
    """

    def __init__(
        self,
        address: str,
        *,
        token: Token | None = None,
        tls: TlsConfig | bool | None = None,
        timeout: float = 30.0,
        reconnect_timeout: float | None = 120.0,
        keepalive: float | None = 30.0,
        events: Iterable[type[BaseModel]] = (),
        channel: grpc.aio.Channel | None = None,
    ) -> None:
        endpoint = Endpoint.of(address, token=token, tls=tls, keepalive=keepalive)
        self._transport = AioTransport(endpoint, channel)
        self._settings = Settings(timeout, reconnect_timeout, EventTypes(events))
        self._calls = ClientCalls(self._settings)

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        await self.close()

    async def close(self) -> None:
        """Close the connection; calls under way are cancelled."""
        await self._transport.close()

    async def start_run(
        self,
        workflow: str,
        /,
        start_event: BaseModel | GenericEvent | Mapping[str, Any] | None = None,
        *,
        run_id: str | None = None,
        on_conflict: OnConflict = "fail",
        labels: Mapping[str, str] | None = None,
        timeout: Seconds | None = None,
        snapshot: SnapshotLike | None = None,
        from_run: FromRun | None = None,
        request_id: str | None = None,
        events: Iterable[type[BaseModel]] = (),
        **input: Any,
    ) -> Run:
        """Start a run from a start event or its fields.

        `timeout` is the run's own in seconds; `on_conflict` says what happens when `run_id` exists;
        `from_run` is a run, or a run and a sequence, of this server to start from. With a snapshot
        of a run that had not ended there must be no input.
        Raises NotFoundError, InvalidArgumentError, AlreadyExistsError, OutOfRangeError.
        """
        types = self._settings.types.extended(events)
        call = self._calls.start_run(
            workflow,
            start_event,
            input,
            run_id=run_id,
            on_conflict=on_conflict,
            labels=labels,
            timeout=timeout,
            snapshot=snapshot,
            from_run=from_run,
            request_id=request_id,
            types=types,
        )
        info = await self._transport.unary(call)
        return Run(self._transport, RunCalls(info.run_id, self._settings, types))

    def run(self, run_id: str, *, events: Iterable[type[BaseModel]] = ()) -> Run:
        """Return the handle of a run without a call."""
        types = self._settings.types.extended(events)
        return Run(self._transport, RunCalls(run_id, self._settings, types))

    async def get_run(self, run_id: str) -> _types.RunInfo:
        """Return what the server knows of a run. Raises NotFoundError."""
        return await self.run(run_id).info()

    def list_runs(
        self,
        *,
        workflow: str | None = None,
        statuses: Iterable[_types.RunStatus | str] = (),
        labels: Mapping[str, str] | None = None,
        created_after: datetime | None = None,
        created_before: datetime | None = None,
        page_size: int = 100,
    ) -> AsyncIterator[_types.RunInfo]:
        """Iterate over the runs that fit all filters, newest first, a page per call."""
        pages = self._calls.list_runs(
            workflow=workflow,
            statuses=statuses,
            labels=labels,
            created_after=created_after,
            created_before=created_before,
            page_size=page_size,
        )
        return self._transport.pages(pages)

    def workflows(self) -> AsyncIterator[_types.WorkflowSummary]:
        """Iterate over the served workflows by name."""
        return self._transport.pages(self._calls.workflows())

    async def workflow(self, name: str) -> _types.WorkflowInfo:
        """Describe a workflow. Raises NotFoundError."""
        return await self._transport.unary(self._calls.workflow(name))


class Run:
    """A run on the server; made by `Client.start_run` and `Client.run`."""

    def __init__(self, transport: AioTransport, calls: RunCalls) -> None:
        self._transport = transport
        self._calls = calls
        self.context = Context(transport, calls)

    @property
    def run_id(self) -> str:
        """Return the id of the run."""
        return self._calls.run_id

    def __repr__(self) -> str:
        return f"Run({self.run_id!r})"

    def events(
        self,
        after: int = 0,
        *,
        types: Sequence[str | type[BaseModel]] = (),
        internal: bool = False,
        follow: bool = True,
    ) -> AsyncGenerator[Any, None]:
        """Iterate over the log after a sequence, to the end of the run.

        `types` keeps only those (and the terminal event), `internal` adds what was sent to and by
        steps, `follow=False` ends at the present end of the log. A lost connection is taken up
        again where it was. `aclose` it (`contextlib.aclosing`) when you leave it early.
        Raises NotFoundError, OutOfRangeError, StreamGapError, EventDecodeError.
        """
        return self._transport.follow(self._calls.follow(after, types, internal, follow))

    async def result(self, timeout: float | None = None, as_: Any = None) -> Any:
        """Wait for the end of the run, at most `timeout` seconds, and return its result.

        `as_` is any type that pydantic validates; without it a registered custom stop event comes
        as that class, all else as plain JSON values. Raises RunFailedError, RunCancelledError,
        RunTimedOutError; DeadlineError when `timeout` came first.
        """
        return await self._transport.run(self._calls.result(timeout, as_))

    async def show(self, file: TextIO | None = None, *, as_: Any = None) -> Any:
        """Write a line for each event of the run to a file (standard error) as they come; return what `result` does."""
        progress = Progress(file)
        async with aclosing(self.events()) as events:
            async for event in events:
                progress.tell(event)
        return await self.result(as_=as_)

    async def info(self) -> _types.RunInfo:
        """Return what the server knows of the run. Raises NotFoundError."""
        return await self._transport.unary(self._calls.info())

    async def cancel(self, reason: str = "") -> _types.RunInfo:
        """Cancel the run; one that has ended stays as it is. Raises NotFoundError."""
        return await self._transport.unary(self._calls.cancel(reason))

    async def delete(self) -> None:
        """Delete the ended run with its log and snapshots. Raises FailedPreconditionError."""
        await self._transport.unary(self._calls.delete())

    async def snapshot(self, sequence: int = 0, context_dict: bool = False) -> _types.Snapshot:
        """Return the snapshot at a sequence, 0 for the last committed one."""
        return await self._transport.unary(self._calls.snapshot(sequence, context_dict))

    def snapshots(self) -> AsyncIterator[_types.SnapshotInfo]:
        """Iterate over the snapshots that the server keeps, newest first."""
        return self._transport.pages(self._calls.list_snapshots())

    def converse(
        self,
        after: int = 0,
        *,
        types: Sequence[str | type[BaseModel]] = (),
        internal: bool = False,
        max_unacked: int = MAX_UNACKED,
    ) -> Conversation:
        """Return a conversation, to be used with `async with`; parameters as of `events`.

        `max_unacked` bounds how many events wait in this client.
        """
        make = self._calls.conversation(after, types, internal, max_unacked)
        return Conversation(self._transport, make, self._calls.settings.timeout)


class Context:
    """The run's context from afar; the methods of the context that steps have."""

    def __init__(self, transport: AioTransport, calls: RunCalls) -> None:
        self._transport = transport
        self._calls = calls
        self.store = Store(transport, calls)

    async def send_event(self, event: EventLike, step: str | None = None) -> _types.SendResult:
        """Send an event to all steps and waiters that take it, or to one step.

        Raises NotFoundError, InvalidArgumentError, FailedPreconditionError.
        """
        return await self._transport.unary(self._calls.send_event(event, step))

    async def wait_for_event(
        self,
        event_type: str | type[BaseModel],
        waiter_event: EventLike | None = None,
        waiter_id: str | None = None,
        requirements: Mapping[str, Any] | None = None,
        timeout: float | None = 2000,
    ) -> Any:
        """Return the next event of a type whose fields have the values of `requirements`.

        It observes the log and takes the event from no one. `waiter_event` is written to the
        stream first, once per `waiter_id`. Raises DeadlineError (a TimeoutError) after `timeout`
        seconds, FailedPreconditionError when the run ends first.
        """
        operation = self._calls.wait_for_event(event_type, waiter_event, waiter_id, requirements, timeout)
        return await self._transport.run(operation)

    async def write_event_to_stream(self, event: EventLike) -> int:
        """Write an event to the run's stream; return its sequence."""
        return await self._transport.unary(self._calls.publish_event(event))

    async def to_dict(self) -> dict[str, Any]:
        """Return the last committed context as a dict with the 1.x keys."""
        snapshot = await self._transport.unary(self._calls.snapshot(0, True))
        return snapshot.context_dict or {}


class Store:
    """The run's state; paths are dotted, "" is the whole state.

    `etag`, where it is taken, is one that an earlier write returned: the write is refused with
    AbortedError when the state changed since. Writes return the new etag.
    """

    def __init__(self, transport: AioTransport, calls: RunCalls) -> None:
        self._transport = transport
        self._calls = StateCalls(calls)

    async def get(self, path: str, default: Any = MISSING, *, as_: Any = None) -> Any:
        """Return the value at a path, as `as_` when given.

        Raises NotFoundError when there is none and no default.
        """
        return await self._transport.run(self._calls.get(path, default, as_))

    async def set(self, path: str, value: Any, *, etag: str | None = None) -> str:
        """Set the value at a path; missing dicts on the way are made."""
        return await self.set_many({path: value}, etag=etag)

    async def set_many(self, values: Mapping[str, Any], *, etag: str | None = None) -> str:
        """Set the values at several paths, all or none."""
        return await self._transport.unary(self._calls.set_many(values, etag))

    async def unset(self, *paths: str, etag: str | None = None) -> str:
        """Remove the values at paths, all or none. Raises NotFoundError."""
        return await self._transport.unary(self._calls.unset(paths, etag))

    async def get_state(self, *, as_: Any = None) -> Any:
        """Return the whole state, a dict or `as_`."""
        return await self.get("", as_=as_)

    async def set_state(self, value: Any, *, etag: str | None = None) -> str:
        """Replace the whole state."""
        return await self._transport.unary(self._calls.replace(value, etag))

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
