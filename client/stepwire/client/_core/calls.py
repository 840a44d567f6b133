"""What a call is, and the calls that concern the whole server."""

from __future__ import annotations

import uuid
from collections.abc import Callable, Generator, Iterable, Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any, Generic, Literal, TypeAlias, TypeVar

from google.protobuf.message import Message
from pydantic import BaseModel

from stepwire.client import models as _types
from stepwire.client._core.payload import JSON, to_duration, to_payload, to_timestamp
from stepwire.client.events import EventTypes, GenericEvent
from stepwire.v1 import run_service_pb2 as runs
from stepwire.v1 import run_service_pb2_grpc as runs_grpc
from stepwire.v1 import snapshot_service_pb2_grpc as snapshots_grpc
from stepwire.v1 import state_service_pb2_grpc as state_grpc
from stepwire.v1 import types_pb2
from stepwire.v1 import workflow_service_pb2 as workflows
from stepwire.v1 import workflow_service_pb2_grpc as workflows_grpc

T = TypeVar("T")

OnConflict: TypeAlias = Literal["fail", "use_existing"]
FromRun: TypeAlias = str | tuple[str, int]
SnapshotLike: TypeAlias = _types.Snapshot | types_pb2.ContextSnapshot | bytes
Seconds: TypeAlias = float | timedelta

_POLICIES: Mapping[str, runs.RunIdConflictPolicy] = {
    "fail": runs.RUN_ID_CONFLICT_POLICY_FAIL,
    "use_existing": runs.RUN_ID_CONFLICT_POLICY_USE_EXISTING,
}


@dataclass(frozen=True, slots=True)
class Call(Generic[T]):
    """A unary call: what to send, how to read the answer, how it may be repeated.

    `safe` says whether a repeat does no harm; `budget` is the time for all attempts in seconds,
    None for no bound (then `per_attempt` bounds each).
    """

    method: str
    request: Message
    parse: Callable[[Any], T]
    safe: bool
    budget: float | None
    per_attempt: float | None = None


Operation: TypeAlias = Generator[Call[Any] | float, Any, T]
"""Several calls that make one: yields calls, gets their answers or errors, and pauses (seconds)."""


def make_stubs(channel: Any) -> dict[str, Any]:
    """Return the stubs of all services over a channel of grpc or grpc.aio."""
    return {
        "RunService": runs_grpc.RunServiceStub(channel),
        "StateService": state_grpc.StateServiceStub(channel),
        "SnapshotService": snapshots_grpc.SnapshotServiceStub(channel),
        "WorkflowService": workflows_grpc.WorkflowServiceStub(channel),
    }


def find_method(stubs: Mapping[str, Any], method: str) -> Any:
    """Return the multi-callable of `Service.Method`."""
    service, _, name = method.partition(".")
    return getattr(stubs[service], name)


def new_request_id() -> str:
    """Return an id that makes a call safe to repeat."""
    return uuid.uuid4().hex


class Pages(Generic[T]):
    """A paged list: ask for `call` until it is None."""

    def __init__(self, method: str, request: Any, parse: Callable[[Any], list[T]], budget: float) -> None:
        self._method = method
        self._request = request
        self._parse = parse
        self._budget = budget
        self._more = True

    def call(self) -> Call[list[T]] | None:
        """Return the call of the next page, None after the last."""
        if not self._more:
            return None
        return Call(self._method, self._request, self._take, safe=True, budget=self._budget)

    def _take(self, response: Any) -> list[T]:
        self._request.page_token = response.next_page_token
        self._more = bool(response.next_page_token)
        return self._parse(response)


@dataclass(frozen=True, slots=True)
class Settings:
    """What all calls of a client share; times in seconds."""

    timeout: float
    reconnect_timeout: float | None
    types: EventTypes


