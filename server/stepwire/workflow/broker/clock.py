"""Time as a run sees it: a clock, and the run's own time limit."""

from __future__ import annotations

import math
import time

__all__ = ["CLOCK", "Clock", "TimeLimit", "finite"]


class Clock:
    """Give seconds since the epoch, UTC, that never run backwards while the process lives.

    Due times are saved as they are: they mean the same to the next process.
    """

    def __init__(self) -> None:
        self._offset = time.time() - time.monotonic()

    def now(self) -> float:
        """Return the present time in seconds since the epoch."""
        return time.monotonic() + self._offset


CLOCK = Clock()
"""The clock of this process."""


class TimeLimit:
    """The seconds that a run may take; its clock can be stopped (S14).

    Attributes:
        seconds: The limit; None for no limit.
        remaining: The seconds left while the clock is stopped; else None.
        due: When the run times out, while the clock runs; else None.
    """

    __slots__ = ("due", "remaining", "seconds")

    def __init__(self) -> None:
        self.seconds: float | None = None
        self.remaining: float | None = None
        self.due: float | None = None

    def set(self, seconds: float | None) -> None:
        """Give the run so many seconds from its next start of the clock; None or infinity: no limit."""
        self.seconds = self.remaining = seconds if seconds is None else finite(seconds)
        self.due = None

    def tick(self, now: float, *, stopped: bool) -> bool:
        """Start or stop the clock; tell whether that changed anything."""
        if stopped:
            if self.due is None:
                return False
            self.remaining = max(0.0, self.due - now)
            self.due = None
            return True
        if self.due is not None or self.remaining is None:
            return False
        self.due = now + self.remaining
        self.remaining = None
        return True

    def clear(self) -> None:
        """Stop the clock for good: the run has ended."""
        self.due = self.remaining = None


def finite(seconds: float | None) -> float | None:
    """Return None for infinity: what never falls due."""
    return None if seconds is None or math.isinf(seconds) else seconds
