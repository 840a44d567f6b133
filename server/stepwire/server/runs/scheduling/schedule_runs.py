"""The runs that schedules are: find the run of a schedule, and change the schedule in one transition of it."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

from stepwire.server.principal import Principal
from stepwire.server.runs.errors import (
    RequestIdReusedError,
    RunFinishedError,
    RunLeftError,
    RunNotFoundError,
    ScheduleNotFoundError,
)
from stepwire.server.runs.hosting.live_run import LiveRun
from stepwire.server.runs.hosting.pool import RunPool
from stepwire.server.runs.idempotency import Fingerprint
from stepwire.server.runs.scheduling.keeping import ScheduleKeeper
from stepwire.server.runs.scheduling.schedule import Progress, Schedule, keep, kept, read
from stepwire.server.runs.scheduling.workflow import HIDDEN
from stepwire.server.store import TERMINAL, RequestRecord, RunRecord

__all__ = ["Change", "ScheduleRuns", "ScheduleView", "owner_of", "view_of"]


class ScheduleView(NamedTuple):
    """A schedule as it is now."""

    schedule: Schedule
    progress: Progress


Change = Callable[[Schedule, Progress], ScheduleView]
"""Says what a schedule is after a change."""


def owner_of(caller: Principal) -> Principal:
    """Return the caller as it owns schedules: these runs live in a namespace that no caller can be in."""
    return Principal(caller.name, HIDDEN + caller.namespace)


def view_of(record: RunRecord) -> ScheduleView:
    """Return the schedule that the record of its run tells of."""
    return ScheduleView(*read(record.info))


class ScheduleRuns:
    """Find and change schedules. Raises `RunsError`s."""

    def __init__(self, pool: RunPool, keeper: ScheduleKeeper) -> None:
        self._pool = pool
        self._keeper = keeper

    async def get(self, caller: Principal, schedule_id: str, *, ended: bool = False) -> ScheduleView:
        """Return a schedule as it is now; with `ended` also one whose delete did not get to its end.

        Raises:
            ScheduleNotFoundError: The caller sees no such schedule.
        """
        record = await self._pool.records.find(owner_of(caller).key(schedule_id))
        if record is None or (record.status in TERMINAL and not ended):
            raise ScheduleNotFoundError(schedule_id)
        view = view_of(record)
        if not caller.scopes.sees(view.schedule.spec.workflow):
            raise ScheduleNotFoundError(schedule_id)
        return view

    async def live(self, caller: Principal, schedule_id: str) -> LiveRun:
        """Return the run of a schedule, loaded if need be. Raises ScheduleNotFoundError, and as `RunPool.live`."""
        try:
            return await self._pool.live(owner_of(caller), schedule_id)
        except (RunNotFoundError, RunFinishedError):
            raise ScheduleNotFoundError(schedule_id) from None

    async def change(self, caller: Principal, schedule_id: str, act: Change) -> ScheduleView:
        """Change a schedule in one transition of its run, and return it once that is durable.

        Args:
            caller: The caller.
            schedule_id: The schedule.
            act: Says what the schedule is after the change.
        """
        run = await self.live(caller, schedule_id)
        return await run.commits.answer(lambda: self._transition(run, act))

    async def once(
        self,
        caller: Principal,
        schedule_id: str,
        act: Change,
        request: tuple[str, Fingerprint],
        answer: dict[str, Any],
    ) -> dict[str, Any]:
        """Change a schedule as `change` does, once for each request_id, and return the first answer.

        Args:
            caller: The caller.
            schedule_id: The schedule.
            act: Says what the schedule is after the change.
            request: The request_id, which may be empty, and what tells apart requests that have the same.
            answer: The answer, unless the request is a repeat.
        """
        run = await self.live(caller, schedule_id)
        request_id, says = request

        def transition() -> RequestRecord | None:
            if request_id and (known := run.commits.answers.get(request_id)) is not None:
                return known
            self._transition(run, act)
            if request_id:
                run.commits.remember(RequestRecord(request_id, says.text, answer, run.broker.clock.now()))
            return None

        known = await run.commits.answer(transition)
        if known is None:
            return answer
        if not says.same(known.digest):
            raise RequestIdReusedError("This request_id came before with another request")
        return known.response

    def _transition(self, run: LiveRun, act: Change) -> ScheduleView:
        if run.broker.outcome is not None:
            raise ScheduleNotFoundError(run.key.run_id)
        if run.broker.frozen:
            raise RunLeftError
        before = ScheduleView(*kept(run.store))
        after = act(*before)
        schedule = after.schedule if after.schedule != before.schedule else None
        progress = after.progress if after.progress != before.progress else None
        if schedule is not None or progress is not None:
            keep(run.store, schedule, progress)
            self._keeper.nudge(run)
        return after
