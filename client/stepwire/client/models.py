"""What the client returns: plain frozen dataclasses. Times are aware datetimes in UTC."""

from __future__ import annotations

import enum
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Any

from stepwire.client._core.payload import from_payload
from stepwire.client._core.times import to_datetime
from stepwire.client.events import EventRole
from stepwire.v1 import types_pb2

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


def status_of(number: int) -> RunStatus:
    """Return the status that the contract numbers so; a number that this client does not know is UNSPECIFIED."""
    return _STATUSES.get(number, RunStatus.UNSPECIFIED)


@dataclass(frozen=True, slots=True)
class Failure:
    """Why a run failed. What the server does not disclose is "".

    Attributes:
        step: The step that failed; "" when the failure was not in a step.
        error_type: The class of the exception.
        message: The text of the exception.
        attempts: How often the delivery was attempted.
        reference_id: An id that finds the failure in the server's log.
        traceback: The traceback as text.
    """

    step: str
    error_type: str
    message: str
    attempts: int
    reference_id: str
    traceback: str


@dataclass(frozen=True, slots=True)
class Outcome:
    """How a run ended.

    Attributes:
        status: COMPLETED, FAILED, CANCELLED or TIMED_OUT.
        event_type: The type of the terminal event.
        payload: The result as the contract carries it.
        failure: Why the run failed; None unless it did.
        reason: Why the run was cancelled or timed out, for people.
    """

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
    """An open question of a run: an event that a step waits for.

    Attributes:
        waiter_id: The id of the wait.
        event_type: The type of the event that answers it.
        requirements: The values that fields of the answer must have.
        prompt: The event that asks the question; None when the step wrote none.
        deadline: When the wait times out; None for never.
        step: The step that waits.
    """

    waiter_id: str
    event_type: str
    requirements: dict[str, Any]
    prompt: Any
    deadline: datetime | None
    step: str


@dataclass(frozen=True, slots=True)
class RunInfo:
    """A run at the moment of the server's answer.

    Attributes:
        run_id: The id of the run.
        workflow: The name of its workflow.
        workflow_version: The version of the workflow that the run was last executed with.
        status: The state of the run.
        labels: The labels that were given at its start.
        created_at: When it was started.
        updated_at: When it was last committed.
        ended_at: When it ended; None while it lives.
        last_sequence: The last sequence of its log.
        first_available: The first sequence that the log still has.
        pending_waiters: Its open questions.
        outcome: How it ended; None while it lives.
        forked_from: The run and the sequence that it was started from; None when it was not.
        blocked_reason: Why it is BLOCKED; "" when it is not.
        timeout_at: When its own timeout ends it; None when it has none, or while its clock stands still.
        partial: Whether the server left out what is large: the result and the traceback in a list, and the contents of
            many open questions. `get_run` returns results and tracebacks.
    """

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
    partial: bool = False

    @property
    def ended(self) -> bool:
        """Say whether the run has ended."""
        return self.outcome is not None or self.status.ended


@dataclass(frozen=True, slots=True)
class SendResult:
    """What became of a sent event.

    Attributes:
        sequence: Its place in the log.
        delivered: The number of deliveries and waiters that took it.
    """

    sequence: int
    delivered: int


@dataclass(frozen=True, slots=True)
class Snapshot:
    """A run's context at a sequence, to start other runs from.

    `bytes(snapshot)` is a form to store; `Snapshot.parse` reads it.

    Attributes:
        message: The snapshot as the contract carries it.
        context_dict: The context with the keys of the 1.x model; None unless it was requested.
    """

    message: types_pb2.ContextSnapshot = field(repr=False)
    context_dict: dict[str, Any] | None = field(default=None, repr=False)

    @property
    def run_id(self) -> str:
        """Return the id of the run that the snapshot is of."""
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
        return status_of(self.message.status)

    @property
    def created_at(self) -> datetime | None:
        """Return when it was committed."""
        return to_datetime(self.message, "created_at")

    def __bytes__(self) -> bytes:
        return self.message.SerializeToString(deterministic=True)

    @classmethod
    def parse(cls, data: bytes) -> Snapshot:
        """Return the snapshot whose `bytes(snapshot)` are `data`."""
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
    """A type of a workflow's registry with its JSON Schema. `sendable`: clients may send events of this type."""

    name: str
    role: EventRole
    is_event: bool
    sendable: bool
    json_schema: dict[str, Any]


@dataclass(frozen=True, slots=True)
class WorkflowEdge:
    """An edge of a workflow's graph. `source` or `target` is "" for the world outside."""

    source: str
    event_type: str
    target: str


@dataclass(frozen=True, slots=True)
class WorkflowInfo:
    """A workflow as the server serves it. `timeout` is None when its runs have none."""

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
