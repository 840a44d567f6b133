"""Errors of the runs, one class a reason; `rpc` maps each to a status code.

::

    RunsError                     `reason` as in ErrorInfo, `facts` its metadata
    ├── WorkflowNotFoundError     WORKFLOW_NOT_FOUND
    ├── RunNotFoundError          RUN_NOT_FOUND
    ├── StepNotFoundError         STEP_NOT_FOUND
    ├── PathNotFoundError         PATH_NOT_FOUND
    ├── SnapshotNotFoundError     SNAPSHOT_NOT_FOUND
    ├── InvalidError              INVALID_…: `violations` name the fields
    ├── StepDoesNotAcceptError    STEP_DOES_NOT_ACCEPT
    ├── UnknownEventTypeError     UNKNOWN_EVENT_TYPE
    ├── SnapshotMismatchError     SNAPSHOT_WORKFLOW_MISMATCH
    ├── RunEndedError             RUN_ENDED
    ├── RunBlockedError           RUN_BLOCKED
    ├── RunNotEndedError          RUN_NOT_ENDED
    ├── RunExistsError            RUN_EXISTS
    ├── RequestIdReusedError      REQUEST_ID_REUSED
    ├── EtagMismatchError         ETAG_MISMATCH
    ├── SequenceOutOfRangeError   SEQUENCE_OUT_OF_RANGE
    ├── LimitError                LIMIT_EXCEEDED: a limit, or the disk, is full
    ├── DamagedError              DATA_DAMAGED: what is kept of a run was altered or lost on the disk
    ├── UnauthenticatedError      UNAUTHENTICATED: no credential, or one that is not valid (any more)
    ├── PermissionDeniedError     PERMISSION_DENIED: the caller's scopes do not allow it
    ├── DrainingError             DRAINING: the server stops
    └── StoreDownError            STORE_UNAVAILABLE: the outcome is unknown, retry with the same request_id

Messages name what and where, never the value.
"""

from __future__ import annotations

from typing import ClassVar, NamedTuple

from stepwire.server import store


class Violation(NamedTuple):
    """A field that is wrong, by its dotted path, and why."""

    field: str
    description: str


class RunsError(Exception):
    """Base of the errors of the runs."""

    reason: ClassVar[str] = "INTERNAL"

    def __init__(self, message: str, **facts: object) -> None:
        super().__init__(message)
        self.facts = {name: str(value) for name, value in facts.items()}

    @property
    def code_reason(self) -> str:
        """Return the reason of this error; some classes have several."""
        return self.reason


class WorkflowNotFoundError(RunsError):
    """No workflow of this name is served."""

    reason = "WORKFLOW_NOT_FOUND"


class RunNotFoundError(RunsError):
    """The caller's namespace has no such run."""

    reason = "RUN_NOT_FOUND"

    def __init__(self, run_id: str) -> None:
        super().__init__("There is no such run", run_id=run_id[:128])


class StepNotFoundError(RunsError):
    """The workflow has no such step."""

    reason = "STEP_NOT_FOUND"


class PathNotFoundError(RunsError):
    """Nothing is at this path of the state."""

    reason = "PATH_NOT_FOUND"


class SnapshotNotFoundError(RunsError):
    """No snapshot is kept at this sequence."""

    reason = "SNAPSHOT_NOT_FOUND"


class InvalidError(RunsError):
    """The request is wrong in itself.

    Reasons: INVALID_INPUT, INVALID_EVENT, INVALID_PATH, INVALID_STATE, INVALID_SNAPSHOT, INVALID_REQUEST,
    INVALID_PAGE_TOKEN, INVALID_FRAME, MALFORMED_MESSAGE.
    """

    def __init__(self, reason: str, message: str, violations: list[Violation] | None = None, **facts: object) -> None:
        super().__init__(message, **facts)
        self._reason = reason
        self.violations = violations or []

    @property
    def code_reason(self) -> str:
        """Return the reason that this error was made with."""
        return self._reason


class StepDoesNotAcceptError(RunsError):
    """The step does not take events of this type."""

    reason = "STEP_DOES_NOT_ACCEPT"


class UnknownEventTypeError(RunsError):
    """The workflow has no event type of this name that a client may send."""

    reason = "UNKNOWN_EVENT_TYPE"


class SnapshotMismatchError(RunsError):
    """The snapshot is of another workflow."""

    reason = "SNAPSHOT_WORKFLOW_MISMATCH"


class RunEndedError(RunsError):
    """The run has ended and takes nothing more."""

    reason = "RUN_ENDED"


class RunBlockedError(RunsError):
    """The run cannot go on with the code that is served now."""

    reason = "RUN_BLOCKED"


class RunNotEndedError(RunsError):
    """Only ended runs can be deleted."""

    reason = "RUN_NOT_ENDED"


class RunExistsError(RunsError):
    """The run_id is taken."""

    reason = "RUN_EXISTS"


class RequestIdReusedError(RunsError):
    """The request_id came before with another request."""

    reason = "REQUEST_ID_REUSED"


class EtagMismatchError(RunsError):
    """The state has changed since the etag was read."""

    reason = "ETAG_MISMATCH"


class SequenceOutOfRangeError(RunsError):
    """The log does not hold this sequence."""

    reason = "SEQUENCE_OUT_OF_RANGE"

    def __init__(self, message: str, first: int, last: int) -> None:
        there = f"it has {first} to {last}" if last >= first else "it is empty"
        super().__init__(f"{message}: {there}", first_available=first, last_available=last)


class LimitError(RunsError):
    """Too much, or too big; `limit` names which one, `retry_after` is in seconds, None when a retry cannot help."""

    reason = "LIMIT_EXCEEDED"

    def __init__(self, message: str, *, limit: str = "", retry_after: float | None = None, **facts: object) -> None:
        super().__init__(message, **({"limit": limit} if limit else {}), **facts)
        self.limit = limit
        self.retry_after = retry_after


class DamagedError(RunsError):
    """What is kept of a run was altered or lost on the disk; it is refused rather than read wrongly."""

    reason = "DATA_DAMAGED"


class UnauthenticatedError(RunsError):
    """The call carries no credential, or one that is not valid (any more)."""

    reason = "UNAUTHENTICATED"


class PermissionDeniedError(RunsError):
    """The caller's scopes do not allow this."""

    reason = "PERMISSION_DENIED"


class DrainingError(RunsError):
    """The server is stopping; another one, or the same after its restart, goes on."""

    reason = "DRAINING"


class StoreDownError(RunsError):
    """The store could not commit; whether the request took effect is unknown, and no client has seen it."""

    reason = "STORE_UNAVAILABLE"


def as_runs_error(error: BaseException) -> RunsError:
    """Return what a client is told of a store's failure."""
    if isinstance(error, RunsError):
        return error
    if isinstance(error, store.RunExistsError):
        return RunExistsError("A run with this run_id exists")
    if isinstance(error, store.StartRequestExistsError):
        return RequestIdReusedError("This request_id came before with another request")
    if isinstance(error, store.StoreCorruptError):
        return DamagedError(f"What is kept is damaged: {error}")
    if isinstance(error, store.StoreUnavailableError) and error.full:
        return LimitError("The server's storage is full", retry_after=1.0)
    return StoreDownError("The server could not commit; the outcome is unknown, retry with the same request_id")
