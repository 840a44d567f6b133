"""Errors that the runs raise to their callers, one class for each reason; `rpc` maps each reason to a status code.

::

    RunsError                     `reason` as in ErrorInfo, `facts` its metadata
    ├── WorkflowNotFoundError     WORKFLOW_NOT_FOUND
    ├── RunNotFoundError          RUN_NOT_FOUND
    ├── ScheduleNotFoundError     SCHEDULE_NOT_FOUND
    ├── StepNotFoundError         STEP_NOT_FOUND
    ├── PathNotFoundError         PATH_NOT_FOUND
    ├── SnapshotNotFoundError     SNAPSHOT_NOT_FOUND
    ├── InvalidError              INVALID_…: `violations` name the fields
    ├── EventNotAcceptedError     STEP_DOES_NOT_ACCEPT
    ├── UnknownEventTypeError     UNKNOWN_EVENT_TYPE
    ├── InternalEventError        INTERNAL_EVENT: only steps send events of this type
    ├── SnapshotMismatchError     SNAPSHOT_WORKFLOW_MISMATCH
    ├── RunFinishedError          RUN_ENDED
    ├── RunBlockedError           RUN_BLOCKED
    ├── RunNotEndedError          RUN_NOT_ENDED
    ├── RunIdTakenError           RUN_EXISTS
    ├── ScheduleExistsError       SCHEDULE_EXISTS
    ├── RequestIdReusedError      REQUEST_ID_REUSED
    ├── EtagMismatchError         ETAG_MISMATCH
    ├── SequenceOutOfRangeError   SEQUENCE_OUT_OF_RANGE
    ├── LimitError                LIMIT_EXCEEDED: a limit is reached, or the disk is full
    ├── DamagedError              DATA_DAMAGED: stored data of a run was altered or lost on the disk
    ├── UnauthenticatedError      UNAUTHENTICATED: the credential is missing or not valid
    ├── PermissionDeniedError     PERMISSION_DENIED: the caller's scopes do not allow the call
    ├── DrainingError             DRAINING: the server is stopping
    ├── RunElsewhereError         RUN_ELSEWHERE: another replica has the run, or can have it
    ├── PeerRefusedError          what another replica said
    └── StoreDownError            STORE_UNAVAILABLE: the outcome is unknown, retry with the same request_id
        └── RunLeftError          STORE_UNAVAILABLE: the run left memory before anything was done

The engine and the store have errors of their own, with other names. `as_runs_error` translates those of the store;
`events` and `state` translate those of the engine. A message says what is wrong and where, and never quotes a value.
"""

from __future__ import annotations

from collections.abc import Iterable
from difflib import get_close_matches
from typing import ClassVar, NamedTuple

from stepwire.server import store


class Violation(NamedTuple):
    """Name a field that is wrong, by its dotted path, and say why."""

    field: str
    description: str


class RunsError(Exception):
    """Base of the errors of the runs."""

    reason: ClassVar[str] = "INTERNAL"
    refusal: tuple[str, str] | None = None
    """What the refusal is counted as: its kind (limit, credential or scope) and a label; None: it is not counted."""

    def __init__(self, message: str, **facts: object) -> None:
        super().__init__(message)
        self.facts = {name: str(value) for name, value in facts.items()}

    @property
    def code_reason(self) -> str:
        """Return the reason of this error. Some classes have several."""
        return self.reason

    @property
    def details(self) -> str:
        """Return the message, with everything that is wrong, as one line."""
        return str(self)


def did_you_mean(name: str, known: Iterable[str]) -> str:
    """Return `; did you mean X?` for the name of `known` that a misspelled one is nearest to; "" if none is near."""
    near = get_close_matches(name[:128], list(known), 1)
    return f"; did you mean {near[0]}?" if near else ""


class WorkflowNotFoundError(RunsError):
    """No workflow of this name is served."""

    reason = "WORKFLOW_NOT_FOUND"

    def __init__(
        self, workflow: str, what: str = "No workflow of this name is served", *, known: Iterable[str] = ()
    ) -> None:
        super().__init__(f"{what}: {workflow[:128]}{did_you_mean(workflow, known)}", workflow=workflow[:128])


