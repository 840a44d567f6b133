"""A schedule as it is kept: what it does, and how far it is. Plain data and transitions, without any waiting.

It is the state of a run of the internal workflow, in two keys: `schedule` says what the schedule does, `progress` how
far it is. Both are JSON texts: a text is never changed in place, so a commit need not compare it.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass, replace
from datetime import UTC, datetime
from itertools import islice, takewhile
from typing import Any, Final, NamedTuple

from stepwire.server.principal import Principal
from stepwire.server.runs.scheduling.cron import Timing
from stepwire.server.runs.scheduling.spec import ScheduleSpec
from stepwire.workflow.hosting import InMemoryStateStore

__all__ = [
    "FAILED",
    "MAX_BACKFILLS",
    "MAX_QUEUED",
    "MAX_RUNNING",
    "MAX_UNSURE",
    "MISSED",
    "SKIPPED",
    "STARTED",
    "Acted",
    "Backfill",
    "Due",
    "Progress",
    "Schedule",
    "keep",
    "kept",
    "read",
    "state_of",
    "told",
]

STARTED: Final = "started"
SKIPPED: Final = "skipped"
FAILED: Final = "failed"
MISSED: Final = "missed"
MAX_QUEUED: Final = 1000
"""Due times that wait for the end of a run."""
MAX_BACKFILLS: Final = 10
"""Ranges that are being backfilled."""
_LAST: Final = 10
"""Due times of the past that are shown."""
MAX_RUNNING: Final = 100
"""Runs of a schedule whose ends it waits for; an older one is forgotten when there are more."""


MAX_UNSURE: Final = 32
"""Due times that may have runs of which the progress does not tell after a crash: one delivery acts on as many, and the
next one begins only once that is durable."""


class Due(NamedTuple):
    """A due time; `manual` if a caller asked for it."""

    at: float
    manual: bool = False


class Acted(NamedTuple):
    """What came of a due time.

    Attributes:
        due: The due time.
        at: When the schedule acted on it.
        outcome: STARTED, SKIPPED or FAILED.
        run_id: The run that it started.
        reason: The reason of the error for which it failed.
        message: The error, for people.
        manual: Whether a caller asked for it.
    """

    due: float
    at: float
    outcome: str
    run_id: str = ""
    reason: str = ""
    message: str = ""
    manual: bool = False


class Backfill(NamedTuple):
    """A range whose due times are still to be acted on.

    Attributes:
        cursor: The last due time that was acted on.
        end: Due times before this one are in the range.
        at_once: Whether runs start beside each other.
        left: How many due times are left.
    """

    cursor: float
    end: float
    at_once: bool
    left: int


@dataclass(frozen=True, kw_only=True)
class Schedule:
    """What a schedule does, and who made it so.

    Attributes:
        namespace: The namespace of its runs.
        schedule_id: Its id.
        spec: What it does.
        uid: Tells it from an earlier one of the same id.
        created_by: The caller that created it, as which its runs are started.
        created_at: When it was created.
        updated_at: When the spec was changed last.
        revision: Changes with the spec and the pause.
        pause: When, by whom and why it was paused; None if it is not.
        declared: Whether the code of the workflow declares it.
    """

    namespace: str
    schedule_id: str
    spec: ScheduleSpec
    uid: str
    created_by: str
    created_at: float
    updated_at: float
    revision: int = 1
    pause: tuple[float, str, str] | None = None
    declared: bool = False

    @classmethod
    def of(cls, saved: Mapping[str, Any]) -> Schedule:
        """Return what `saved` made a dict of."""
        pause = saved["pause"]
        return cls(**{**saved, "spec": ScheduleSpec.of(saved["spec"]), "pause": pause and tuple(pause)})

    def saved(self) -> dict[str, Any]:
        """Return a JSON-able dict."""
        return {**asdict(self), "spec": self.spec.saved(), "pause": self.pause and list(self.pause)}

    @property
    def etag(self) -> str:
        """Changes whenever the spec or the pause changes."""
        return f"s{self.revision}"

    @property
    def principal(self) -> Principal:
        """The caller as which its runs are started."""
        return Principal(self.created_by, self.namespace)

    def run_id(self, due: float) -> str:
        """Return the id of the run of a due time. It is the same whenever the run is started."""
        moment = datetime.fromtimestamp(round(due, 6), UTC)
        fraction = f".{moment.microsecond:06d}".rstrip("0") if moment.microsecond else ""
        return f"{self.schedule_id}-{moment:%Y%m%dT%H%M%S}{fraction}Z-{self.uid[:8]}"

    def start_at(self, due: float, floor: float = 0.0) -> float:
        """Return when the run of a due time starts: after its share of the jitter, not before `floor`.

        Args:
            due: The due time.
            floor: When the run of the due time before it starts. Due times keep their order, also where the jitter is
                longer than what is between them.
        """
        return max(floor, due + self.spec.timing.delay(self.uid, due))


@dataclass(frozen=True, kw_only=True)
class Progress:
    """How far a schedule is.

    Attributes:
        cursor: Due times up to this one are settled, or queued.
        floor: When the run of the due time at the cursor was to start: later due times start no earlier.
        queue: Due times that wait for the end of a run, in order.
        backfills: Ranges to backfill.
        running: The runs that it started and that had not ended when it looked last.
        last: What came of the last due times, the newest first.
        counts: How many due times started, skipped, missed or failed.
        failure: The last failure.
        failures: How many due times have failed since the last start.
        attempts: How often the next start has failed for a reason that may pass.
        again_at: When to try that start again.
        tried_at: When it was tried first.
        unsure: Due times that a change took off what is to be done, and that may have a run: a crash may have come
            between its start and the commit that says so.
    """

    cursor: float
    queue: tuple[Due, ...] = ()
    backfills: tuple[Backfill, ...] = ()
    running: tuple[str, ...] = ()
    last: tuple[Acted, ...] = ()
    counts: Mapping[str, int]
    failure: Acted | None = None
    failures: int = 0
    attempts: int = 0
    again_at: float = 0.0
    tried_at: float = 0.0
    floor: float = 0.0
    unsure: tuple[Due, ...] = ()

    @classmethod
    def begin(cls, now: float) -> Progress:
        """Return the progress of a new schedule."""
        return cls(cursor=now, counts={})

    @classmethod
    def of(cls, saved: Mapping[str, Any]) -> Progress:
        """Return what `saved` made a dict of."""
        failure = saved["failure"]
        kept = {
            "queue": tuple(Due(*each) for each in saved["queue"]),
            "backfills": tuple(Backfill(*each) for each in saved["backfills"]),
            "running": tuple(saved["running"]),
            "last": tuple(Acted(*each) for each in saved["last"]),
            "failure": failure and Acted(*failure),
            "unsure": tuple(Due(*each) for each in saved.get("unsure", ())),
        }
        return cls(**{**saved, **kept})

    def saved(self) -> dict[str, Any]:
        """Return a JSON-able dict."""
        return {
            "cursor": self.cursor,
            "queue": [list(each) for each in self.queue],
            "backfills": [list(each) for each in self.backfills],
            "running": list(self.running),
            "last": [list(each) for each in self.last],
            "counts": dict(self.counts),
            "failure": self.failure and list(self.failure),
            "failures": self.failures,
            "attempts": self.attempts,
            "again_at": self.again_at,
            "tried_at": self.tried_at,
            "floor": self.floor,
            "unsure": [list(each) for each in self.unsure],
        }

    def count(self, outcome: str, number: int = 1) -> Progress:
        """Return the progress with so many more due times of an outcome."""
        return replace(self, counts={**self.counts, outcome: self.counts.get(outcome, 0) + number})

    def acted(self, acted: Acted) -> Progress:
        """Return the progress after a due time was acted on."""
        after = replace(self.count(acted.outcome), last=(acted, *self.last)[:_LAST], attempts=0, again_at=0.0)
        if acted.outcome == STARTED:
            return replace(after, running=(*self.running, acted.run_id)[-MAX_RUNNING:], failures=0)
        if acted.outcome == FAILED:
            return replace(after, failure=acted, failures=self.failures + 1)
        return after

    def settled(self, due: Due, start_at: float, backfill: Backfill | None = None) -> Progress:
        """Return the progress once a due time is off what is to be done: the queue, or the range it was taken from.

        Args:
            due: The due time.
            start_at: When its run was to start.
            backfill: The range.
        """
        if backfill is not None:
            return self.backfilled(backfill, due.at)
        if due in self.unsure:
            return self.sure_of(due)
        if due in self.queue:
            return replace(self, queue=tuple(each for each in self.queue if each != due))
        return replace(self, cursor=max(self.cursor, due.at), floor=max(self.floor, start_at))

    def given_up(self, timing: Timing, now: float) -> Progress:
        """Return the progress once due times up to now start nothing any more, unless they have started a run already.

        Args:
            timing: When it was due.
            now: The time.
        """
        unsure = (*self.unsure, *_passed(timing, self.cursor, now))
        return replace(self, cursor=max(self.cursor, now), attempts=0, again_at=0.0, unsure=unsure)

    def begun_anew(self, timing: Timing, now: float) -> Progress:
        """Return the progress once nothing is to be done any more of what there was; arguments are as of `given_up`."""
        dropped = [*self.queue[:MAX_UNSURE]]
        for each in self.backfills:
            dropped += _passed(timing, each.cursor, each.end, manual=True)
        given_up = self.given_up(timing, now)
        return replace(given_up, cursor=now, floor=0.0, queue=(), backfills=(), unsure=(*given_up.unsure, *dropped))

    def sure_of(self, due: Due) -> Progress:
        """Return the progress once it is known whether a due time has a run."""
        return replace(self, unsure=tuple(each for each in self.unsure if each != due))

    def backfilled(self, backfill: Backfill, at: float) -> Progress:
        """Return the progress once a range has gone past a due time; a range that is not there any more is let be."""
        if backfill not in self.backfills:
            return self
        ranges = list(self.backfills)
        ranges[ranges.index(backfill)] = backfill._replace(cursor=at, left=backfill.left - 1)
        return replace(self, backfills=tuple(each for each in ranges if each.left > 0))

    def without(self, gone: Backfill) -> Progress:
        """Return the progress without a range."""
        return replace(self, backfills=tuple(each for each in self.backfills if each != gone))

    def ended(self, runs: Iterable[str]) -> Progress:
        """Return the progress once it is known that runs have ended."""
        gone = frozenset(runs)
        return replace(self, running=tuple(each for each in self.running if each not in gone))

    @property
    def waiting(self) -> int:
        """How many due times wait for the end of a run, or are yet to be backfilled."""
        return len(self.queue) + sum(each.left for each in self.backfills)


def _passed(timing: Timing, cursor: float, end: float, *, manual: bool = False) -> list[Due]:
    """Return the due times after a cursor that may have a run."""
    due = islice(takewhile(lambda each: each <= end, timing.after(cursor)), MAX_UNSURE)
    return [Due(each, manual) for each in due]


SCHEDULE: Final = "schedule"
PROGRESS: Final = "progress"


def kept(store: InMemoryStateStore[Any]) -> tuple[Schedule, Progress]:
    """Return the schedule in a state."""
    return read({SCHEDULE: store.peek(SCHEDULE), PROGRESS: store.peek(PROGRESS)})


def keep(store: InMemoryStateStore[Any], schedule: Schedule | None = None, progress: Progress | None = None) -> None:
    """Put what changed of a schedule into a state."""
    store.apply(list(state_of(schedule, progress).items()))


def state_of(schedule: Schedule | None, progress: Progress | None) -> dict[str, str]:
    """Return what a state holds of a schedule."""
    state: dict[str, str] = {}
    if schedule is not None:
        state[SCHEDULE] = json.dumps(schedule.saved())
    if progress is not None:
        state[PROGRESS] = json.dumps(progress.saved())
    return state


def told(store: InMemoryStateStore[Any]) -> dict[str, Any]:
    """Return what the record of a schedule's run says of it."""
    return {SCHEDULE: store.peek(SCHEDULE), PROGRESS: store.peek(PROGRESS)}


def read(info: Mapping[str, Any]) -> tuple[Schedule, Progress]:
    """Return the schedule that `told` told of."""
    return Schedule.of(json.loads(info[SCHEDULE])), Progress.of(json.loads(info[PROGRESS]))
