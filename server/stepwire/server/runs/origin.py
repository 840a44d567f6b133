"""Which schedule started a run, and for which due time."""

from __future__ import annotations

from typing import Final, NamedTuple

from stepwire.server.store import RunRecord

__all__ = ["ORIGIN", "Origin"]

ORIGIN: Final = "scheduled"
"""In the record of a run: the schedule that started it."""


class Origin(NamedTuple):
    """The schedule that starts a run, and for which due time.

    Attributes:
        schedule_id: The schedule.
        due: The due time, in seconds since the epoch.
        manual: Whether a caller asked for the run.
    """

    schedule_id: str
    due: float
    manual: bool

    @classmethod
    def of(cls, record: RunRecord) -> Origin | None:
        """Return what the record of a run says; None if no schedule started it."""
        origin = record.info.get(ORIGIN)
        return None if origin is None else cls(*origin)
