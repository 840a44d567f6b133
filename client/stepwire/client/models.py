"""What the client answers with: plain frozen dataclasses, times in UTC."""

from __future__ import annotations

import enum
import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Any, cast

from google.protobuf import timestamp_pb2

from stepwire.client._core.payload import from_payload
from stepwire.client.events import EventRole, EventTypes
from stepwire.v1 import run_service_pb2, snapshot_service_pb2, types_pb2, workflow_service_pb2

__all__ = [
    "Failure",
    "Outcome",
    "PendingWaiter",
    "RunInfo",
    "RunStatus",
    "SendResult",
    "Snapshot",
    "SnapshotInfo",
    "WorkflowEdge",
    "WorkflowInfo",
    "WorkflowStep",
    "WorkflowSummary",
    "WorkflowType",
]


class RunStatus(enum.StrEnum):
    """The state of a run."""

    UNSPECIFIED = "unspecified"
    QUEUED = "queued"
    RUNNING = "running"
    WAITING = "waiting"
    BLOCKED = "blocked"
    COMPLETED = "completed"
    FAILED = "failed"
    CANCELLED = "cancelled"
    TIMED_OUT = "timed_out"

    @property
    def ended(self) -> bool:
        """Say whether the status is terminal."""
        return self in _TERMINAL


_TERMINAL = frozenset({RunStatus.COMPLETED, RunStatus.FAILED, RunStatus.CANCELLED, RunStatus.TIMED_OUT})
_STATUSES = dict(enumerate(RunStatus))
_ROLES = dict(enumerate(EventRole))


@dataclass(frozen=True, slots=True)
class Failure:
    """Why a run failed, as far as the server tells; absent parts are ""."""

    step: str
    error_type: str
    message: str
    attempts: int
    reference_id: str
    traceback: str


@dataclass(frozen=True, slots=True)
class Outcome:
    """How a run ended. `payload` is the result as the contract has it."""

    status: RunStatus
    event_type: str
    payload: types_pb2.Payload = field(repr=False)
    failure: Failure | None
    reason: str

    @property
    def result(self) -> Any:
        """Return the result as plain JSON values; None when there is none."""
        return from_payload(self.payload)


@dataclass(frozen=True, slots=True)
class PendingWaiter:
    """A question that a run waits to have answered; `prompt` is None when none was written."""

    waiter_id: str
    event_type: str
    requirements: dict[str, Any]
    prompt: Any
    deadline: datetime | None
    step: str


@dataclass(frozen=True, slots=True)
class RunInfo:
    """A run as the server described it."""

    run_id: str
    workflow: str
    workflow_version: str
    status: RunStatus
    labels: Mapping[str, str]
    created_at: datetime | None
    updated_at: datetime | None
    ended_at: datetime | None
    last_sequence: int
    first_available: int
    pending_waiters: tuple[PendingWaiter, ...]
    outcome: Outcome | None
    forked_from: tuple[str, int] | None
    blocked_reason: str
    timeout_at: datetime | None

    @property
    def ended(self) -> bool:
        """Say whether the run has ended."""
        return self.outcome is not None or self.status.ended


@dataclass(frozen=True, slots=True)
class SendResult:
    """The place of a sent event in the log, and how many deliveries and waiters took it."""

    sequence: int
    delivered: int


@dataclass(frozen=True, slots=True)
class Snapshot:
    """A run's context at a sequence, to start other runs from; `bytes()` and `parse` keep it.

    `context_dict` is the context with the 1.x keys, when it was asked for.
    """

    message: types_pb2.ContextSnapshot = field(repr=False)
    context_dict: dict[str, Any] | None = field(default=None, repr=False)

    @property
    def run_id(self) -> str:
        """Return the run that it was taken of."""
        return self.message.run_id

    @property
    def workflow(self) -> str:
        """Return the name of the workflow."""
        return self.message.workflow

    @property
    def sequence(self) -> int:
        """Return the last sequence that it contains."""
        return self.message.sequence

    @property
    def status(self) -> RunStatus:
        """Return the status of the run at that moment."""
        return _STATUSES.get(self.message.status, RunStatus.UNSPECIFIED)

    @property
    def created_at(self) -> datetime | None:
        """Return when it was committed."""
        return to_datetime(self.message, "created_at")

    def __bytes__(self) -> bytes:
        return self.message.SerializeToString(deterministic=True)

    @classmethod
    def parse(cls, data: bytes) -> Snapshot:
        """Return the snapshot that `bytes(snapshot)` gave."""
        return cls(types_pb2.ContextSnapshot.FromString(data))


