"""Create, list, change and delete schedules for callers."""

from __future__ import annotations

import asyncio
import json
import re
from collections.abc import AsyncIterator, Coroutine, Mapping
from dataclasses import replace
from typing import Any, Final
from uuid import uuid4

from stepwire.server.principal import Principal
from stepwire.server.runs.errors import (
    EtagMismatchError,
    LimitError,
    RunElsewhereError,
    RunIdTakenError,
    RunNotFoundError,
    ScheduleExistsError,
    ScheduleNotFoundError,
    Violation,
    WorkflowNotFoundError,
)
from stepwire.server.runs.hosting.pool import RunPool
from stepwire.server.runs.lifecycle import RunLifecycle
from stepwire.server.runs.limits import MAX_REASON, check_length, refuse
from stepwire.server.runs.payloads import parse_input
from stepwire.server.runs.requests import StartRequest
from stepwire.server.runs.scheduling.audit_events import ScheduleAudit
from stepwire.server.runs.scheduling.keeping import ScheduleKeeper
from stepwire.server.runs.scheduling.on_demand import OnDemand
from stepwire.server.runs.scheduling.schedule import Progress, Schedule, state_of
from stepwire.server.runs.scheduling.schedule_runs import ScheduleRuns, ScheduleView, owner_of, view_of
from stepwire.server.runs.scheduling.spec import ScheduleSpec
from stepwire.server.runs.scheduling.starting import Starter
from stepwire.server.runs.scheduling.wall_clock import Wall
from stepwire.server.runs.scheduling.workflow import NAME, served_schedules
from stepwire.server.store import TERMINAL, RunQuery
from stepwire.workflow.hosting import start_task

__all__ = ["Schedules"]

_ID: Final = re.compile(r"[A-Za-z0-9][A-Za-z0-9._\-]{0,63}")
_PAGE: Final = 200
"""Schedules that are read at a time for a list."""


