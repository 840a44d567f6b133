"""The blocking client: as `aio`, for threads; see there for the contracts."""

from __future__ import annotations

from collections.abc import Callable, Generator, Iterable, Iterator, Mapping, Sequence
from contextlib import closing, contextmanager
from datetime import datetime
from types import TracebackType
from typing import Any, Self, TextIO

import grpc
from pydantic import BaseModel

from stepwire.client import models as _types
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
from stepwire.client._sync.converse import SyncConversation
from stepwire.client._sync.transport import SyncTransport
from stepwire.client.events import EventLike, EventTypes, GenericEvent

__all__ = ["SyncClient", "SyncContext", "SyncConversation", "SyncRun", "SyncStore"]


class SyncClient:
    """As `Client`, blocking; a context manager, or `close` it. Threads may share it."""

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
        channel: grpc.Channel | None = None,
    ) -> None:
        endpoint = Endpoint.of(address, token=token, tls=tls, keepalive=keepalive)
        self._transport = SyncTransport(endpoint, channel)
        self._settings = Settings(timeout, reconnect_timeout, EventTypes(events))
        self._calls = ClientCalls(self._settings)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.close()

    def close(self) -> None:
        """Close the connection; calls under way are cancelled."""
        self._transport.close()

    def start_run(
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
    ) -> SyncRun:
        """Start a run from a start event or its fields."""
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
        info = self._transport.unary(call)
        return SyncRun(self._transport, RunCalls(info.run_id, self._settings, types))

    def run(self, run_id: str, *, events: Iterable[type[BaseModel]] = ()) -> SyncRun:
        """Return the handle of a run without a call."""
        types = self._settings.types.extended(events)
        return SyncRun(self._transport, RunCalls(run_id, self._settings, types))

    def get_run(self, run_id: str) -> _types.RunInfo:
        """Return what the server knows of a run. Raises NotFoundError."""
        return self.run(run_id).info()

    def list_runs(
        self,
        *,
        workflow: str | None = None,
        statuses: Iterable[_types.RunStatus | str] = (),
        labels: Mapping[str, str] | None = None,
        created_after: datetime | None = None,
        created_before: datetime | None = None,
        page_size: int = 100,
    ) -> Iterator[_types.RunInfo]:
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

    def workflows(self) -> Iterator[_types.WorkflowSummary]:
        """Iterate over the served workflows by name."""
        return self._transport.pages(self._calls.workflows())

    def workflow(self, name: str) -> _types.WorkflowInfo:
        """Describe a workflow. Raises NotFoundError."""
        return self._transport.unary(self._calls.workflow(name))


class SyncRun:
    """As `Run`, blocking; made by `SyncClient.start_run` and `SyncClient.run`."""

    def __init__(self, transport: SyncTransport, calls: RunCalls) -> None:
        self._transport = transport
        self._calls = calls
        self.context = SyncContext(transport, calls)

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
    ) -> Generator[Any, None, None]:
        """Iterate over the log after a sequence, to the end of the run."""
        return self._transport.follow(self._calls.follow(after, types, internal, follow))

    def result(self, timeout: float | None = None, as_: Any = None) -> Any:
        """Wait for the end of the run, at most `timeout` seconds, and return its result."""
        return self._transport.run(self._calls.result(timeout, as_))

    def show(self, file: TextIO | None = None, *, as_: Any = None) -> Any:
        """Write a line for each event of the run to a file as they come; return what `result` does."""
        progress = Progress(file)
        with closing(self.events()) as events:
            for event in events:
                progress.tell(event)
        return self.result(as_=as_)

    def info(self) -> _types.RunInfo:
        """Return what the server knows of the run. Raises NotFoundError."""
        return self._transport.unary(self._calls.info())

    def cancel(self, reason: str = "") -> _types.RunInfo:
        """Cancel the run; one that has ended stays as it is. Raises NotFoundError."""
        return self._transport.unary(self._calls.cancel(reason))

    def delete(self) -> None:
        """Delete the ended run with its log and snapshots. Raises FailedPreconditionError."""
        self._transport.unary(self._calls.delete())

    def snapshot(self, sequence: int = 0, context_dict: bool = False) -> _types.Snapshot:
        """Return the snapshot at a sequence, 0 for the last committed one."""
        return self._transport.unary(self._calls.snapshot(sequence, context_dict))

    def snapshots(self) -> Iterator[_types.SnapshotInfo]:
        """Iterate over the snapshots that the server keeps, newest first."""
        return self._transport.pages(self._calls.list_snapshots())

    def converse(
        self,
        after: int = 0,
        *,
        types: Sequence[str | type[BaseModel]] = (),
        internal: bool = False,
        max_unacked: int = MAX_UNACKED,
    ) -> SyncConversation:
        """Return a conversation, to be used with `with`; parameters as of `events`."""
        make = self._calls.conversation(after, types, internal, max_unacked)
        return SyncConversation(self._transport, make, self._calls.settings.timeout)


class SyncContext:
    """As `Context`, blocking."""

    def __init__(self, transport: SyncTransport, calls: RunCalls) -> None:
        self._transport = transport
        self._calls = calls
        self.store = SyncStore(transport, calls)

    def send_event(self, event: EventLike, step: str | None = None) -> _types.SendResult:
        """Send an event to all steps and waiters that take it, or to one step."""
        return self._transport.unary(self._calls.send_event(event, step))

    def wait_for_event(
        self,
        event_type: str | type[BaseModel],
        waiter_event: EventLike | None = None,
        waiter_id: str | None = None,
        requirements: Mapping[str, Any] | None = None,
        timeout: float | None = 2000,
    ) -> Any:
        """Return the next event of a type whose fields have the values of `requirements`."""
        operation = self._calls.wait_for_event(event_type, waiter_event, waiter_id, requirements, timeout)
        return self._transport.run(operation)

    def write_event_to_stream(self, event: EventLike) -> int:
        """Write an event to the run's stream; return its sequence."""
        return self._transport.unary(self._calls.publish_event(event))

    def to_dict(self) -> dict[str, Any]:
        """Return the last committed context as a dict with the 1.x keys."""
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

    def set(self, path: str, value: Any, *, etag: str | None = None) -> str:
        """Set the value at a path; missing dicts on the way are made."""
        return self.set_many({path: value}, etag=etag)

    def set_many(self, values: Mapping[str, Any], *, etag: str | None = None) -> str:
        """Set the values at several paths, all or none."""
        return self._transport.unary(self._calls.set_many(values, etag))

    def unset(self, *paths: str, etag: str | None = None) -> str:
        """Remove the values at paths, all or none. Raises NotFoundError."""
        return self._transport.unary(self._calls.unset(paths, etag))

    def get_state(self, *, as_: Any = None) -> Any:
        """Return the whole state, a dict or `as_`."""
        return self.get("", as_=as_)

    def set_state(self, value: Any, *, etag: str | None = None) -> str:
        """Replace the whole state."""
        return self._transport.unary(self._calls.replace(value, etag))

    @contextmanager
    def edit_state(self, *, as_: Any = None) -> Iterator[Any]:
        """Change the state in a block: read at its start, written at its end, if nobody else wrote."""
        edit = Edit(self._calls, as_)
        yield self._transport.run(edit.begin())
        self._transport.run(edit.commit())

    def update_state(self, change: Callable[[Any], Any], *, as_: Any = None) -> Any:
        """Call `change` with the state and write what it returns, or what it made of its argument."""
        return self._transport.run(self._calls.update(change, as_))