@dataclass(frozen=True, slots=True)
class SnapshotInfo:
    """A snapshot that the server keeps."""

    sequence: int
    created_at: datetime | None
    size_bytes: int


@dataclass(frozen=True, slots=True)
class WorkflowSummary:
    """A workflow in a list."""

    name: str
    version: str
    description: str


@dataclass(frozen=True, slots=True)
class WorkflowStep:
    """A step of a workflow."""

    name: str
    accepts: tuple[str, ...]
    returns: tuple[str, ...]
    num_workers: int
    description: str


@dataclass(frozen=True, slots=True)
class WorkflowType:
    """A type of a workflow's registry with its JSON Schema."""

    name: str
    role: EventRole
    is_event: bool
    sendable: bool
    json_schema: dict[str, Any]


@dataclass(frozen=True, slots=True)
class WorkflowEdge:
    """An edge of a workflow's graph; source or target is "" for the outside."""

    source: str
    event_type: str
    target: str


@dataclass(frozen=True, slots=True)
class WorkflowInfo:
    """A workflow as the server serves it; `timeout` is None when unlimited."""

    name: str
    version: str
    description: str
    start_event: str
    stop_event: str
    state_type: str
    steps: tuple[WorkflowStep, ...]
    types: tuple[WorkflowType, ...]
    edges: tuple[WorkflowEdge, ...]
    mermaid: str
    timeout: timedelta | None


def status_number(status: RunStatus | str) -> types_pb2.RunStatus:
    """Return the status as the contract numbers it. Raises ValueError for an unknown one."""
    number = types_pb2.RunStatus.Value(f"RUN_STATUS_{RunStatus(status).name}")
    return cast("types_pb2.RunStatus", number)


def to_datetime(message: Any, name: str) -> datetime | None:
    """Return a timestamp field of a message, None when it is unset."""
    if not message.HasField(name):
        return None
    stamp: timestamp_pb2.Timestamp = getattr(message, name)
    return stamp.ToDatetime(tzinfo=UTC)


def to_run_info(run: types_pb2.Run, types: EventTypes) -> RunInfo:
    """Return a run; prompts are decoded with `types`."""
    return RunInfo(
        run_id=run.run_id,
        workflow=run.workflow,
        workflow_version=run.workflow_version,
        status=_STATUSES.get(run.status, RunStatus.UNSPECIFIED),
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
        status=_STATUSES.get(outcome.status, RunStatus.UNSPECIFIED),
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
    """Return a snapshot with its dict when the answer has one."""
    return Snapshot(response.snapshot, from_payload(response.context_dict))


def to_snapshot_info(info: snapshot_service_pb2.SnapshotInfo) -> SnapshotInfo:
    """Return a snapshot's entry in a list."""
    return SnapshotInfo(info.sequence, to_datetime(info, "created_at"), info.size_bytes)


def to_send_result(
    response: run_service_pb2.SendEventResponse | run_service_pb2.ConverseSendResult,
) -> SendResult:
    """Return what became of a send."""
    return SendResult(response.sequence, response.delivered)


def to_workflow_summary(summary: workflow_service_pb2.WorkflowSummary) -> WorkflowSummary:
    """Return a workflow's entry in a list."""
    return WorkflowSummary(summary.name, summary.version, summary.description)


def to_workflow_info(flow: workflow_service_pb2.Workflow) -> WorkflowInfo:
    """Return a workflow, its JSON Schemas parsed."""
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
                _ROLES.get(item.role, EventRole.UNSPECIFIED),
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
