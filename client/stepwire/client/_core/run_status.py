"""The state of a run."""

from __future__ import annotations

import enum

__all__ = ["RunStatus", "status_of"]


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
    PAUSED = "paused"

    @property
    def ended(self) -> bool:
        """Say whether the status is terminal."""
        return self in _TERMINAL


_TERMINAL = frozenset({RunStatus.COMPLETED, RunStatus.FAILED, RunStatus.CANCELLED, RunStatus.TIMED_OUT})
_STATUSES = dict(enumerate(RunStatus))


def status_of(number: int) -> RunStatus:
    """Return the status that the contract numbers so; a number that this client does not know is UNSPECIFIED."""
    return _STATUSES.get(number, RunStatus.UNSPECIFIED)