class ClientCalls:
    """Make the calls that concern no one run."""

    def __init__(self, settings: Settings) -> None:
        self.settings = settings

    def start_run(
        self,
        workflow: str,
        start_event: BaseModel | GenericEvent | Mapping[str, Any] | None,
        fields: Mapping[str, Any],
        *,
        run_id: str | None,
        on_conflict: OnConflict,
        labels: Mapping[str, str] | None,
        timeout: Seconds | None,
        snapshot: SnapshotLike | None,
        from_run: FromRun | None,
        request_id: str | None,
        types: EventTypes,
    ) -> Call[_types.RunInfo]:
        """Return the call of StartRun."""
        request = runs.StartRunRequest(
            workflow=workflow,
            run_id=run_id or "",
            run_id_conflict_policy=_policy(on_conflict),
            request_id=request_id or new_request_id(),
            labels=dict(labels or {}),
            timeout=None if timeout is None else to_duration(timeout),
            encoding=JSON,
        )
        _set_input(request, start_event, fields)
        if snapshot is not None and from_run is not None:
            raise ValueError("a run starts from a snapshot or from a run, not from both")
        if snapshot is not None:
            request.snapshot.CopyFrom(_to_message(snapshot))
        elif from_run is not None:
            source, sequence = (from_run, 0) if isinstance(from_run, str) else from_run
            getattr(request, "from").CopyFrom(types_pb2.SnapshotRef(run_id=source, sequence=sequence))
        return Call(
            "RunService.StartRun",
            request,
            lambda response: _types.to_run_info(response.run, types),
            safe=True,
            budget=self.settings.timeout,
        )

    def list_runs(
        self,
        *,
        workflow: str | None,
        statuses: Iterable[_types.RunStatus | str],
        labels: Mapping[str, str] | None,
        created_after: datetime | None,
        created_before: datetime | None,
        page_size: int,
    ) -> Pages[_types.RunInfo]:
        """Return the pages of ListRuns."""
        request = runs.ListRunsRequest(
            page_size=page_size,
            workflow=workflow or "",
            statuses=[_types.status_number(status) for status in statuses],
            labels=dict(labels or {}),
            created_after=to_timestamp(created_after),
            created_before=to_timestamp(created_before),
            encoding=JSON,
        )
        types = self.settings.types
        return Pages(
            "RunService.ListRuns",
            request,
            lambda response: [_types.to_run_info(run, types) for run in response.runs],
            self.settings.timeout,
        )

    def workflows(self) -> Pages[_types.WorkflowSummary]:
        """Return the pages of ListWorkflows."""
        return Pages(
            "WorkflowService.ListWorkflows",
            workflows.ListWorkflowsRequest(),
            lambda response: [_types.to_workflow_summary(item) for item in response.workflows],
            self.settings.timeout,
        )

    def workflow(self, name: str) -> Call[_types.WorkflowInfo]:
        """Return the call of GetWorkflow."""
        return Call(
            "WorkflowService.GetWorkflow",
            workflows.GetWorkflowRequest(name=name),
            lambda response: _types.to_workflow_info(response.workflow),
            safe=True,
            budget=self.settings.timeout,
        )


def _policy(on_conflict: str) -> runs.RunIdConflictPolicy:
    if on_conflict not in _POLICIES:
        raise ValueError(f"on_conflict is one of {', '.join(_POLICIES)}")
    return _POLICIES[on_conflict]


def _set_input(
    request: runs.StartRunRequest,
    start_event: BaseModel | GenericEvent | Mapping[str, Any] | None,
    fields: Mapping[str, Any],
) -> None:
    if start_event is not None and fields:
        raise ValueError("give the start event or its fields, not both")
    if isinstance(start_event, Mapping):
        request.input.CopyFrom(to_payload(dict(start_event)))
    elif start_event is not None:
        request.input.CopyFrom(to_payload(start_event))
    elif fields:
        request.input.CopyFrom(to_payload(dict(fields)))


def _to_message(snapshot: SnapshotLike) -> types_pb2.ContextSnapshot:
    if isinstance(snapshot, _types.Snapshot):
        return snapshot.message
    if isinstance(snapshot, bytes):
        return types_pb2.ContextSnapshot.FromString(snapshot)
    return snapshot
