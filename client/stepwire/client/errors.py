"""What the client raises.

Everything is a `StepwireError`; one `except` catches all of it::

    StepwireError                      code, reason, message, details, field_violations, …
    ├── InvalidArgumentError           INVALID_ARGUMENT     a bad event, input, path or option
    ├── NotFoundError                  NOT_FOUND            no such workflow, run, step, path, …
    ├── AlreadyExistsError             ALREADY_EXISTS       run_id or request_id is taken
    ├── FailedPreconditionError        FAILED_PRECONDITION  the run has ended or is blocked
    ├── AbortedError                   ABORTED              the state changed meanwhile
    ├── OutOfRangeError                OUT_OF_RANGE         sequence trimmed or beyond the log
    ├── ResourceExhaustedError         RESOURCE_EXHAUSTED   a limit; see retry_after
    ├── UnauthenticatedError           UNAUTHENTICATED
    ├── PermissionDeniedError          PERMISSION_DENIED
    ├── UnavailableError               UNAVAILABLE          not reachable; the outcome is unknown
    ├── DeadlineError                  DEADLINE_EXCEEDED    also a TimeoutError
    ├── UnimplementedError             UNIMPLEMENTED
    ├── InternalServerError            INTERNAL, UNKNOWN, DATA_LOSS; see reference_id
    ├── StreamGapError                 entries are missing from a stream (seen by the client)
    ├── EventDecodeError               an event does not fit the class registered for its type
    └── RunOutcomeError                the run ended without a result; see outcome
        ├── RunFailedError
        ├── RunCancelledError
        └── RunTimedOutError

Other codes (CANCELLED when the server cancelled) are plain `StepwireError`s. Wrong use of the
client itself is a ValueError or TypeError.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import grpc
from google.protobuf.message import Message

if TYPE_CHECKING:
    from stepwire.client.models import Outcome

__all__ = [
    "AbortedError",
    "AlreadyExistsError",
    "DeadlineError",
    "EventDecodeError",
    "FailedPreconditionError",
    "FieldViolation",
    "InternalServerError",
    "InvalidArgumentError",
    "NotFoundError",
    "OutOfRangeError",
    "PermissionDeniedError",
    "ResourceExhaustedError",
    "RunCancelledError",
    "RunFailedError",
    "RunOutcomeError",
    "RunTimedOutError",
    "StepwireError",
    "StreamGapError",
    "UnauthenticatedError",
    "UnavailableError",
    "UnimplementedError",
]


@dataclass(frozen=True, slots=True)
class FieldViolation:
    """A field of the request that the server refused, and why."""

    field: str
    description: str
    reason: str = ""


class StepwireError(Exception):
    """Tell that a call did not do what it was asked.

    `code` is the gRPC status, None when the client saw the fault itself; `reason` the stable word
    of the server (`RUN_NOT_FOUND`), "" when there is none; `message` the text for people;
    `details` the decoded `google.rpc` messages; `field_violations` those of BadRequest;
    `retry_after` seconds the server asked to wait; `reference_id` finds the fault in the server's
    log; `metadata` is that of ErrorInfo.
    """

    def __init__(
        self,
        message: str,
        *,
        code: grpc.StatusCode | None = None,
        reason: str = "",
        details: Sequence[Message] = (),
        field_violations: Sequence[FieldViolation] = (),
        retry_after: float | None = None,
        reference_id: str = "",
        metadata: Mapping[str, str] | None = None,
    ) -> None:
        super().__init__(message)
        self.message = message
        self.code = code
        self.reason = reason
        self.details = tuple(details)
        self.field_violations = tuple(field_violations)
        self.retry_after = retry_after
        self.reference_id = reference_id
        self.metadata = dict(metadata or {})

    def __str__(self) -> str:
        text = f"{self.reason}: {self.message}" if self.reason else self.message
        for violation in self.field_violations:
            text += f"\n  {violation.field}: {violation.description}"
        if self.reference_id:
            text += f" (reference {self.reference_id})"
        return text


class InvalidArgumentError(StepwireError):
    """Refuse an event, input, path or option; `field_violations` says which fields."""


class NotFoundError(StepwireError):
    """Tell that a workflow, run, step, path or snapshot does not exist."""


class AlreadyExistsError(StepwireError):
    """Tell that a run_id is taken, or that a request_id was used for something else."""


class FailedPreconditionError(StepwireError):
    """Tell that the run has ended or is blocked."""


class AbortedError(StepwireError):
    """Tell that the state changed since it was read."""


class OutOfRangeError(StepwireError):
    """Tell that a sequence is not in the log (any more).

    `first_available` and `last_available` are the sequences the log has; None when unknown.
    """

    @property
    def first_available(self) -> int | None:
        """Return the first sequence that the log still has."""
        return _number(self.metadata.get("first_available"))

    @property
    def last_available(self) -> int | None:
        """Return the last sequence of the log."""
        return _number(self.metadata.get("last_available"))


class ResourceExhaustedError(StepwireError):
    """Tell that a limit was reached; try again after `retry_after` seconds."""


class UnauthenticatedError(StepwireError):
    """Tell that the server wants a (better) token or certificate."""


class PermissionDeniedError(StepwireError):
    """Tell that the caller may not do this."""


class UnavailableError(StepwireError):
    """Tell that the server was not reachable; whether the call took effect is unknown."""


class DeadlineError(StepwireError, TimeoutError):
    """Tell that the time given was not enough; whether the call took effect is unknown."""


class UnimplementedError(StepwireError):
    """Tell that this server does not have the method."""


class InternalServerError(StepwireError):
    """Tell of a fault of the server; `reference_id` finds it in the server's log."""


class StreamGapError(StepwireError):
    """Tell that a stream of the log skipped or repeated entries."""


class EventDecodeError(StepwireError):
    """Tell that an event does not fit the class that is registered for its type."""


class RunOutcomeError(StepwireError):
    """Tell that a run ended without a result; `outcome` says how."""

    def __init__(self, run_id: str, outcome: Outcome, message: str) -> None:
        reference = outcome.failure.reference_id if outcome.failure else ""
        super().__init__(message, reference_id=reference)
        self.run_id = run_id
        self.outcome = outcome


class RunFailedError(RunOutcomeError):
    """Tell that the run was ended by an error; see `outcome.failure`."""


class RunCancelledError(RunOutcomeError):
    """Tell that the run was cancelled; see `outcome.reason`."""


class RunTimedOutError(RunOutcomeError):
    """Tell that the run exceeded its own timeout."""


def _number(text: str | None) -> int | None:
    return int(text) if text is not None and text.isdecimal() else None
