"""Time as a run sees it: a clock, and the run's own time limit."""

from __future__ import annotations

import time
from typing import Final, Protocol
from weakref import WeakSet

__all__ = ["CLOCK", "LONGEST", "Clock", "Ringing", "SkippingClock", "StandingClock", "TimeLimit", "finite"]


_AHEAD_SECONDS = 0.05


_READ_SECONDS = 1e-6


class Clock:
    """Give seconds since the epoch, UTC, that never run backwards while the process lives.

    Due times are saved as they are: they mean the same to the next process.
    """

    def __init__(self) -> None:
        self._offset = time.time() - time.monotonic()
        self._follows = False

    def now(self) -> float:
        """Return the present time in seconds since the epoch."""
        return time.monotonic() + self._offset

    def follow(self, now: float) -> None:
        """Go by another clock, which shows `now`: that of a database that several processes share.

        The first call sets this clock; later ones only set it forward, and not for the milliseconds that an answer
        of the database takes.
        """
        ahead = now - self.now()
        if not self._follows or ahead > _AHEAD_SECONDS:
            self._follows = True
            self._offset += ahead

    def watch(self, alarm: Ringing) -> None:
        """Have an alarm told when time is skipped: this clock never does that."""


class Ringing(Protocol):
    """What calls back at due times of a clock."""

    def next_due(self) -> float | None:
        """Return the earliest due time; None when there is none."""

    def look(self) -> None:
        """Call back what is due now."""


class SkippingClock(Clock):
    """A clock that can be set forward, for tests: whatever is due then happens at once. Not thread-safe.

    Attributes:
        skips: How often it was set forward.
    """

    def __init__(self) -> None:
        super().__init__()
        self.skips = 0
        self._alarms: WeakSet[Ringing] = WeakSet()

    def watch(self, alarm: Ringing) -> None:
        """Have an alarm told when time is skipped."""
        self._alarms.add(alarm)

    def next_due(self) -> float | None:
        """Return when the next alarm rings; None when none will."""
        return min((due for alarm in self._alarms if (due := alarm.next_due()) is not None), default=None)

    def skip_to(self, moment: float) -> None:
        """Let it be that moment, in seconds since the epoch, unless it is later already."""
        self.skips += 1
        if moment > self.now():
            self._set(moment)
        for alarm in list(self._alarms):
            alarm.look()

    def _set(self, moment: float) -> None:
        self._offset += moment - self.now()


class StandingClock(SkippingClock):
    """A skipping clock whose time stands still otherwise: what a test sees is the same at any hour and pace.

    It goes on by a microsecond whenever it is read, so that what happens in turn has times in that order.
    """

    def __init__(self, moment: float) -> None:
        """Make a clock that stands at a moment, in seconds since the epoch."""
        super().__init__()
        self._moment = moment

    def now(self) -> float:
        """Return the time that it was set to, and the microseconds of reads since, in seconds since the epoch."""
        now = self._moment
        self._moment += _READ_SECONDS
        return now

    def follow(self, now: float) -> None:
        """Stay where it is: only skips set this clock."""

    def _set(self, moment: float) -> None:
        self._moment = moment


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


LONGEST: Final = 100e9
"""Seconds, about 3,000 years. What would fall due later never falls due: dates end with the year 9999."""


def finite(seconds: float | None) -> float | None:
    """Return None for what never falls due: infinity, and more than LONGEST."""
    return None if seconds is None or seconds > LONGEST else max(seconds, -LONGEST)
