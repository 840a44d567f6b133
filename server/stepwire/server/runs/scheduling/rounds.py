"""One round of a schedule's run: act on due times, one after another, then wait for the next.

Each act is idempotent: the run of a due time has an id that is made from the due time, so a start that a crash repeats
finds the run that is there. Only then the progress says that the due time is settled. So before a due time is settled
in another way, the round looks whether it has a run: a crash may have come after the start.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable
from dataclasses import replace
from typing import Any, Final

from stepwire.server.runs.errors import RunsError
from stepwire.server.runs.origin import Origin
from stepwire.server.runs.requests import StartRequest
from stepwire.server.runs.scheduling.audit_events import ScheduleAudit, ScheduleAuditEvent
from stepwire.server.runs.scheduling.schedule import (
    FAILED,
    MAX_QUEUED,
    MAX_RUNNING,
    MAX_UNSURE,
    MISSED,
    SKIPPED,
    STARTED,
    Acted,
    Backfill,
    Due,
    Progress,
    Schedule,
    keep,
    kept,
)
from stepwire.server.runs.scheduling.spec import ANYWAY, CANCEL, QUEUE_ALL, QUEUE_ONE
from stepwire.server.runs.scheduling.starting import Starter, may_pass
from stepwire.server.runs.scheduling.wall_clock import Wall
from stepwire.server.runs.scheduling.workflow import Nudge
from stepwire.workflow.hosting import Alarm, Clock, Context

__all__ = ["Round", "Tools", "start_request"]

logger = logging.getLogger("stepwire.schedules")

_SLICE: Final = 64
"""Missed due times that are counted without a pause: about 5 ms."""
_COUNTED: Final = 100_000
"""Missed due times that are counted one by one; what is beyond is not counted."""
_RETRY_SECONDS: Final = 1.0
_LONGEST_RETRY_SECONDS: Final = 60.0
_LONGEST_WAIT: Final = 30 * 86_400.0
"""Seconds. Then the schedule looks anew: event loops take no timers of centuries."""


class Tools:
    """What the rounds of all schedules share."""

    def __init__(
        self,
        starter: Starter,
        wall: Wall,
        clock: Clock,
        alarm: Alarm,
        count: Callable[[str, str, int], None],
        audit: ScheduleAudit,
    ) -> None:
        """Put the tools together.

        Args:
            starter: Starts and cancels runs.
            wall: Tells the time.
            clock: The clock of the runs.
            alarm: Rings by that clock.
            count: Counts due times, by workflow and outcome.
            audit: Told of the runs that are started and cancelled.
        """
        self.starter = starter
        self.wall = wall
        self.clock = clock
        self.alarm = alarm
        self.count = count
        self.audit = audit


class Round:
    """Act for one schedule, for as long as one delivery of its run takes."""

    def __init__(self, ctx: Context[Any], tools: Tools, news: asyncio.Event) -> None:
        """Begin a round.

        Args:
            ctx: The context of the schedule's run.
            tools: What all rounds share.
            news: Set when the schedule was changed.
        """
        self._ctx = ctx
        self._store = ctx.store
        self._tools = tools
        self._news = news

    async def act(self) -> bool:
        """Do the next thing that is due; return whether there was one."""
        schedule, progress = kept(self._store)
        now = self._tools.wall.now()
        if progress.unsure:
            return await self._make_sure(schedule, progress.unsure[0])
        if schedule.pause is not None or progress.again_at > now:
            return False
        cursor, missed, due = await self._look(schedule, progress, now)
        if missed:
            self._miss(schedule, progress.cursor, cursor, missed)
            return True
        busy = await self._busy(schedule, progress)
        if due is not None:
            return await self._act_on(schedule, progress, Due(due), busy=busy)
        if progress.queue and not busy:
            return await self._start(schedule, progress.queue[0])
        if progress.queue and schedule.spec.overlap == CANCEL:
            return await self._cancel(schedule, progress.queue[0], progress.running)
        full = _is_full(kept(self._store)[1])
        for each in progress.backfills:
            if (each.at_once and not full) or not (busy or progress.queue):
                moment = schedule.spec.timing.next(each.cursor)
                if moment is None or moment >= each.end:  # the timing was changed meanwhile
                    return self._drop(each)
                return await self._backfill(schedule, Due(moment, True), each)
        return False

    async def rest(self) -> None:
        """Wait until something is due, a run ends that a due time waits for, or the schedule is changed."""
        schedule, progress = kept(self._store)
        now = self._tools.wall.now()
        until: float | None = None
        ends: tuple[str, ...] = ()
        """What is awaited: one run, since all have to end, or any of them if that makes room."""
        if schedule.pause is None and progress.again_at > now:
            until = progress.again_at
        elif schedule.pause is None:
            due = schedule.spec.timing.next(progress.cursor)
            until = None if due is None else schedule.start_at(due, progress.floor)
            if progress.queue or progress.backfills:
                ends = progress.running if progress.backfills and _is_full(progress) else progress.running[:1]
        delay = None if until is None else min(max(0.0, until - now), _LONGEST_WAIT)
        if ends:
            await self._wait_for_end(schedule, ends, delay)
        elif not self._news.is_set():
            try:
                await self._ctx.wait_for_event(Nudge, waiter_id="next", timeout=delay)
            except TimeoutError:
                return

    # -- looking ------------------------------------------------------------------------------------------------------

    async def _look(self, schedule: Schedule, progress: Progress, now: float) -> tuple[float, int, float | None]:
        """Return how far the cursor may go, how many due times were missed until there, and the next one to act on."""
        cursor, missed, at = progress.cursor, 0, progress.floor
        for due in schedule.spec.timing.after(cursor):
            at = schedule.start_at(due, at)
            if at > now:
                break
            if now - at <= schedule.spec.window or (missed < MAX_UNSURE and await self._has_run(schedule, Due(due))):
                return cursor, missed, due
            cursor, missed = due, missed + 1
            if missed >= _COUNTED:
                return max(cursor, now - schedule.spec.window - schedule.spec.timing.jitter), missed, None
            if missed % _SLICE == 0:
                await asyncio.sleep(0)
        return cursor, missed, None

    async def _busy(self, schedule: Schedule, progress: Progress) -> bool:
        """Tell whether a run has not ended, and note those that have."""
        starter, principal = self._tools.starter, schedule.principal
        ended = [each for each in progress.running if await starter.has_ended(principal, each)]
        if ended:
            self._change(lambda now: now.ended(ended))
        return len(ended) < len(progress.running)

    # -- acting -------------------------------------------------------------------------------------------------------

    async def _act_on(self, schedule: Schedule, progress: Progress, due: Due, *, busy: bool) -> bool:
        policy = schedule.spec.overlap
        if policy == ANYWAY or not (busy or progress.queue):
            return await self._start(schedule, due)
        if await self._has_run(schedule, due):
            return self._started(schedule, due)
        room = {QUEUE_ONE: 1, QUEUE_ALL: MAX_QUEUED, CANCEL: 1}.get(policy, 0)
        if policy == CANCEL:
            for earlier in progress.queue:
                if await self._has_run(schedule, earlier):
                    self._started(schedule, earlier)
                else:
                    self._settle(schedule, earlier, SKIPPED)
            progress = kept(self._store)[1]
        if len(progress.queue) < room:
            at = schedule.start_at(due.at)
            self._change(lambda now: replace(now.settled(due, at), queue=(*now.queue, due)))
        else:
            self._settle(schedule, due, SKIPPED)
        return True

    async def _start(self, schedule: Schedule, due: Due, backfill: Backfill | None = None) -> bool:
        """Start the run of a due time; note that it failed, or that it is to be tried again."""
        now = self._tools.wall.now()
        try:
            await self._tools.starter.start(schedule.principal, start_request(schedule, due))
        except RunsError as error:
            since = self._tried_at(now) if due.manual else schedule.start_at(due.at, kept(self._store)[1].floor)
            passes = may_pass(error) or (self._tools.starter.may_be_served(error) and not due.manual)
            if passes and now - since < schedule.spec.window:
                self._try_again(schedule, due, error)
                return True
            if await self._has_run(schedule, due):
                return self._started(schedule, due, backfill)
            logger.warning(
                "schedule %s: the run that was due at %s cannot be started: %s", schedule.schedule_id, due.at, error
            )
            self._tell("start", schedule, due, schedule.run_id(due.at), error)
            self._settle(schedule, due, FAILED, backfill, error)
            return True
        return self._started(schedule, due, backfill)

    def _started(self, schedule: Schedule, due: Due, backfill: Backfill | None = None) -> bool:
        self._tell("start", schedule, due, schedule.run_id(due.at))
        self._settle(schedule, due, STARTED, backfill)
        return True

    async def _has_run(self, schedule: Schedule, due: Due) -> bool:
        """Tell whether the run of a due time was started, which a crash may have kept from the progress."""
        origin = await self._tools.starter.origin(schedule.principal, schedule.run_id(due.at))
        return origin is not None and (origin.schedule_id, origin.manual) == (schedule.schedule_id, due.manual)

    async def _make_sure(self, schedule: Schedule, due: Due) -> bool:
        """Note the run of a due time that a caller's change took off what is to be done, if it has one."""
        if await self._has_run(schedule, due):
            return self._started(schedule, due)
        self._change(lambda now: now.sure_of(due))
        return True

    async def _backfill(self, schedule: Schedule, due: Due, backfill: Backfill) -> bool:
        """Start the run of a due time of the past, unless it has one."""
        origin = await self._tools.starter.origin(schedule.principal, schedule.run_id(due.at))
        if origin is not None and origin.schedule_id == schedule.schedule_id and not origin.manual:
            self._change(lambda now: now.settled(due, 0.0, backfill))
            return True
        return await self._start(schedule, due, backfill)

    async def _cancel(self, schedule: Schedule, due: Due, runs: tuple[str, ...]) -> bool:
        """Cancel the runs before a due time. What cannot be cancelled is shown as a failure, and left alone."""
        failure: Acted | None = None
        for run_id in runs:
            try:
                reason = f"the next run of schedule {schedule.schedule_id} is due"
                await self._tools.starter.cancel(schedule.principal, run_id, reason)
            except RunsError as error:
                if may_pass(error):
                    self._try_again(schedule, None, error)
                    return True
                logger.warning("schedule %s: run %s cannot be cancelled: %s", schedule.schedule_id, run_id, error)
                failure = self._acted(due, FAILED, error=error)
                self._tell("cancel", schedule, due, run_id, error)
            else:
                self._tell("cancel", schedule, due, run_id)
        self._change(lambda now: replace(now.ended(runs), failure=failure or now.failure))
        return True

    def _drop(self, backfill: Backfill) -> bool:
        self._change(lambda now: now.without(backfill))
        return True

    def _tell(self, action: str, schedule: Schedule, due: Due, run_id: str, error: RunsError | None = None) -> None:
        event = ScheduleAuditEvent(
            action, schedule.principal, schedule.schedule_id, schedule.spec.workflow, run_id, due.at, error
        )
        self._tools.audit.tell(event)

    # -- changes: transitions of the run ------------------------------------------------------------------------------

    def _change(self, change: Callable[[Progress], Progress]) -> None:
        """Change the progress as it is now: callers may have changed it since it was read."""
        keep(self._store, progress=change(kept(self._store)[1]))

    def _settle(
        self,
        schedule: Schedule,
        due: Due,
        outcome: str,
        backfill: Backfill | None = None,
        error: RunsError | None = None,
    ) -> None:
        """Note what came of a due time.

        Args:
            schedule: The schedule.
            due: The due time.
            outcome: STARTED, SKIPPED or FAILED.
            backfill: The range that it was taken from, if any.
            error: Why it failed.
        """
        acted = self._acted(due, outcome, schedule.run_id(due.at) if outcome == STARTED else "", error)
        at = schedule.start_at(due.at)
        self._change(lambda now: now.settled(due, at, backfill).acted(acted))
        self._tools.count(schedule.spec.workflow, outcome, 1)

    def _acted(self, due: Due, outcome: str, run_id: str = "", error: RunsError | None = None) -> Acted:
        reason, message = ("", "") if error is None else (error.code_reason, str(error)[:_MESSAGE])
        return Acted(due.at, self._tools.wall.now(), outcome, run_id, reason, message, due.manual)

    def _miss(self, schedule: Schedule, before: float, cursor: float, missed: int) -> None:
        def change(now: Progress) -> Progress:
            return replace(now.count(MISSED, missed), cursor=cursor) if now.cursor == before else now

        self._change(change)
        self._tools.count(schedule.spec.workflow, MISSED, missed)
        logger.warning("schedule %s: %d due times passed while nobody could act", schedule.schedule_id, missed)

    def _try_again(self, schedule: Schedule, due: Due | None, error: RunsError) -> None:
        """Note that what failed for a reason that may pass is to be tried again, and show why it failed."""
        now = self._tools.wall.now()

        def change(progress: Progress) -> Progress:
            delay = min(_LONGEST_RETRY_SECONDS, _RETRY_SECONDS * 2 ** min(progress.attempts, 6))
            failure = progress.failure if due is None else self._acted(due, FAILED, error=error)
            return replace(
                progress,
                attempts=progress.attempts + 1,
                again_at=now + delay,
                tried_at=self._tried_at(now),
                failure=failure,
            )

        self._change(change)
        logger.info("schedule %s tries again: %s", schedule.schedule_id, error)

    def _tried_at(self, now: float) -> float:
        """Return when the next start was tried first: now, unless it has failed before."""
        progress = kept(self._store)[1]
        return progress.tried_at if progress.attempts else now

    # -- waiting ------------------------------------------------------------------------------------------------------

    async def _wait_for_end(self, schedule: Schedule, runs: tuple[str, ...], delay: float | None) -> None:
        """Wait in memory until one of some runs has ended, the delay is over, or the schedule is changed.

        The delivery is at work meanwhile, so a restart, or another replica, takes the schedule up again.
        """
        tools = self._tools
        timer = None if delay is None else tools.alarm.set(tools.clock.now() + delay, self._news.set)
        tasks = [  # of this step, which ends them
            *(asyncio.create_task(tools.starter.wait(schedule.principal, each)) for each in runs),
            asyncio.create_task(self._news.wait()),
        ]
        try:
            await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
        finally:
            for task in tasks:
                task.cancel()
            if timer is not None:
                tools.alarm.cancel(timer)
            await asyncio.gather(*tasks, return_exceptions=True)


def _is_full(progress: Progress) -> bool:
    """Tell whether a further run would make the schedule forget one that has not ended."""
    return len(progress.running) >= MAX_RUNNING


_MESSAGE: Final = 500
"""Characters of a failure that are kept."""


def start_request(schedule: Schedule, due: Due, run_id: str = "") -> StartRequest:
    """Return the start of the run of a due time."""
    spec = schedule.spec
    return StartRequest(
        workflow=spec.workflow,
        input=None if spec.input is None else spec.input.encode(),
        run_id=run_id or schedule.run_id(due.at),
        use_existing=True,
        labels=dict(spec.labels),
        timeout=spec.run_timeout,
        origin=Origin(schedule.schedule_id, due.at, due.manual),
    )
