"""What the engine asks of a host that makes runs durable."""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple, Protocol

__all__ = ["FailureReport", "Host"]


class FailureReport(NamedTuple):
    """What may be told of an error, by the host's policy."""

    message: str
    traceback: str
    reference: str


class Host(Protocol):
    """What makes a run durable; without one a run lives in its process only."""

    def changed(self) -> None:
        """Commit soon: something changed since the last `Broker.take_changes`."""

    def after_commit(self, callback: Callable[[], None]) -> None:
        """Call back once everything that was done up to now is durable (DESIGN: the membrane)."""

    def report(
        self, step: str | None, error: BaseException, *, attempt: int = 0, next_at: float | None = None
    ) -> FailureReport:
        """Log an error and say what the run's record may tell of it.

        Args:
            step: The step that it is of.
            error: The error.
            attempt: The number of the attempt that failed with it, from 1; 0 for an error that failed no attempt.
            next_at: When the step is tried again; None when it is not.
        """

    def executed(self, step: str, outcome: str, seconds: float) -> None:
        """Note that the body of a step is over: how it ended, and how long it took with all its waits."""
