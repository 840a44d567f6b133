"""What the client returns: plain frozen dataclasses. Times are aware datetimes in UTC."""

from __future__ import annotations

import enum
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any, Literal, TypeAlias

from stepwire.client._core.failure import Failure
from stepwire.client._core.payload import from_payload
from stepwire.client._core.run_status import RunStatus, status_of
from stepwire.client._core.times import to_datetime
from stepwire.client._workflow_models import (
    Identity,
    Pause,
    ServerInfo,
    WorkflowEdge,
    WorkflowInfo,
    WorkflowStep,
    WorkflowSummary,
    WorkflowType,
)
from stepwire.v1 import types_pb2

__all__ = [
    "ActiveDelivery",
    "ApplyProgress",
    "BlockedRun",
    "ChildSummary",
    "DeliveryStatus",
    "Failure",
    "Identity",
    "Outcome",
    "Pause",
    "PendingWaiter",
    "RunAction",
    "RunInfo",
    "RunParent",
    "RunRefusal",
    "RunStatus",
    "ScheduleOrigin",
    "SendResult",
    "ServerInfo",
    "Snapshot",
    "SnapshotInfo",
    "WorkflowEdge",
    "WorkflowInfo",
    "WorkflowStep",
    "WorkflowSummary",
    "WorkflowType",
]


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
        run_id: The run that asks, if it is a child of the one that is told of, or a child of a child; else "".
    """

    waiter_id: str
    event_type: str
    requirements: dict[str, Any]
    prompt: Any
    deadline: datetime | None
    step: str
    run_id: str = ""


class DeliveryStatus(enum.StrEnum):
    """What a delivery does or waits for."""

    UNSPECIFIED = "unspecified"
    QUEUED = "queued"
    RUNNING = "running"
    PARKED = "parked"
    BACKING_OFF = "backing_off"


@dataclass(frozen=True, slots=True)
class ActiveDelivery:
    """One event that one step of a run processes, or is to process.

    Attributes:
        delivery_id: Its id in the run, the same in all attempts.
        step: The step.
        status: QUEUED for a worker of the step, RUNNING, PARKED while the step waits for an event or a deadline, or
            BACKING_OFF after a failed attempt.
        attempt: How many attempts were started.
        since: Since when it has its status; None when that is not known.
        last_error: What its last failed attempt failed with; None when none failed.
        next_attempt_at: When the next attempt begins, while it is BACKING_OFF.
        event_type: The type of the event.
        caused_by: The sequence of the event.
        run_id: The run that works on it, if it is a child of the one that is told of, or a child of a child; else "".
    """

    delivery_id: int
    step: str
    status: DeliveryStatus
    attempt: int
    since: datetime | None
    last_error: Failure | None
    next_attempt_at: datetime | None
    event_type: str
    caused_by: int
    run_id: str = ""


@dataclass(frozen=True, slots=True)
class RunParent:
    """The run whose step has started a run.

    Attributes:
        run_id: The parent.
        step: The step that has started the run.
        delivery_id: The delivery of that step.
        depth: How many runs are above this one.
        abandoned: Whether the run goes on when its parent ends, rather than being cancelled.
    """

    run_id: str
    step: str
    delivery_id: int
    depth: int
    abandoned: bool


@dataclass(frozen=True, slots=True)
class ChildSummary:
    """How many runs the steps of a run have started.

    Attributes:
        total: All of them.
        unfinished: Those that have not ended, the queued ones included.
        queued: Those that are to be started when others have ended.
        completed: Those that completed.
        failed: Those that failed, or could not be started.
        cancelled: Those that were cancelled.
        timed_out: Those that timed out.
    """

    total: int
    unfinished: int
    queued: int
    completed: int
    failed: int
    cancelled: int
    timed_out: int


@dataclass(frozen=True, slots=True)
class ScheduleOrigin:
    """The schedule that started a run.

    Attributes:
        schedule_id: The schedule.
        due_time: When the run was due, without jitter.
        manual: Whether a trigger or a backfill asked for the run.
    """

    schedule_id: str
    due_time: datetime | None
    manual: bool


@dataclass(frozen=True, slots=True)
class BlockedRun:
    """A run that cannot go on by itself.

    Attributes:
        run_id: Its id.
        workflow: The name of its workflow.
        reason: Why it cannot go on, and what to do.
    """

    run_id: str
    workflow: str
    reason: str


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
        blocked_reason: Why it cannot go on, and what to do: it is BLOCKED, or no server serves its workflow; else "".
        timeout_at: When its own timeout ends it; None when it has none, or while its clock stands still.
        partial: Whether the server left out what is large: the result and the traceback in a list, the contents of
            many open questions, and active deliveries beyond a thousand. `get_run` returns results and tracebacks.
        started_by: The caller that started it; "" when that is not known.
        retried_from: The run that it retries and the sequence that it went on from; None when it is no retry.
        retried_as: The ids of the runs that retry it.
        active_deliveries: What it works on and waits for now. `get_run` says it, a full list, and a conversation that
            attaches; other answers leave it out.
        pause: Its pause, or that of its workflow; None if neither is paused.
        parent: The run whose step has started it; None if a call did.
        children: How many runs its steps have started; None if they have started none.
        schedule: The schedule that started it; None if none did.
        blocked_children: Its children, and theirs, that cannot go on or cannot be started; as active_deliveries.
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
    started_by: str = ""
    retried_from: tuple[str, int] | None = None
    retried_as: tuple[str, ...] = ()
    active_deliveries: tuple[ActiveDelivery, ...] = ()
    pause: Pause | None = None
    parent: RunParent | None = None
    children: ChildSummary | None = None
    schedule: ScheduleOrigin | None = None
    blocked_children: tuple[BlockedRun, ...] = ()

    @property
    def ended(self) -> bool:
        """Say whether the run has ended."""
        return self.outcome is not None or self.status.ended


RunAction: TypeAlias = Literal["cancel", "retry", "delete", "pause", "resume"]
"""What `Client.apply_to_runs` does with each run."""


@dataclass(frozen=True, slots=True)
class RunRefusal:
    """Why an action on many runs was refused for one of them.

    Attributes:
        run_id: The run.
        reason: The server's reason, as in `StepwireError.reason`.
        message: The reason for people.
    """

    run_id: str
    reason: str
    message: str


@dataclass(frozen=True, slots=True)
class ApplyProgress:
    """How far an action on many runs is.

    Attributes:
        matched: The runs that were found so far.
        done: The runs that it was applied to; of a dry run, those that it would be applied to.
        unchanged: The runs that were as it would leave them, or gone.
        refused: The runs for which it was refused.
        refusals: What was refused since the last answer, at most 100.
        resume_token: The place to resume from.
        finished: Whether this is the last answer.
        more: Whether more runs than `max_runs` meet the filter; only in the last answer.
    """

    matched: int
    done: int
    unchanged: int
    refused: int
    refusals: tuple[RunRefusal, ...]
    resume_token: str
    finished: bool
    more: bool


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
