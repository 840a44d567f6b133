"""The client for threads: as `aio`, which documents the parameters and errors."""

from __future__ import annotations

from collections.abc import Generator, Iterable, Iterator, Mapping, Sequence
from datetime import datetime
from types import TracebackType
from typing import Any, Self

import grpc
from pydantic import BaseModel

from stepwire.client import models
from stepwire.client._core.call import Settings
from stepwire.client._core.channel import Endpoint, TlsConfig, Token
from stepwire.client._core.event_types import EventTypes
from stepwire.client._core.first_contact import FirstContact
from stepwire.client._core.run_calls import RunCalls
from stepwire.client._core.run_filters import run_filters
from stepwire.client._core.schedule_calls import ScheduleCalls
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
from stepwire.client._sync.schedules import SyncSchedules
from stepwire.client._sync.transport import SyncTransport
from stepwire.client.events import GenericEvent

__all__ = ["SyncClient", "SyncContext", "SyncConversation", "SyncRun", "SyncSchedules", "SyncStore"]


class SyncClient:
    """As `Client`, for threads, which may share it. Use it as a context manager, or `close` it."""

    def __init__(
        self,
        address: str | Sequence[str],
        *,
        token: Token | None = None,
        tls: TlsConfig | bool | None = None,
        timeout: float = 30.0,
        reconnect_timeout: float | None = 120.0,
        connect_timeout: float | None = 3.0,
        keepalive: float | None = 30.0,
        events: Iterable[type[BaseModel]] = (),
        channel: grpc.Channel | None = None,
    ) -> None:
        endpoint = Endpoint.of(address, token=token, tls=tls, keepalive=keepalive)
        addresses = endpoint.addresses if channel is None else ("",)
        self._transport = SyncTransport(endpoint, channel, FirstContact(connect_timeout, addresses=addresses))
        self._settings = Settings(timeout, reconnect_timeout, EventTypes(events), len(addresses))
        self._calls = ClientCalls(self._settings)
        self.schedules = SyncSchedules(self._transport, ScheduleCalls(self._settings))

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
        fresh_budgets: bool = False,
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
            fresh_budgets=fresh_budgets,
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
        error_type: str | None = None,
        step: str | None = None,
        waiting_for: str | None = None,
        parent: str | None = None,
        started_by: str | None = None,
        run_id_prefix: str | None = None,
        ended_after: datetime | None = None,
        ended_before: datetime | None = None,
        schedule: str | None = None,
        page_size: int = 100,
        results: bool = False,
    ) -> Iterator[models.RunInfo]:
        """Iterate over the runs that match all filters, newest first, as `Client.list_runs` does."""
        filters = run_filters(
            workflow=workflow,
            statuses=statuses,
            labels=labels,
            created_after=created_after,
            created_before=created_before,
            error_type=error_type,
            step=step,
            waiting_for=waiting_for,
            parent=parent,
            started_by=started_by,
            run_id_prefix=run_id_prefix,
            ended_after=ended_after,
            ended_before=ended_before,
            schedule=schedule,
        )
        pages = self._calls.list_runs(filters, page_size=page_size, results=results)
        return self._transport.pages(pages)

    def server(self) -> models.ServerInfo:
        """Describe the server: version, settings that matter, state. Needs the scope read."""
        return self._transport.unary(self._calls.server())

    def who_am_i(self) -> models.Identity:
        """Tell what this client's credential is worth. Any scope will do."""
        return self._transport.unary(self._calls.who_am_i())

    def workflows(self) -> Iterator[models.WorkflowSummary]:
        """Iterate over the served workflows by name."""
        return self._transport.pages(self._calls.workflows())

    def workflow(self, name: str) -> models.WorkflowInfo:
        """Describe a workflow. Raises NotFoundError."""
        return self._transport.unary(self._calls.workflow(name))

    def pause_workflow(self, name: str, reason: str = "") -> models.Pause:
        """Pause a workflow: nothing new starts in its runs, what runs finishes, starts and input are kept.

        Raises:
            NotFoundError: There is no such workflow.
        """
        return self._transport.unary(self._calls.pause_workflow(name, reason))

    def resume_workflow(self, name: str) -> None:
        """End the pause of a workflow. Raises NotFoundError."""
        self._transport.unary(self._calls.resume_workflow(name))

    def apply_to_runs(
        self,
        action: models.RunAction,
        *,
        workflow: str | None = None,
        statuses: Iterable[models.RunStatus | str] = (),
        labels: Mapping[str, str] | None = None,
        created_after: datetime | None = None,
        created_before: datetime | None = None,
        error_type: str | None = None,
        step: str | None = None,
        waiting_for: str | None = None,
        parent: str | None = None,
        started_by: str | None = None,
        run_id_prefix: str | None = None,
        ended_after: datetime | None = None,
        ended_before: datetime | None = None,
        schedule: str | None = None,
        reason: str = "",
        dry_run: bool = False,
        max_runs: int = 10_000,
        resume_token: str = "",
    ) -> Generator[models.ApplyProgress, None, None]:
        """Apply an action to many runs, and say how far it is, as `Client.apply_to_runs` does."""
        filters = run_filters(
            workflow=workflow,
            statuses=statuses,
            labels=labels,
            created_after=created_after,
            created_before=created_before,
            error_type=error_type,
            step=step,
            waiting_for=waiting_for,
            parent=parent,
            started_by=started_by,
            run_id_prefix=run_id_prefix,
            ended_after=ended_after,
            ended_before=ended_before,
            schedule=schedule,
        )
        stream = self._calls.apply_to_runs(
            action,
            filters,
            reason=reason,
            dry_run=dry_run,
            max_runs=max_runs,
            resume_token=resume_token,
        )
        return self._transport.follow(stream)
