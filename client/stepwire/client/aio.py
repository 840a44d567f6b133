"""The asyncio client."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterable, Mapping
from datetime import datetime
from types import TracebackType
from typing import Any, Self

import grpc.aio
from pydantic import BaseModel

from stepwire.client import models
from stepwire.client._aio.context import Context, Store
from stepwire.client._aio.converse import Conversation
from stepwire.client._aio.run import Run
from stepwire.client._aio.transport import AioTransport
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
from stepwire.client.events import GenericEvent

__all__ = ["Client", "Context", "Conversation", "Run", "Store"]


class Client:
    """A client of one Stepwire server. Use it as an async context manager, or `close` it.

    Args:
        address: `HOST:PORT`, or a gRPC target.
        token: A bearer token, or a function that returns the present one. It goes unencrypted to another machine
            only with `tls=False`.
        tls: None or False for plaintext, True for TLS with gRPC's roots, or a `TlsConfig`.
        timeout: Seconds that a call may take, its retries included.
        reconnect_timeout: Seconds after which a stream or a wait gives up a lost server; None for never.
        keepalive: Seconds between pings, at least 10; None for none.
        events: Classes that received events become, by class name. Events of other types become `GenericEvent`.
        channel: A channel to use instead of an own one. It is used as it is and never closed.
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
            page_size: How many runs to fetch with one call, at most: a page holds about 2 MiB.
            results: Whether to fetch results and tracebacks too. Without them, `partial` says that a run has more.
        """
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

    def workflows(self) -> AsyncIterator[models.WorkflowSummary]:
        """Iterate over the served workflows by name."""
        return self._transport.pages(self._calls.workflows())

    async def workflow(self, name: str) -> models.WorkflowInfo:
        """Describe a workflow. Raises NotFoundError."""
        return await self._transport.unary(self._calls.workflow(name))
