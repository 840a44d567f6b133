"""What callers say to and get from `Client.schedules`: when schedules are due, what they do, what came of it.

Times are aware datetimes, in UTC where the server tells them.
"""

from __future__ import annotations

import enum
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Any, TypeAlias

from stepwire.client.models import Pause, ScheduleOrigin

__all__ = [
    "At",
    "Cron",
    "DueOutcome",
    "DueTime",
    "Every",
    "Overlap",
    "Schedule",
    "ScheduleCounts",
    "ScheduleOrigin",
    "ScheduleSpec",
]


@dataclass(frozen=True, slots=True)
class Cron:
    """Due by a cron expression.

    Attributes:
        expression: Five fields (minute, hour, day of the month, month, day of the week), or a name such as "@daily".
        tz: The IANA time zone that it is of, as in "Europe/Oslo".
    """

    expression: str
    tz: str = "UTC"


@dataclass(frozen=True, slots=True)
class Every:
    """Due every so often.

    Attributes:
        interval: The time from one due time to the next, at least a second.
        anchor: A due time, from which the others are counted; None for midnight UTC of 1 January 1970.
    """

    interval: timedelta
    anchor: datetime | None = None


@dataclass(frozen=True, slots=True)
class At:
    """Due once.

    Attributes:
        time: When.
    """

    time: datetime


When: TypeAlias = Cron | Every | At
"""When a schedule is due."""


class Overlap(enum.StrEnum):
    """What a due time does while a run that the schedule started has not ended."""

    SKIP = "skip"
    """It starts nothing."""
    QUEUE_ONE = "queue_one"
    """It waits for the end of that run; one due time waits at most."""
    QUEUE_ALL = "queue_all"
    """It waits for the end of all earlier runs; at most 1,000 due times wait."""
    CANCEL_RUNNING = "cancel_running"
    """It cancels that run and starts its own when that has ended."""
    START_ANYWAY = "start_anyway"
    """It starts its run beside the others."""


@dataclass(frozen=True, slots=True)
class ScheduleSpec:
    """What a schedule does. `dataclasses.replace` makes another one for an update.

    Attributes:
        workflow: The workflow whose runs it starts.
        when: When it is due.
        input: The fields of the start event: a dict, or a pydantic model. The server's answers have a dict.
        overlap: What a due time does while an earlier run has not ended; the text of an `Overlap` will do.
        catch_up_window: Due times that passed while nobody could act are made up for if they passed this short ago.
        jitter: Runs start up to this long after their due times, each by an amount that stays the same.
        labels: The labels of the schedule and of its runs.
        start_time: No due time is before this one; None for no bound.
        end_time: No due time is at or after this one; None for no bound.
        run_timeout: How long a run may take; None for the workflow's own timeout.
        description: What it is for, for people.
    """

    workflow: str
    when: When
    input: Any = None
    overlap: Overlap | str = Overlap.SKIP
    catch_up_window: timedelta = timedelta(days=1)
    jitter: timedelta = timedelta(0)
    labels: Mapping[str, str] = field(default_factory=dict)
    start_time: datetime | None = None
    end_time: datetime | None = None
    run_timeout: timedelta | None = None
    description: str = ""


class DueOutcome(enum.StrEnum):
    """What came of a due time."""

    UNSPECIFIED = "unspecified"
    STARTED = "started"
    SKIPPED = "skipped"
    FAILED = "failed"


@dataclass(frozen=True, slots=True)
class DueTime:
    """A due time that has passed.

    Attributes:
        due_time: When it was due.
        time: When the schedule acted on it.
        outcome: What came of it.
        run_id: The run that it started; "" if it started none.
        reason: The reason of the error for which it failed, as in `StepwireError.reason`; "" if it did not.
        message: That error, for people.
        manual: Whether a trigger or a backfill asked for it.
    """

    due_time: datetime | None
    time: datetime | None
    outcome: DueOutcome
    run_id: str
    reason: str
    message: str
    manual: bool


@dataclass(frozen=True, slots=True)
class ScheduleCounts:
    """How many due times a schedule has had.

    Attributes:
        started: Those that started a run.
        skipped: Those that started nothing because an earlier run had not ended.
        missed: Those that passed longer ago than the catch-up window when a server could act on them.
        failed: Those whose run could not be started.
    """

    started: int
    skipped: int
    missed: int
    failed: int


@dataclass(frozen=True, slots=True)
class Schedule:
    """A schedule at the moment of the server's answer.

    Attributes:
        schedule_id: The id.
        spec: What it does.
        etag: Changes whenever the spec or the pause changes.
        created_by: The caller that created it, as which its runs are started.
        created_at: When it was created.
        updated_at: When the spec was changed last.
        pause: The pause; None if it is not paused.
        declared: Whether the code of the workflow declares it.
        next_times: The next due times, at most ten; none while it is paused.
        last: The last due times that it acted on, at most ten, the newest first.
        counts: How many due times it has had.
        last_failure: The last due time that failed; None if none did.
        consecutive_failures: How many due times have failed since the last run was started.
        running: Its runs that had not ended when it looked last.
        queued: How many due times wait for the end of a run, or are yet to be backfilled.
    """

    schedule_id: str
    spec: ScheduleSpec
    etag: str
    created_by: str
    created_at: datetime | None
    updated_at: datetime | None
    pause: Pause | None
    declared: bool
    next_times: tuple[datetime, ...]
    last: tuple[DueTime, ...]
    counts: ScheduleCounts
    last_failure: DueTime | None
    consecutive_failures: int
    running: tuple[str, ...]
    queued: int
