"""What the log and the snapshot tell of attempts at deliveries: how each ended, and with which failure."""

from __future__ import annotations

from typing import Any, Final, NamedTuple, Protocol

__all__ = [
    "CANCELLED",
    "FAILED",
    "FINISHED",
    "LOG_ALL",
    "LOG_FAILURES",
    "LOG_NONE",
    "LOST",
    "STARTED",
    "TIMED_OUT",
    "AttemptFailure",
    "AttemptJournal",
    "Attempted",
    "is_failure",
]

STARTED: Final = 1
"""The attempt is marked in progress; its body starts once that is durable."""
FINISHED: Final = 2
"""The step returned, and the delivery is through."""
FAILED: Final = 3
"""The step raised."""
TIMED_OUT: Final = 4
"""The attempt took longer than the step's timeout."""
CANCELLED: Final = 5
"""The run ended, or the server stopped, while the body was at work."""
LOST: Final = 6
"""The process or the commit failed while the body was at work."""

LOG_NONE: Final = 0
"""Log no attempts."""
LOG_FAILURES: Final = 1
"""Log the attempts that failed, timed out or were lost."""
LOG_ALL: Final = 2
"""Log the start and the end of every attempt."""


def is_failure(status: int) -> bool:
    """Tell whether an attempt that ended so is logged among the failures."""
    return status in (FAILED, TIMED_OUT, LOST)


class AttemptFailure(NamedTuple):
    """What may be told of a failed attempt, by the host's policy."""

    error_type: str
    message: str
    traceback: str
    reference: str

    def saved(self) -> list[str]:
        """Return it as a snapshot holds it."""
        return list(self)

    @classmethod
    def restored(cls, value: Any) -> AttemptFailure | None:
        """Return what `saved` made. ValueError for anything else."""
        if value is None:
            return None
        if not isinstance(value, list) or len(value) != len(cls._fields) or not all(type(it) is str for it in value):
            raise ValueError("no failure of an attempt")
        return cls(*value)


class Attempted(NamedTuple):
    """An entry of the log about an attempt at a delivery.

    Attributes:
        delivery: The id of the delivery.
        status: How far the attempt got: STARTED, FINISHED, FAILED, TIMED_OUT, CANCELLED or LOST.
        attempt: Its number, from 1.
        caused_by: The sequence of the event that the delivery is of.
        seconds: How long the attempt took, with all its waits; None when that is not known.
        failure: What it failed with; None when it did not.
        next_at: When the delivery runs again; None when it does not, or when that depends on a worker alone.
    """

    delivery: int
    status: int
    attempt: int
    caused_by: int
    seconds: float | None = None
    failure: AttemptFailure | None = None
    next_at: float | None = None


class AttemptJournal(Protocol):
    """Takes entries of the log that tell of attempts.

    Attributes:
        attempts: Which attempts get entries: LOG_NONE, LOG_FAILURES or LOG_ALL.
        last_entry: The sequence that the steps of the run may bring its log to.
    """

    attempts: int
    last_entry: int

    def log_attempt(self, sequence: int, at: float, step: str, attempted: Attempted) -> None:
        """Append an entry that tells of an attempt."""
