"""What a schedule does, as callers say it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from typing import Any, Final

from stepwire.server.runs.errors import Violation
from stepwire.server.runs.limits import MAX_REASON, check_labels, check_length
from stepwire.server.runs.scheduling.cron import Timing

__all__ = [
    "ANYWAY",
    "CANCEL",
    "DAY",
    "MAX_INPUT",
    "MAX_WINDOW",
    "OVERLAPS",
    "QUEUE_ALL",
    "QUEUE_ONE",
    "SKIP",
    "ScheduleSpec",
]

SKIP: Final = "skip"
QUEUE_ONE: Final = "queue_one"
QUEUE_ALL: Final = "queue_all"
CANCEL: Final = "cancel_running"
ANYWAY: Final = "start_anyway"
OVERLAPS: Final = (SKIP, QUEUE_ONE, QUEUE_ALL, CANCEL, ANYWAY)
"""What a due time does while an earlier run has not ended."""
DAY: Final = 86_400.0
MAX_WINDOW: Final = 366 * DAY
MAX_INPUT: Final = 64 * 1024
"""Bytes of the input as JSON: it is part of the schedule's record, which lists show."""


@dataclass(frozen=True, kw_only=True)
class ScheduleSpec:
    """What a schedule does.

    Attributes:
        workflow: The workflow whose runs it starts.
        timing: When it is due.
        input: The JSON of the start event; None when the runs have none.
        overlap: What a due time does while an earlier run has not ended.
        window: Due times that passed longer ago than so many seconds are missed.
        labels: The labels of the schedule and of its runs.
        run_timeout: Seconds that a run may take; None for the workflow's own timeout.
        description: What it is for, for people.
    """

    workflow: str
    timing: Timing
    input: str | None = None
    overlap: str = SKIP
    window: float = DAY
    labels: Mapping[str, str] = field(default_factory=dict)
    run_timeout: float | None = None
    description: str = ""

    @classmethod
    def of(cls, saved: Mapping[str, Any]) -> ScheduleSpec:
        """Return what `saved` made a dict of."""
        return cls(**{**saved, "timing": Timing.of(saved["timing"])})

    def saved(self) -> dict[str, Any]:
        """Return a JSON-able dict."""
        return {**asdict(self), "timing": self.timing.saved(), "labels": dict(self.labels)}

    def violations(self) -> list[Violation]:
        """Return what is wrong with it, whatever is served."""
        found = self.timing.violations()
        if not self.workflow:
            found.append(Violation("workflow", "is required"))
        if not 1.0 <= self.window <= MAX_WINDOW:
            found.append(Violation("catch_up_window", "must be from 1 second to 1 year"))
        if self.run_timeout is not None and self.run_timeout <= 0:
            found.append(Violation("run_timeout", "must be positive"))
        if self.input is not None and len(self.input.encode()) > MAX_INPUT:
            found.append(Violation("input", f"must be at most {MAX_INPUT} bytes as JSON"))
        found += check_labels(dict(self.labels))
        found += check_length("description", self.description, MAX_REASON)
        return [Violation(f"spec.{name}", text) for name, text in found]
