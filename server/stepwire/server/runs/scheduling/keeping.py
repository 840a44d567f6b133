"""The work of the schedules in memory: what the step of the internal workflow does."""

from __future__ import annotations

import asyncio
import logging
from typing import Any, Final

from stepwire.server.runs.errors import RunsError
from stepwire.server.runs.hosting.live_run import LiveRun
from stepwire.server.runs.hosting.pool import RunPool
from stepwire.server.runs.scheduling.audit_events import ScheduleAudit
from stepwire.server.runs.scheduling.rounds import Round, Tools
from stepwire.server.runs.scheduling.schedule import MAX_UNSURE, kept
from stepwire.server.runs.scheduling.starting import Starter
from stepwire.server.runs.scheduling.wall_clock import Wall
from stepwire.server.runs.scheduling.workflow import HIDDEN, NAME, Nudge, key_of
from stepwire.server.store import TERMINAL, RunKey, RunQuery, RunRecord, StoreError
from stepwire.workflow.hosting import RECEIVED, Alarm, Context

__all__ = ["ScheduleKeeper"]

logger = logging.getLogger("stepwire.schedules")

_TRIM_ABOVE: Final = 512
"""Entries of the log of a schedule's run; nobody reads it."""
_KEPT_ENTRIES: Final = 16
_PAGE: Final = 200
"""Schedules that are read at a time when the clock was set."""


class ScheduleKeeper:
    """Do the work of the schedules in memory. One for each server."""

    def __init__(self, pool: RunPool, starter: Starter, wall: Wall, audit: ScheduleAudit) -> None:
        """Make a keeper.

        Args:
            pool: The runs in memory.
            starter: Starts and cancels runs.
            wall: Tells the time.
            audit: Told of the runs that are started and cancelled.
        """
        self._pool = pool
        self._starter = starter
        self._wall = wall
        self._audit = audit
        self._news: dict[RunKey, asyncio.Event] = {}
        """Wakes the rounds that wait outside their runs."""
        self._tools: Tools | None = None

    def open(self) -> None:
        """Work on the running event loop from now on."""
        pool = self._pool
        alarm = Alarm(asyncio.get_running_loop(), pool.clock)
        self._tools = Tools(self._starter, self._wall, pool.clock, alarm, pool.metrics.count_due, self._audit)

    def nudge(self, run: LiveRun) -> None:
        """Have a schedule look at itself again: it was changed, or the clock was set. A transition of its run."""
        if (news := self._news.get(run.key)) is not None:
            news.set()
        if run.broker.waits:
            run.broker.accept(Nudge(), None, kind=RECEIVED, sole=True)
            run.act()

    async def look_again(self) -> None:
        """Have all schedules look again, because the clock was set."""
        logger.warning("the clock was set: the schedules look again when they are due")
        for namespace in await self._pool.store.namespaces():
            if not namespace.startswith(HIDDEN):
                continue
            query = RunQuery(namespace=namespace, workflow=NAME, limit=_PAGE)
            while records := await self._pool.store.list(query):
                for record in records:
                    if record.status not in TERMINAL:
                        await self._wake(record)
                query.before = (records[-1].created_at, records[-1].key.run_id)

    async def _wake(self, record: RunRecord) -> None:
        try:
            run = self._pool.in_memory(record.key) or await self._pool.loads.load(record.key)
        except RunsError:
            return  # another replica has it, and sees the same clock; or it is loaded later
        if isinstance(run, LiveRun) and not run.gone and not run.broker.frozen and run.broker.outcome is None:
            self.nudge(run)

    async def work(self, ctx: Context[Any]) -> None:
        """Act on what is due; else wait until something is, or the schedule is changed."""
        assert self._tools is not None
        schedule, _ = kept(ctx.store)
        key = key_of(schedule.namespace, schedule.schedule_id)
        news = self._news[key] = asyncio.Event()
        try:
            round_ = Round(ctx, self._tools, news)
            for _ in range(MAX_UNSURE):
                news.clear()
                if not await round_.act():
                    await round_.rest()
                    break
        finally:
            if self._news.get(key) is news:
                del self._news[key]
        await self._trim(key)

    async def _trim(self, key: RunKey) -> None:
        """Drop what is old of the log and the snapshots of a schedule's run: it may live for years."""
        run = self._pool.in_memory(key)
        if run is None or run.record.last_sequence - run.record.first_available < _TRIM_ABOVE:
            return
        try:
            first = await self._pool.store.trim(key, run.record.last_sequence - _KEPT_ENTRIES)
        except StoreError:
            return  # the next round tries again
        if first is not None:
            self._pool.trimmed(key, first)
