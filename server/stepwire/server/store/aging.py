"""How old something is, when the clock may have been set while no process used the store."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import NamedTuple

GAP_SECONDS = 24 * 3600.0
"""A longer time between the last commit and an opening of the store is a gap: nobody can tell whether it passed."""


class Gap(NamedTuple):
    """A time in which no process used the store, by the clock: the machine was off, or its clock was set forward."""

    start: float
    end: float


class Aging:
    """Tell what time was a while ago, by a clock, not counting gaps.

    Without this, a clock that was wrong for an hour would make retention delete everything: what ended
    minutes ago would look years old.
    """

    def __init__(self, clock: Callable[[], float]) -> None:
        self.now = clock
        """Return seconds since the epoch, UTC."""
        self._gaps: Sequence[Gap] = ()

    def skip(self, gaps: Sequence[Gap]) -> None:
        """Set the gaps that are not counted."""
        self._gaps = sorted(gaps, reverse=True)

    def ago(self, age: float) -> float:
        """Return the time since which `age` seconds have passed, gaps not counted."""
        end, left = self.now(), age
        for gap in self._gaps:
            if gap.end > end:  # the clock was set back behind it
                continue
            if left <= end - gap.end:
                break
            left -= end - gap.end
            end = gap.start
        return end - left
