"""The errors that the client raises.

Each is a `StepwireError`, so one `except` catches them all::

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
    │   └── NotConnectedError          nothing has ever answered; the call was not sent
    ├── DeadlineError                  DEADLINE_EXCEEDED    also a TimeoutError
    ├── UnimplementedError             UNIMPLEMENTED
    ├── InternalServerError            INTERNAL, UNKNOWN, DATA_LOSS; see reference_id
    ├── StreamGapError                 entries are missing from a stream (seen by the client)
    ├── EventDecodeError               an event does not fit the class registered for its type
    └── RunOutcomeError                the run ended without a result; see outcome
        ├── RunFailedError
        ├── RunCancelledError
        └── RunTimedOutError

Any other code, such as CANCELLED, is a plain `StepwireError`. Wrong use of the client itself raises
ValueError or TypeError.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import grpc
from google.protobuf.message import Message

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
    "NotConnectedError",
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
    """A call failed. The base of all errors of this client.

    Attributes:
        message: What happened, for people.
        code: The gRPC status; None when the client itself found the fault.
        reason: The server's stable word for the fault, such as `RUN_NOT_FOUND`; "" when there is none.
        details: The decoded `google.rpc` messages.
        field_violations: The fields of the request that the server refused.
        retry_after: The seconds that the server asked to wait before a retry; None when it did not.
        reference_id: An id that finds the fault in the server's log; "" when there is none.
        metadata: Further facts about the fault, by name.
        advice: What to do, for people, such as which request_id makes a repeat safe; "" when nothing is known.
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
        advice: str = "",
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
        self.advice = advice

    @property
    def unnamed_violations(self) -> tuple[FieldViolation, ...]:
        """Return those of `field_violations` that the message does not tell."""
        return tuple(item for item in self.field_violations if item.description not in self.message)

    def __str__(self) -> str:
        text = f"{self.reason}: {self.message}" if self.reason else self.message
        for violation in self.unnamed_violations:
            text += f"\n  {violation.field}: {violation.description}"
        if self.advice:
            text += f": {self.advice}"
        if self.reference_id:
            text += f" (reference {self.reference_id})"
        return text


class InvalidArgumentError(StepwireError):
    """An event, input, path or option is wrong; `field_violations` says which fields."""


class NotFoundError(StepwireError):
    """The workflow, run, step, path or snapshot does not exist."""


class AlreadyExistsError(StepwireError):
    """The run_id is taken, or the request_id was used for another request."""


class FailedPreconditionError(StepwireError):
    """The run has ended or is blocked."""


class AbortedError(StepwireError):
    """The state changed since it was read."""


class OutOfRangeError(StepwireError):
    """The sequence is not in the log, or no longer.

    `first_available` and `last_available` are the bounds of the log; None when the server did not say.
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
    """A limit was reached. Retry after `retry_after` seconds; when it is None, a retry cannot help."""


class UnauthenticatedError(StepwireError):
    """The server needs a valid token or certificate."""


class PermissionDeniedError(StepwireError):
    """The caller may not do this."""


class UnavailableError(StepwireError):
    """The server was not reachable. Whether the call took effect is unknown."""


class NotConnectedError(UnavailableError):
    """Nothing has ever answered the client at its addresses, for its `connect_timeout`. The call was not sent."""


class DeadlineError(StepwireError, TimeoutError):
    """The time was over first. Whether the call took effect is unknown."""


class UnimplementedError(StepwireError):
    """This server does not have the method."""


class InternalServerError(StepwireError):
    """The server failed; `reference_id` finds the fault in its log."""


class StreamGapError(StepwireError):
    """A stream of the log skipped or repeated entries."""


class EventDecodeError(StepwireError):
    """An event does not fit the class that is registered for its type."""


class RunOutcomeError(StepwireError):
    """The run ended without a result; `outcome` says how."""

    def __init__(self, run_id: str, outcome: Outcome, message: str) -> None:
        reference = outcome.failure.reference_id if outcome.failure else ""
        super().__init__(message, reference_id=reference)
        self.run_id = run_id
        self.outcome = outcome


class RunFailedError(RunOutcomeError):
    """The run failed; see `outcome.failure`."""


class RunCancelledError(RunOutcomeError):
    """The run was cancelled; see `outcome.reason`."""


class RunTimedOutError(RunOutcomeError):
    """The run exceeded its own timeout."""


def _number(text: str | None) -> int | None:
    return int(text) if text is not None and text.isdecimal() else None
