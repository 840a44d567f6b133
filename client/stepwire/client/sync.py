"""The client for threads: as `aio`, which documents the parameters and errors."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from datetime import datetime
from types import TracebackType
from typing import Any, Self

import grpc
from pydantic import BaseModel

from stepwire.client import models
from stepwire.client._core.call import Settings
from stepwire.client._core.channel import Endpoint, TlsConfig, Token
from stepwire.client._core.event_types import EventTypes
from stepwire.client._core.run_calls import RunCalls
from stepwire.client._core.server_calls import (
    ClientCalls,
    FromRun,
    OnConflict,
    Seconds,
    SnapshotLike,
    log_beginning,
)
from stepwire.client._sync.context import SyncContext, SyncStore
from stepwire.client._sync.converse import SyncConversation
from stepwire.client._sync.run import SyncRun
from stepwire.client._sync.transport import SyncTransport
from stepwire.client.events import GenericEvent

__all__ = ["SyncClient", "SyncContext", "SyncConversation", "SyncRun", "SyncStore"]


class SyncClient:
    """As `Client`, for threads, which may share it. Use it as a context manager, or `close` it."""

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

    def connect(self, timeout: float) -> None:
        """Connect now, to learn early whether the server can be reached. Calls connect by themselves."""
        self._transport.connect(timeout)

    def close(self) -> None:
        """Close the connection. Calls under way are cancelled."""
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
        beginning = log_beginning(info, new=on_conflict == "fail" and request_id is None)
        return SyncRun(self._transport, RunCalls(info.run_id, self._settings, types, beginning))

    def run(self, run_id: str, *, events: Iterable[type[BaseModel]] = ()) -> SyncRun:
        """Return the handle of a run, without a call to the server."""
        types = self._settings.types.extended(events)
        return SyncRun(self._transport, RunCalls(run_id, self._settings, types))

    def get_run(self, run_id: str) -> models.RunInfo:
        """Return a run as the server knows it. Raises NotFoundError."""
        return self.run(run_id).info()

    def list_runs(
        self,
        *,
        workflow: str | None = None,
        statuses: Iterable[models.RunStatus | str] = (),
        labels: Mapping[str, str] | None = None,
        created_after: datetime | None = None,
        created_before: datetime | None = None,
        page_size: int = 100,
        results: bool = False,
    ) -> Iterator[models.RunInfo]:
        """Iterate over the runs that match all filters, newest first, as `Client.list_runs` does."""
        pages = self._calls.list_runs(
            workflow=workflow,
            statuses=statuses,
            labels=labels,
            created_after=created_after,
            created_before=created_before,
            page_size=page_size,
            results=results,
        )
        return self._transport.pages(pages)

    def workflows(self) -> Iterator[models.WorkflowSummary]:
        """Iterate over the served workflows by name."""
        return self._transport.pages(self._calls.workflows())

    def workflow(self, name: str) -> models.WorkflowInfo:
        """Describe a workflow. Raises NotFoundError."""
        return self._transport.unary(self._calls.workflow(name))
