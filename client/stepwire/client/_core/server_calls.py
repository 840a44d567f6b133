"""The calls that concern no single run."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import timedelta
from typing import Any, Literal, TypeAlias

from pydantic import BaseModel

from stepwire.client import models
from stepwire.client._core import answers
from stepwire.client._core.call import Call, Pages, Settings, new_request_id
from stepwire.client._core.event_types import EventTypes
from stepwire.client._core.many_runs import ManyRuns, set_action
from stepwire.client._core.payload import JSON, to_payload
from stepwire.client._core.reconnect import Reconnect
from stepwire.client._core.times import to_duration
from stepwire.client.events import GenericEvent
from stepwire.v1 import run_service_pb2 as runs
from stepwire.v1 import server_service_pb2 as server
from stepwire.v1 import types_pb2
from stepwire.v1 import workflow_service_pb2 as workflows

OnConflict: TypeAlias = Literal["fail", "use_existing"]
FromRun: TypeAlias = str | tuple[str, int]
SnapshotLike: TypeAlias = models.Snapshot | types_pb2.ContextSnapshot | bytes
Seconds: TypeAlias = float | timedelta

_POLICIES: Mapping[str, runs.RunIdConflictPolicy] = {
    "fail": runs.RUN_ID_CONFLICT_POLICY_FAIL,
    "use_existing": runs.RUN_ID_CONFLICT_POLICY_USE_EXISTING,
}


class ClientCalls:
    """Make the calls that concern no single run. Parameters are those of `Client`."""

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
        fresh_budgets: bool,
        request_id: str | None,
        types: EventTypes,
    ) -> Call[models.RunInfo]:
        """Return the call of StartRun."""
        request = runs.StartRunRequest(
            workflow=workflow,
            run_id=run_id or "",
            run_id_conflict_policy=_policy(on_conflict),
            request_id=request_id or new_request_id(),
            labels=dict(labels or {}),
            timeout=None if timeout is None else to_duration(timeout),
            fresh_budgets=fresh_budgets,
            encoding=JSON,
        )
        _set_input(request, start_event, fields)
        if snapshot is not None and from_run is not None:
            raise ValueError("pass snapshot or from_run, not both")
        if snapshot is not None:
            request.snapshot.CopyFrom(_to_message(snapshot))
        elif from_run is not None:
            source, sequence = (from_run, 0) if isinstance(from_run, str) else from_run
            getattr(request, "from").CopyFrom(types_pb2.SnapshotRef(run_id=source, sequence=sequence))
        return Call(
            "RunService.StartRun",
            request,
            lambda response: answers.to_run_info(response.run, types),
            safe=True,
            budget=self.settings.timeout,
        )

    def list_runs(
        self,
        filters: Mapping[str, Any],
        *,
        page_size: int,
        results: bool,
    ) -> Pages[models.RunInfo]:
        """Return the pages of ListRuns; `filters` are those of `run_filters`."""
        request = runs.ListRunsRequest(
            page_size=page_size,
            **filters,
            encoding=JSON,
            view=runs.RUN_VIEW_FULL if results else runs.RUN_VIEW_BASIC,
        )
        types = self.settings.types
        return Pages(
            "RunService.ListRuns",
            request,
            lambda response: [answers.to_run_info(run, types) for run in response.runs],
            self.settings.timeout,
        )

    def server(self) -> Call[models.ServerInfo]:
        """Return the call of GetServer."""
        request = server.GetServerRequest()
        return Call("ServerService.GetServer", request, answers.to_server_info, safe=True, budget=self.settings.timeout)

    def who_am_i(self) -> Call[models.Identity]:
        """Return the call of WhoAmI."""
        request = server.WhoAmIRequest()
        return Call("ServerService.WhoAmI", request, answers.to_identity, safe=True, budget=self.settings.timeout)

    def workflows(self) -> Pages[models.WorkflowSummary]:
        """Return the pages of ListWorkflows."""
        return Pages(
            "WorkflowService.ListWorkflows",
            workflows.ListWorkflowsRequest(),
            lambda response: [answers.to_workflow_summary(item) for item in response.workflows],
            self.settings.timeout,
        )

    def workflow(self, name: str) -> Call[models.WorkflowInfo]:
        """Return the call of GetWorkflow."""
        return Call(
            "WorkflowService.GetWorkflow",
            workflows.GetWorkflowRequest(name=name),
            lambda response: answers.to_workflow_info(response.workflow),
            safe=True,
            budget=self.settings.timeout,
        )

    def apply_to_runs(
        self,
        action: models.RunAction,
        filters: Mapping[str, Any],
        *,
        reason: str,
        dry_run: bool,
        max_runs: int,
        resume_token: str,
    ) -> ManyRuns:
        """Return the stream of ApplyToRuns; `filters` are those of `run_filters`."""
        request = runs.ApplyToRunsRequest(
            filter=runs.RunFilter(**filters),
            dry_run=dry_run,
            max_runs=max_runs,
            resume_token=resume_token,
        )
        set_action(request, action, reason)
        return ManyRuns(request, Reconnect(self.settings.reconnect_timeout, addresses=self.settings.addresses))

    def pause_workflow(self, name: str, reason: str) -> Call[models.Pause]:
        """Return the call of PauseWorkflow."""
        return Call(
            "WorkflowService.PauseWorkflow",
            workflows.PauseWorkflowRequest(name=name, reason=reason),
            lambda response: answers.to_pause(response.pause),
            safe=True,
            budget=self.settings.timeout,
        )

    def resume_workflow(self, name: str) -> Call[None]:
        """Return the call of ResumeWorkflow."""
        return Call(
            "WorkflowService.ResumeWorkflow",
            workflows.ResumeWorkflowRequest(name=name),
            lambda _: None,
            safe=True,
            budget=self.settings.timeout,
        )


def log_beginning(info: models.RunInfo, *, new: bool) -> int:
    """Return the sequence after which the handle of a started run begins: 0 for a new run, else the end of its log."""
    return 0 if new else info.last_sequence


def _policy(on_conflict: str) -> runs.RunIdConflictPolicy:
    if on_conflict not in _POLICIES:
        raise ValueError(f"on_conflict must be one of {', '.join(_POLICIES)}, not {on_conflict!r}")
    return _POLICIES[on_conflict]


def _set_input(
    request: runs.StartRunRequest,
    start_event: BaseModel | GenericEvent | Mapping[str, Any] | None,
    fields: Mapping[str, Any],
) -> None:
    if start_event is not None and fields:
        raise ValueError("pass the start event or its fields, not both")
    if isinstance(start_event, Mapping):
        request.input.CopyFrom(to_payload(dict(start_event)))
    elif start_event is not None:
        request.input.CopyFrom(to_payload(start_event))
    elif fields:
        request.input.CopyFrom(to_payload(dict(fields)))


def _to_message(snapshot: SnapshotLike) -> types_pb2.ContextSnapshot:
    if isinstance(snapshot, models.Snapshot):
        return snapshot.message
    if isinstance(snapshot, bytes):
        return types_pb2.ContextSnapshot.FromString(snapshot)
    return snapshot
