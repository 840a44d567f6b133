"""Start runs of a schedule beside its due times: one now, or those of a range in the past."""

from __future__ import annotations

import asyncio
from dataclasses import replace
from hashlib import sha256
from typing import Final

from stepwire.server.principal import Principal
from stepwire.server.runs.errors import LimitError, Violation
from stepwire.server.runs.idempotency import Fingerprint
from stepwire.server.runs.limits import check_length, refuse
from stepwire.server.runs.scheduling.rounds import start_request
from stepwire.server.runs.scheduling.schedule import (
    MAX_BACKFILLS,
    STARTED,
    Acted,
    Backfill,
    Due,
    Progress,
    Schedule,
    kept,
)
from stepwire.server.runs.scheduling.schedule_runs import ScheduleRuns, ScheduleView
from stepwire.server.runs.scheduling.starting import Starter
from stepwire.server.runs.scheduling.wall_clock import Wall

__all__ = ["OnDemand"]

_MAX_BACKFILL: Final = 10_000
"""Due times that one backfill may have."""
_SLICE: Final = 64
"""Due times that are computed before other work gets its turn."""


class OnDemand:
    """Trigger and backfill schedules. Raises `RunsError`s."""

    def __init__(self, runs: ScheduleRuns, starter: Starter, wall: Wall) -> None:
        """Work on the schedules of a server.

        Args:
            runs: Finds and changes them.
            starter: Starts their runs.
            wall: Tells the time.
        """
        self._runs = runs
        self._starter = starter
        self._wall = wall

    async def trigger(self, caller: Principal, schedule_id: str, request_id: str) -> str:
        """Start a run now, and return its id once that is durable.

        Args:
            caller: The caller.
            schedule_id: The schedule.
            request_id: A repeat under this id returns the same run.

        Raises:
            ScheduleNotFoundError: There is none.
            RunsError: The run cannot be started.
        """
        refuse(check_length("request_id", request_id))
        run = await self._runs.live(caller, schedule_id)  # before the start: another replica may have it
        schedule, _ = kept(run.store)
        run_id = f"{schedule_id}-now-{sha256(f'{schedule.uid}/{request_id}'.encode()).hexdigest()[:16]}"
        due = Due(self._wall.now(), True)
        await self._starter.start(schedule.principal, start_request(schedule, due, run_id))

        def act(schedule: Schedule, progress: Progress) -> ScheduleView:
            return ScheduleView(schedule, progress.acted(Acted(due.at, due.at, STARTED, run_id, manual=True)))

        request = request_id, Fingerprint(("trigger",))
        return str((await self._runs.once(caller, schedule_id, act, request, {"run_id": run_id}))["run_id"])

    async def backfill(
        self, caller: Principal, schedule_id: str, start: float, end: float, *, at_once: bool, request_id: str = ""
    ) -> int:
        """Have the due times of a range in the past start their runs; return how many there are.

        Args:
            caller: The caller.
            schedule_id: The schedule.
            start: The first moment of the range.
            end: The moment after the range; not later than now.
            at_once: Whether the runs start beside each other.
            request_id: A repeat under this id changes nothing.

        Raises:
            ScheduleNotFoundError: There is none.
            InvalidError: The range cannot be.
            LimitError: The schedule has many ranges to backfill.
        """
        refuse(check_length("request_id", request_id))
        if not start < end <= self._wall.now():
            refuse([Violation("end_time", "must be after start_time, and not later than now")])
        timing = (await self._runs.get(caller, schedule_id)).schedule.spec.timing
        cursor, count = start - 1e-6, 0
        for due in timing.after(cursor):
            if due >= end:
                break
            count += 1
            if count > _MAX_BACKFILL:
                refuse([Violation("end_time", f"the range has more than {_MAX_BACKFILL} due times")])
            if count % _SLICE == 0:
                await asyncio.sleep(0)
        request = request_id, Fingerprint(("backfill", start, end, at_once))

        def act(schedule: Schedule, progress: Progress) -> ScheduleView:
            if len(progress.backfills) >= MAX_BACKFILLS:
                message = f"A schedule may have at most {MAX_BACKFILLS} ranges to backfill"
                raise LimitError(message, limit="backfills", retry_after=60.0)
            ranges = (*progress.backfills, Backfill(cursor, end, at_once, count)) if count else progress.backfills
            return ScheduleView(schedule, replace(progress, backfills=ranges))

        return int((await self._runs.once(caller, schedule_id, act, request, {"due_times": count}))["due_times"])