class RunNotFoundError(RunsError):
    """The caller's namespace has no such run."""

    reason = "RUN_NOT_FOUND"

    def __init__(self, run_id: str) -> None:
        super().__init__("There is no such run", run_id=run_id[:128])


class ScheduleNotFoundError(RunsError):
    """The caller's namespace has no such schedule."""

    reason = "SCHEDULE_NOT_FOUND"

    def __init__(self, schedule_id: str) -> None:
        super().__init__(f"There is no such schedule: {schedule_id[:128]}", schedule_id=schedule_id[:128])


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
    """The request is wrong, whatever the state of the run.

    Reasons: INVALID_INPUT, INVALID_EVENT, INVALID_PATH, INVALID_STATE, INVALID_SNAPSHOT, INVALID_REQUEST,
    INVALID_PAGE_TOKEN, INVALID_FRAME, MALFORMED_MESSAGE.
    """

    def __init__(self, reason: str, message: str, violations: list[Violation] | None = None, **facts: object) -> None:
        self._reason = reason
        self.violations = violations or []
        if reason == "INVALID_REQUEST" and violations:  # of itself the message says nothing
            message = f"{message}: {_listed(violations[:_NAMED])}"
        super().__init__(message, **facts)

    @property
    def code_reason(self) -> str:
        """Return the reason that this error was made with."""
        return self._reason

    @property
    def details(self) -> str:
        """Return the message, with the fields that are wrong."""
        if self._reason == "INVALID_REQUEST" or not self.violations:
            return str(self)
        return f"{self} ({_listed(self.violations)})"


_NAMED = 3
"""How many fields the message of INVALID_REQUEST names. The details of the status have all of them."""


def _listed(violations: list[Violation]) -> str:
    return "; ".join(f"{violation.field}: {violation.description}" for violation in violations)


class EventNotAcceptedError(RunsError):
    """The step does not take events of this type."""

    reason = "STEP_DOES_NOT_ACCEPT"


class UnknownEventTypeError(RunsError):
    """The workflow has no event type of this name that a client may send."""

    reason = "UNKNOWN_EVENT_TYPE"


class InternalEventError(RunsError):
    """The workflow's author has declared the event type internal: only steps send such events."""

    reason = "INTERNAL_EVENT"


class SnapshotMismatchError(RunsError):
    """The snapshot is of another workflow."""

    reason = "SNAPSHOT_WORKFLOW_MISMATCH"


class RunFinishedError(RunsError):
    """The run has ended and takes no more input."""

    reason = "RUN_ENDED"


class RunBlockedError(RunsError):
    """The code that is served now cannot continue the run."""

    reason = "RUN_BLOCKED"


class RunNotEndedError(RunsError):
    """Only ended runs can be deleted."""

    reason = "RUN_NOT_ENDED"


class RunNotRetryableError(RunsError):
    """The run has not ended badly, or left nothing that a retry could go on with."""

    reason = "RUN_NOT_RETRYABLE"


class RunIdTakenError(RunsError):
    """The run_id is taken."""

    reason = "RUN_EXISTS"


class ScheduleExistsError(RunsError):
    """The schedule_id is taken."""

    reason = "SCHEDULE_EXISTS"

    def __init__(self, schedule_id: str) -> None:
        message = "A schedule with this schedule_id exists: update it, or delete it first"
        super().__init__(message, schedule_id=schedule_id)


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
    """A limit is reached.

    Attributes:
        limit: The name of the limit.
        retry_after: Seconds after which a retry may succeed. None when a retry cannot help.
    """

    reason = "LIMIT_EXCEEDED"

    def __init__(self, message: str, *, limit: str = "", retry_after: float | None = None, **facts: object) -> None:
        super().__init__(message, **({"limit": limit} if limit else {}), **facts)
        self.limit = limit
        self.retry_after = retry_after
        self.refusal = "limit", limit


