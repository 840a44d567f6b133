"""From the server's messages to `stepwire.client.models`."""

from __future__ import annotations

import json
from typing import cast

from stepwire.client._core.event_types import EventTypes, event_role
from stepwire.client._core.failure import to_failure
from stepwire.client._core.payload import from_payload
from stepwire.client._core.run_status import status_of
from stepwire.client._core.times import to_datetime
from stepwire.client.models import (
    ActiveDelivery,
    BlockedRun,
    ChildSummary,
    DeliveryStatus,
    Identity,
    Outcome,
    Pause,
    PendingWaiter,
    RunInfo,
    RunParent,
    RunStatus,
    ScheduleOrigin,
    SendResult,
    ServerInfo,
    Snapshot,
    SnapshotInfo,
    WorkflowEdge,
    WorkflowInfo,
    WorkflowStep,
    WorkflowSummary,
    WorkflowType,
)
from stepwire.v1 import run_service_pb2, server_service_pb2, snapshot_service_pb2, types_pb2, workflow_service_pb2


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
        started_by=run.started_by,
        retried_from=((run.retried_from.run_id, run.retried_from.sequence) if run.HasField("retried_from") else None),
        retried_as=tuple(run.retried_as),
        pause=to_pause(run.pause) if run.HasField("pause") else None,
        active_deliveries=tuple(map(_to_active, run.active_deliveries)),
        parent=_to_parent(run.parent) if run.HasField("parent") else None,
        children=_to_children(run.children) if run.HasField("children") else None,
        schedule=_to_origin(run.schedule) if run.HasField("schedule") else None,
        blocked_children=tuple(BlockedRun(each.run_id, each.workflow, each.reason) for each in run.blocked_children),
    )


_DELIVERY_STATUSES = dict(enumerate(DeliveryStatus))


def _to_active(active: types_pb2.ActiveDelivery) -> ActiveDelivery:
    return ActiveDelivery(
        delivery_id=active.delivery_id,
        step=active.step,
        status=_DELIVERY_STATUSES.get(active.status, DeliveryStatus.UNSPECIFIED),
        attempt=active.attempt,
        since=to_datetime(active, "since"),
        last_error=to_failure(active.last_error) if active.HasField("last_error") else None,
        next_attempt_at=to_datetime(active, "next_attempt_at"),
        event_type=active.event_type,
        caused_by=active.caused_by,
        run_id=active.run_id,
    )


def _to_parent(parent: types_pb2.RunParent) -> RunParent:
    return RunParent(parent.run_id, parent.step, parent.delivery_id, parent.depth, parent.abandoned)


def _to_children(children: types_pb2.ChildSummary) -> ChildSummary:
    return ChildSummary(
        total=children.total,
        unfinished=children.unfinished,
        queued=children.queued,
        completed=children.completed,
        failed=children.failed,
        cancelled=children.cancelled,
        timed_out=children.timed_out,
    )


def _to_origin(origin: types_pb2.ScheduleOrigin) -> ScheduleOrigin:
    return ScheduleOrigin(origin.schedule_id, to_datetime(origin, "due_time"), origin.manual)


def to_pause(pause: types_pb2.Pause) -> Pause:
    """Return the pause of a run or a workflow."""
    return Pause(to_datetime(pause, "time"), pause.by, pause.reason, pause.workflow)


def _to_waiter(waiter: types_pb2.PendingWaiter, types: EventTypes) -> PendingWaiter:
    return PendingWaiter(
        waiter_id=waiter.waiter_id,
        event_type=waiter.event_type,
        requirements=from_payload(waiter.requirements) or {},
        prompt=types.decode_event(waiter.prompt) if waiter.HasField("prompt") else None,
        deadline=to_datetime(waiter, "deadline"),
        step=waiter.step,
        run_id=waiter.run_id,
    )


def to_outcome(outcome: types_pb2.Outcome) -> Outcome:
    """Return how a run ended."""
    return Outcome(
        status=status_of(outcome.status),
        event_type=outcome.event_type,
        payload=outcome.result,
        failure=to_failure(outcome.failure) if outcome.HasField("failure") else None,
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


def to_server_info(server: server_service_pb2.GetServerResponse) -> ServerInfo:
    """Return what a server tells about itself."""
    return ServerInfo(
        version=server.version,
        python_version=server.python_version,
        started_at=to_datetime(server, "started_at"),
        time=to_datetime(server, "time"),
        store=server.store,
        replicas=server.replicas,
        unready=server.unready,
        authenticates=server.authenticates,
        settings=dict(server.settings),
    )


def to_identity(answer: server_service_pb2.WhoAmIResponse) -> Identity:
    """Return who a caller is."""
    return Identity(answer.principal, tuple(answer.namespaces), tuple(answer.scopes), to_datetime(answer, "expires_at"))


def to_workflow_summary(summary: workflow_service_pb2.WorkflowSummary) -> WorkflowSummary:
    """Return a workflow's entry in a list."""
    pause = to_pause(summary.pause) if summary.HasField("pause") else None
    return WorkflowSummary(summary.name, summary.version, summary.description, pause)


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
                tuple(step.aliases),
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
                item.internal,
                tuple(item.aliases),
            )
            for item in flow.types
        ),
        edges=tuple(WorkflowEdge(e.source, e.event_type, e.target) for e in flow.edges),
        mermaid=flow.mermaid,
        timeout=flow.timeout.ToTimedelta() if flow.HasField("timeout") else None,
        pause=to_pause(flow.pause) if flow.HasField("pause") else None,
    )
