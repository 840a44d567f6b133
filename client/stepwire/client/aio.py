"""The asyncio client."""

from __future__ import annotations

from collections.abc import AsyncGenerator, AsyncIterator, Iterable, Mapping, Sequence
from datetime import datetime
from types import TracebackType
from typing import Any, Self

import grpc.aio
from pydantic import BaseModel

from stepwire.client import models
from stepwire.client._aio.context import Context, Store
from stepwire.client._aio.converse import Conversation
from stepwire.client._aio.run import Run
from stepwire.client._aio.schedules import Schedules
from stepwire.client._aio.transport import AioTransport
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
from stepwire.client.events import GenericEvent

__all__ = ["Client", "Context", "Conversation", "Run", "Schedules", "Store"]


class Client:
    """A client of one Stepwire service. Use it as an async context manager, or `close` it.

    Args:
        address: `HOST:PORT`, or a gRPC target; for several replicas of one service a list of them, or a text with
            commas. The client goes on with another one when one fails. It follows a server's hint at the replica that
            has a run only to an address that is given here.
        token: A bearer token, or a function that returns the present one. It goes unencrypted to another machine
            only with `tls=False`.
        tls: None or False for plaintext, True for TLS with gRPC's roots, or a `TlsConfig`.
        timeout: Seconds that a call may take, its retries included.
        reconnect_timeout: Seconds after which a stream or a wait gives up a lost server; None for never.
        connect_timeout: Seconds for which calls, streams and waits try to connect if nothing has answered this client
            yet; None to try as long as for a lost server.
        keepalive: Seconds between pings, at least 10; None for none. With several addresses a client pings a silent
            connection after 3 seconds.
        events: Classes that received events become, by class name. Events of other types become `GenericEvent`.
        channel: A channel to use instead of an own one, whatever the addresses. It is used as it is and never closed.

    Attributes:
        schedules: Create, look at, change, trigger and delete schedules.
    """

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
        channel: grpc.aio.Channel | None = None,
    ) -> None:
        endpoint = Endpoint.of(address, token=token, tls=tls, keepalive=keepalive)
        addresses = endpoint.addresses if channel is None else ("",)
        self._transport = AioTransport(endpoint, channel, FirstContact(connect_timeout, addresses=addresses))
        self._settings = Settings(timeout, reconnect_timeout, EventTypes(events), len(addresses))
        self._calls = ClientCalls(self._settings)
        self.schedules = Schedules(self._transport, ScheduleCalls(self._settings))

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        await self.close()

    async def connect(self, timeout: float) -> None:
        """Connect now, to learn early whether the server can be reached. Calls connect by themselves.

        Args:
            timeout: Seconds to try.

        Raises:
            UnavailableError: The server was not reached; the message says why.
        """
        await self._transport.connect(timeout)

    async def close(self) -> None:
        """Close the connection. Calls under way are cancelled."""
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
        fresh_budgets: bool = False,
        request_id: str | None = None,
        events: Iterable[type[BaseModel]] = (),
        **input: Any,
    ) -> Run:
        """Start a run from a start event or its fields.

        A run from a snapshot of a run that had not ended takes no input.

        Args:
            workflow: The name of the workflow.
            start_event: The start event; instead of its fields in `input`.
            run_id: An id for the run; None lets the server choose.
            on_conflict: What to do when `run_id` exists: "fail", or "use_existing" to return that run.
            labels: Labels to find the run by.
            timeout: The time that the run may take, in seconds.
            snapshot: A snapshot to start from.
            from_run: A run of this server to start from, or a run and a sequence.
            fresh_budgets: Whether a run from a snapshot or a run has whole retry budgets and a whole timeout.
            request_id: An id that makes the start safe to repeat; None chooses one.
            events: Further classes for the events of this run.
            input: The fields of the start event.

        Raises:
            NotFoundError: There is no such workflow, run or snapshot.
            InvalidArgumentError: The input does not fit the start event.
            AlreadyExistsError: `run_id` is taken, or `request_id` was used for another request.
            OutOfRangeError: The log of `from_run` no longer has its sequence.
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
            fresh_budgets=fresh_budgets,
            request_id=request_id,
            types=types,
        )
        info = await self._transport.unary(call)
        beginning = log_beginning(info, new=on_conflict == "fail" and request_id is None)
        return Run(self._transport, RunCalls(info.run_id, self._settings, types, beginning))

    def run(self, run_id: str, *, events: Iterable[type[BaseModel]] = ()) -> Run:
        """Return the handle of a run, without a call to the server."""
        types = self._settings.types.extended(events)
        return Run(self._transport, RunCalls(run_id, self._settings, types))

    async def get_run(self, run_id: str) -> models.RunInfo:
        """Return a run as the server knows it. Raises NotFoundError."""
        return await self.run(run_id).info()

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
    ) -> AsyncIterator[models.RunInfo]:
        """Iterate over the runs that match all filters, newest first.

        Args:
            workflow: Only runs of this workflow.
            statuses: Only runs with one of these statuses.
            labels: Only runs with all of these labels.
            created_after: Only runs that were created after this time.
            created_before: Only runs that were created before this time.
            error_type: Only runs that failed with an error of this class, or repeat an attempt that did.
            step: Only runs that failed in this step, wait in it, or repeat it.
            waiting_for: Only runs that wait for an event of this type.
            parent: Only runs that a step of this run started.
            started_by: Only runs that this caller started.
            run_id_prefix: Only runs whose id begins so.
            ended_after: Only runs that ended at or after this time.
            ended_before: Only runs that ended before this time.
            schedule: Only runs that this schedule started.
            page_size: How many runs to fetch with one call, at most: a page holds about 2 MiB.
            results: Whether to fetch results and tracebacks too. Without them, `partial` says that a run has more.
        """
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

    async def server(self) -> models.ServerInfo:
        """Describe the server: version, settings that matter, state. Needs the scope read."""
        return await self._transport.unary(self._calls.server())

    async def who_am_i(self) -> models.Identity:
        """Tell what this client's credential is worth. Any scope will do."""
        return await self._transport.unary(self._calls.who_am_i())

    def workflows(self) -> AsyncIterator[models.WorkflowSummary]:
        """Iterate over the served workflows by name."""
        return self._transport.pages(self._calls.workflows())

    async def workflow(self, name: str) -> models.WorkflowInfo:
        """Describe a workflow. Raises NotFoundError."""
        return await self._transport.unary(self._calls.workflow(name))

    async def pause_workflow(self, name: str, reason: str = "") -> models.Pause:
        """Pause a workflow: nothing new starts in its runs, what runs finishes, starts and input are kept.

        Raises:
            NotFoundError: There is no such workflow.
        """
        return await self._transport.unary(self._calls.pause_workflow(name, reason))

    async def resume_workflow(self, name: str) -> None:
        """End the pause of a workflow. Raises NotFoundError."""
        await self._transport.unary(self._calls.resume_workflow(name))

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
    ) -> AsyncGenerator[models.ApplyProgress, None]:
        """Cancel, retry, delete, pause or resume the runs that meet all filters, newest first; say how far it is.

        Only runs that were there when the call began, and to which the action can be applied, count. A lost connection
        is opened again, and the action goes on where it was. Leaving the iteration early stops it.

        Args:
            action: What to do with each run.
            workflow: The filters are those of `list_runs`. At least one must be given.
            statuses: As of `list_runs`; without any, all runs to which the action can be applied.
            labels: As of `list_runs`.
            created_after: As of `list_runs`.
            created_before: As of `list_runs`.
            error_type: As of `list_runs`.
            step: As of `list_runs`.
            waiting_for: As of `list_runs`.
            parent: As of `list_runs`.
            started_by: As of `list_runs`.
            run_id_prefix: As of `list_runs`.
            ended_after: As of `list_runs`.
            ended_before: As of `list_runs`.
            schedule: As of `list_runs`.
            reason: The reason of "cancel" and "pause", for people.
            dry_run: Only count.
            max_runs: The largest number of runs to take; the last answer says whether there are more.
            resume_token: The token of an earlier call with the same filters and action, to go on from there.

        Raises:
            InvalidArgumentError: There is no filter, or the token belongs to another call.
            PermissionDeniedError: The caller may do that with no workflow.
        """
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
