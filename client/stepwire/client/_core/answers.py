"""From the server's messages to `stepwire.client.models`."""

from __future__ import annotations

import json
from typing import cast

from stepwire.client._core.event_types import EventTypes, event_role
from stepwire.client._core.payload import from_payload
from stepwire.client._core.times import to_datetime
from stepwire.client.models import (
    Failure,
    Outcome,
    PendingWaiter,
    RunInfo,
    RunStatus,
    SendResult,
    Snapshot,
    SnapshotInfo,
    WorkflowEdge,
    WorkflowInfo,
    WorkflowStep,
    WorkflowSummary,
    WorkflowType,
    status_of,
)
from stepwire.v1 import run_service_pb2, snapshot_service_pb2, types_pb2, workflow_service_pb2


def status_number(status: RunStatus | str) -> types_pb2.RunStatus:
    """Return the number that the contract gives a status. Raises ValueError for an unknown one."""
    number = types_pb2.RunStatus.Value(f"RUN_STATUS_{RunStatus(status).name}")
    return cast("types_pb2.RunStatus", number)


def to_run_info(run: types_pb2.Run, types: EventTypes) -> RunInfo:
    """Return a run. Prompts of open questions become the classes of `types`."""
    return RunInfo(
        run_id=run.run_id,
        workflow=run.workflow,
        workflow_version=run.workflow_version,
        status=status_of(run.status),
        labels=dict(run.labels),
        created_at=to_datetime(run, "created_at"),
        updated_at=to_datetime(run, "updated_at"),
        ended_at=to_datetime(run, "ended_at"),
        last_sequence=run.last_sequence,
        first_available=run.first_available,
        pending_waiters=tuple(_to_waiter(waiter, types) for waiter in run.pending_waiters),
        outcome=to_outcome(run.outcome) if run.HasField("outcome") else None,
        forked_from=((run.forked_from.run_id, run.forked_from.sequence) if run.HasField("forked_from") else None),
        blocked_reason=run.blocked_reason,
        timeout_at=to_datetime(run, "timeout_at"),
        partial=run.partial,
    )


def _to_waiter(waiter: types_pb2.PendingWaiter, types: EventTypes) -> PendingWaiter:
    return PendingWaiter(
        waiter_id=waiter.waiter_id,
        event_type=waiter.event_type,
        requirements=from_payload(waiter.requirements) or {},
        prompt=types.decode_event(waiter.prompt) if waiter.HasField("prompt") else None,
        deadline=to_datetime(waiter, "deadline"),
        step=waiter.step,
    )


def to_outcome(outcome: types_pb2.Outcome) -> Outcome:
    """Return how a run ended."""
    failure = outcome.failure
    return Outcome(
        status=status_of(outcome.status),
        event_type=outcome.event_type,
        payload=outcome.result,
        failure=Failure(
            failure.step,
            failure.error_type,
            failure.message,
            failure.attempts,
            failure.reference_id,
            failure.traceback,
        )
        if outcome.HasField("failure")
        else None,
        reason=outcome.reason,
    )


def to_snapshot(response: snapshot_service_pb2.GetSnapshotResponse) -> Snapshot:
    """Return a snapshot, with the 1.x dict when the answer has one."""
    return Snapshot(response.snapshot, from_payload(response.context_dict))


def to_snapshot_info(info: snapshot_service_pb2.SnapshotInfo) -> SnapshotInfo:
    """Return a snapshot's entry in a list."""
    return SnapshotInfo(info.sequence, to_datetime(info, "created_at"), info.size_bytes)


def to_send_result(
    response: run_service_pb2.SendEventResponse | run_service_pb2.ConverseSendResult,
) -> SendResult:
    """Return the place of a sent event and how many took it."""
    return SendResult(response.sequence, response.delivered)


def to_workflow_summary(summary: workflow_service_pb2.WorkflowSummary) -> WorkflowSummary:
    """Return a workflow's entry in a list."""
    return WorkflowSummary(summary.name, summary.version, summary.description)


def to_workflow_info(flow: workflow_service_pb2.Workflow) -> WorkflowInfo:
    """Return a workflow with its JSON Schemas parsed."""
    return WorkflowInfo(
        name=flow.name,
        version=flow.version,
        description=flow.description,
        start_event=flow.start_event,
        stop_event=flow.stop_event,
        state_type=flow.state_type,
        steps=tuple(
            WorkflowStep(
                step.name,
                tuple(step.accepts),
                tuple(step.returns),
                step.num_workers,
                step.description,
            )
            for step in flow.steps
        ),
        types=tuple(
            WorkflowType(
                item.name,
                event_role(item.role),
                item.is_event,
                item.sendable,
                json.loads(item.json_schema or "{}"),
            )
            for item in flow.types
        ),
        edges=tuple(WorkflowEdge(e.source, e.event_type, e.target) for e in flow.edges),
        mermaid=flow.mermaid,
        timeout=flow.timeout.ToTimedelta() if flow.HasField("timeout") else None,
    )