def too_large(what: str, size: int, largest: int, limit: str) -> LimitError:
    """Return the error for something that has too many bytes: what it is, its size, and the setting `max_…`."""
    return LimitError(f"{what} has {size} bytes, and may have at most {largest} (max_{limit})", limit=limit)


class DamagedError(RunsError):
    """Stored data of a run was altered or lost on the disk. It is refused rather than read wrongly."""

    reason = "DATA_DAMAGED"


class UnauthenticatedError(RunsError):
    """The call carries no credential, or one that is not valid.

    `why` is the label under which the refusal is counted; empty for a call that was admitted and then ended.
    """

    reason = "UNAUTHENTICATED"

    def __init__(self, message: str, *, why: str = "", **facts: object) -> None:
        super().__init__(message, **facts)
        if why:
            self.refusal = "credential", why


class PermissionDeniedError(RunsError):
    """The caller's scopes do not allow the call; `needs` is the label under which the refusal is counted."""

    reason = "PERMISSION_DENIED"

    def __init__(self, message: str, *, needs: str, **facts: object) -> None:
        super().__init__(message, **facts)
        self.refusal = "scope", needs


class DrainingError(RunsError):
    """The server is stopping. Another server, or this one after its restart, continues its runs."""

    reason = "DRAINING"


class RunElsewhereError(RunsError):
    """Another replica has the run, or is to have it: the call goes there (`rpc/peers`). Nothing was done here.

    Attributes:
        address: Where that replica takes calls; empty if that is not known yet.
        key: The run; None for a run that is to be started.
        replica: The id of that replica; 0 if that is not known.
    """

    reason = "RUN_ELSEWHERE"

    def __init__(self, address: str, key: store.RunKey | None = None, replica: int = 0) -> None:
        super().__init__("Another replica has the run; retry", owner=address, replica=replica)
        self.address = address
        self.key = key
        self.replica = replica


class WrongReplicaError(RunsError):
    """A call was passed on to this replica for one with another id: addresses are wrong, or that one is gone.

    Nothing was done.

    Attributes:
        replica: The id of this replica.
    """

    reason = "RUN_ELSEWHERE"

    def __init__(self, replica: int) -> None:
        super().__init__("Another replica has the run; retry", owner="", answered_by=replica)
        self.replica = replica


class PeerRefusedError(RunsError):
    """Another replica refused what this one asked for, with a reason of the table."""

    def __init__(self, reason: str, message: str) -> None:
        super().__init__(message)
        self._reason = reason

    @property
    def code_reason(self) -> str:
        """Return the reason that the other replica gave."""
        return self._reason


class StoreDownError(RunsError):
    """The store could not commit or read. If it could not commit, it is unknown whether the request took effect."""

    reason = "STORE_UNAVAILABLE"


class PeerSilentError(StoreDownError):
    """Another replica does not answer at its address, or a third one does."""


class RunLeftError(StoreDownError):
    """The run left memory between the look-up and now, before anything was done; a repeat loads it again."""

    def __init__(self) -> None:
        super().__init__("The run is not in memory any more; retry")


def as_runs_error(error: BaseException) -> RunsError:
    """Translate an error of the store. Errors of the runs are returned as they are."""
    if isinstance(error, RunsError):
        return error
    if isinstance(error, store.RunExistsError):
        return RunIdTakenError("A run with this run_id exists")
    if isinstance(error, store.StartRequestExistsError):
        return RequestIdReusedError("This request_id came before with another request")
    if isinstance(error, store.QuotaExceededError):
        return LimitError(f"At most {error.most} runs of a caller may be unfinished", limit="runs")
    if isinstance(error, store.OwnedElsewhereError):
        return RunElsewhereError(error.address, replica=error.replica)
    if isinstance(error, store.StoreCorruptError):
        return DamagedError(f"Stored data of the run is damaged: {error}")
    if isinstance(error, store.StoreUnavailableError) and error.full:
        return LimitError("The server's storage is full", retry_after=1.0)
    if isinstance(error, store.StoreUnreadableError):
        return StoreDownError("The server cannot read its database; retry, with the same request_id if you gave one")
    return StoreDownError("The server could not commit; the outcome is unknown, retry with the same request_id")