class Schedules:
    """The schedules of a server. Raises `RunsError`s.

    Attributes:
        runs: Finds the runs that are schedules.
        on_demand: Triggers and backfills schedules.
        starter: Starts their runs, here or at the replica that can.
        wall: Tells the time.
        audit: Told of what is done without a call.
    """

    def __init__(self, pool: RunPool, lifecycle: RunLifecycle, wall: Wall | None = None) -> None:
        """Host schedules in a pool.

        Args:
            pool: The runs in memory; it gets the internal workflow whose runs are schedules.
            lifecycle: Starts and ends runs, those of schedules and those that are schedules.
            wall: Tells the time; None for the machine's clock, or the database's.
        """
        self._pool = pool
        self._lifecycle = lifecycle
        self.wall = wall or Wall(pool.clock, shared=pool.cluster.shared)
        self.starter = Starter(pool, lifecycle)
        self.audit = ScheduleAudit()
        self._keeper = ScheduleKeeper(pool, self.starter, self.wall, self.audit)
        self._tasks: list[asyncio.Task[None]] = []
        self.runs = ScheduleRuns(pool, self._keeper)
        self.on_demand = OnDemand(self.runs, self.starter, self.wall)
        pool.own_workflows[NAME] = served_schedules(self._keeper.work)
        self.starter.add("update", self._update)
        self.starter.add("pause", self._pause)
        self.starter.add("resume", self._resume)

    def open(self) -> None:
        """Get ready, on the running event loop. The schedules begin with the runs of the pool."""
        self._keeper.open()

    def start(self, applying: Coroutine[Any, Any, None]) -> None:
        """Watch the clock in the background from now on, until `stop`, and apply what the code declares."""
        self._tasks = [
            start_task(self.wall.watch(self._keeper.look_again), name="stepwire-wall"),
            start_task(applying, name="stepwire-declared"),
        ]

    def stop(self) -> None:
        """End the background tasks."""
        for task in self._tasks:
            task.cancel()

    @staticmethod
    def wrong_id(schedule_id: str) -> list[Violation]:
        """Return a violation if a schedule cannot have this id."""
        fits = _ID.fullmatch(schedule_id) is not None
        return [] if fits else [Violation("schedule_id", "must be 1 to 64 of letters, digits and ._-")]

    def serves(self, workflow: str) -> bool:
        """Tell whether this server serves a workflow."""
        return self._pool.registry.get(workflow) is not None

    # -- create and look ----------------------------------------------------------------------------------------------

    async def create(
        self,
        caller: Principal,
        schedule_id: str,
        spec: ScheduleSpec,
        *,
        request_id: str = "",
        paused: bool = False,
        declared: bool = False,
    ) -> ScheduleView:
        """Create a schedule, and return it once it is durable.

        Args:
            caller: The caller; the schedule starts its runs as this one.
            schedule_id: The id.
            spec: What the schedule does.
            request_id: A repeat under this id gets the schedule that the first one created.
            paused: Whether it begins paused.
            declared: Whether the code of the workflow declares it.

        Raises:
            ScheduleExistsError: There is one of this id.
            WorkflowNotFoundError: The caller sees no such workflow.
            InvalidError: What the schedule shall do cannot be.
            LimitError: The caller has too many schedules.
        """
        refuse(self.wrong_id(schedule_id))
        now = self.wall.now()
        await self._check(caller, spec)
        if spec.timing.next(now) is None:
            refuse([Violation("spec.timing", "has no due time in the future")])
        schedule = Schedule(
            namespace=caller.namespace,
            schedule_id=schedule_id,
            spec=spec,
            uid=uuid4().hex,
            created_by=caller.name,
            created_at=now,
            updated_at=now,
            pause=(now, caller.name, "") if paused else None,
            declared=declared,
        )
        request = StartRequest(
            workflow=NAME,
            input=json.dumps({"spec": {**spec.saved(), "paused": paused}}).encode(),
            run_id=schedule_id,
            request_id=request_id,
            state=state_of(schedule, Progress.begin(now)),
        )
        while True:
            try:
                return view_of(await self._lifecycle.start(owner_of(caller), request))
            except RunIdTakenError:
                record = await self._pool.records.find(owner_of(caller).key(schedule_id))
                if record is not None and record.status not in TERMINAL:
                    raise ScheduleExistsError(schedule_id) from None
                if record is not None:  # a delete did not get to its end
                    await self._lifecycle.delete(owner_of(caller), schedule_id)
            except LimitError as error:
                if error.limit != "runs":
                    raise
                message = "A caller may have as many schedules as unfinished runs, and has them"
                raise LimitError(message, limit="schedules") from None

    async def list(
        self,
        caller: Principal,
        *,
        workflow: str = "",
        labels: Mapping[str, str] | None = None,
        before: tuple[float, str] | None = None,
    ) -> AsyncIterator[tuple[ScheduleView, tuple[float, str]]]:
        """Yield the schedules that a caller sees, newest first, each with its place in the order.

        Args:
            caller: The caller.
            workflow: Only those of this workflow; empty for all.
            labels: Only those with all of these.
            before: The place behind which to begin.
        """
        query = RunQuery(namespace=owner_of(caller).namespace, workflow=NAME, before=before, limit=_PAGE)
        while records := await self._lifecycle.list_runs(query):
            for record in records:
                query.before = (record.created_at, record.key.run_id)
                if record.status in TERMINAL:
                    continue
                view = view_of(record)
                spec = view.schedule.spec
                wanted = not workflow or spec.workflow == workflow
                if wanted and caller.scopes.sees(spec.workflow) and (labels or {}).items() <= spec.labels.items():
                    yield view, query.before

    # -- change -------------------------------------------------------------------------------------------------------

    async def update(self, caller: Principal, schedule_id: str, spec: ScheduleSpec, etag: str = "") -> ScheduleView:
        """Replace what a schedule does, and return it once that is durable.

        Args:
            caller: The caller.
            schedule_id: The schedule.
            spec: What it does from now on.
            etag: The update is made only while the schedule has this etag; empty for always.

        Raises:
            ScheduleNotFoundError: There is none.
            EtagMismatchError: It was changed since the etag was read.
            WorkflowNotFoundError: The caller sees no such workflow.
            InvalidError: What the schedule shall do cannot be.
        """
        await self._check(caller, spec)

        def act(schedule: Schedule, progress: Progress) -> ScheduleView:
            if etag and etag != schedule.etag:
                message = "The schedule has changed since this etag was read"
                raise EtagMismatchError(message, etag=schedule.etag)
            now = self.wall.now()
            progress = replace(progress, attempts=0, again_at=0.0)
            if spec.timing != schedule.spec.timing:
                if spec.timing.next(now) is None and not schedule.declared:
                    refuse([Violation("spec.timing", "has no due time in the future")])
                progress = progress.begun_anew(schedule.spec.timing, now)
            changed = replace(schedule, spec=spec, updated_at=now, revision=schedule.revision + 1)
            return ScheduleView(changed, progress)

        return await self.runs.change(caller, schedule_id, act)

    async def pause(self, caller: Principal, schedule_id: str, reason: str = "") -> ScheduleView:
        """Have due times start nothing until it is resumed; return it once that is durable."""
        refuse(check_length("reason", reason, MAX_REASON))

        def act(schedule: Schedule, progress: Progress) -> ScheduleView:
            if schedule.pause is None:
                pause = (self.wall.now(), caller.name, reason)
                schedule = replace(schedule, pause=pause, revision=schedule.revision + 1)
            return ScheduleView(schedule, progress)

        return await self.runs.change(caller, schedule_id, act)

    async def resume(self, caller: Principal, schedule_id: str) -> ScheduleView:
        """End the pause; due times that passed meanwhile start nothing."""

        def act(schedule: Schedule, progress: Progress) -> ScheduleView:
            if schedule.pause is not None:
                schedule = replace(schedule, pause=None, revision=schedule.revision + 1)
                progress = progress.given_up(schedule.spec.timing, self.wall.now())
            return ScheduleView(schedule, progress)

        return await self.runs.change(caller, schedule_id, act)

    async def delete(self, caller: Principal, schedule_id: str) -> None:
        """Delete a schedule; its runs stay. Raises ScheduleNotFoundError."""
        await self.runs.get(caller, schedule_id, ended=True)
        inner = owner_of(caller)
        try:
            await self._lifecycle.cancel(inner, schedule_id, "the schedule was deleted")
            await self._lifecycle.delete(inner, schedule_id)
        except RunNotFoundError:
            raise ScheduleNotFoundError(schedule_id) from None

    async def _update(self, caller: tuple[str, str], schedule_id: str, spec: dict[str, Any], etag: str) -> None:
        await self.update(Principal(*caller), schedule_id, ScheduleSpec.of(spec), etag)

    async def _pause(self, caller: tuple[str, str], schedule_id: str, reason: str) -> None:
        await self.pause(Principal(*caller), schedule_id, reason)

    async def _resume(self, caller: tuple[str, str], schedule_id: str) -> None:
        await self.resume(Principal(*caller), schedule_id)

    async def _check(self, caller: Principal, spec: ScheduleSpec) -> None:
        """Refuse what cannot be. A workflow that only other replicas serve is known, but its input is not looked at."""
        refuse(spec.violations())
        served = self._pool.registry.get(spec.workflow)
        sees = caller.scopes.sees(spec.workflow)
        if served is None and sees:
            try:
                await self._pool.routes.for_start_anywhere(spec.workflow, "")
            except RunElsewhereError:
                return
        if served is None or not sees:
            raise WorkflowNotFoundError(spec.workflow, known=filter(caller.scopes.sees, self._pool.registry.names()))
        await parse_input(served, (spec.input or "").encode())
