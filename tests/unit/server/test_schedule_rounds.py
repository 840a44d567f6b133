"""What one round of a schedule does, step by step, with starts that fail as the tests say."""

from __future__ import annotations

import asyncio
from dataclasses import replace
from types import SimpleNamespace
from typing import Any, cast

import pytest

from stepwire.server.principal import Principal
from stepwire.server.runs.errors import InvalidError, PeerRefusedError, RunsError, StoreDownError, WorkflowNotFoundError
from stepwire.server.runs.origin import Origin
from stepwire.server.runs.requests import StartRequest
from stepwire.server.runs.scheduling.audit_events import ScheduleAudit
from stepwire.server.runs.scheduling.cron import Timing
from stepwire.server.runs.scheduling.rounds import Round, Tools
from stepwire.server.runs.scheduling.schedule import Backfill, Due, Progress, Schedule, keep, kept
from stepwire.server.runs.scheduling.spec import ANYWAY, CANCEL, QUEUE_ALL, QUEUE_ONE, SKIP, ScheduleSpec
from stepwire.server.runs.scheduling.starting import Starter
from stepwire.server.runs.scheduling.wall_clock import Wall
from stepwire.workflow.hosting import Alarm, Clock, InMemoryStateStore

HOUR = 3600.0
T0 = 1_800_000_000.0 - 1_800_000_000.0 % HOUR
GONE = WorkflowNotFoundError("w")


class Runs:
    """Stands for the runs: starts and cancels, which fail with what is set."""

    def __init__(self, *, shared: bool) -> None:
        self.shared = shared
        self.failure: RunsError | None = None
        self.started: list[str] = []
        self.manual: set[str] = set()
        self.ended: set[str] = set()

    def may_be_served(self, error: RunsError) -> bool:
        pool: Any = SimpleNamespace(cluster=SimpleNamespace(shared=self.shared))
        return Starter(pool, cast(Any, None)).may_be_served(error)

    async def start(self, caller: Principal, request: StartRequest) -> None:
        if self.failure is not None:
            raise self.failure
        self.started.append(request.run_id)
        assert request.origin is not None
        if request.origin.manual:
            self.manual.add(request.run_id)

    async def cancel(self, caller: Principal, run_id: str, reason: str) -> None:
        if self.failure is not None:
            raise self.failure
        self.ended.add(run_id)

    async def has_ended(self, caller: Principal, run_id: str) -> bool:
        return run_id in self.ended

    async def origin(self, caller: Principal, run_id: str) -> Origin | None:
        return Origin("s", 0.0, run_id in self.manual) if run_id in self.started else None


class Acting:
    """A schedule that is due every hour, from T0 on."""

    def __init__(self, *, shared: bool = False, window: float = 10 * HOUR, **spec: Any) -> None:
        self.now = T0
        self.runs = Runs(shared=shared)
        self.store = InMemoryStateStore.empty()
        spec = {"workflow": "w", "timing": Timing(every=HOUR), "window": window, **spec}
        self.schedule = Schedule(
            namespace="default",
            schedule_id="s",
            spec=ScheduleSpec(**spec),
            uid="0123456789",
            created_by="ann",
            created_at=T0,
            updated_at=T0,
        )
        keep(self.store, self.schedule, Progress.begin(T0))

    @property
    def progress(self) -> Progress:
        return kept(self.store)[1]

    def has(self, **fields: Any) -> None:
        """Change the progress."""
        keep(self.store, progress=replace(self.progress, **fields))

    async def all(self) -> None:
        """Act until there is nothing to do now."""
        while await self.act():
            pass

    async def lost(self) -> list[str]:
        """Act, but have a crash lose what the progress says of it; return the runs that were started."""
        before, known = self.progress, len(self.runs.started)
        await self.act()
        keep(self.store, progress=before)
        return self.runs.started[known:]

    async def act(self) -> bool:
        clock = Clock()
        wall = Wall(clock, shared=False, now=lambda: self.now)
        alarm = Alarm(asyncio.get_running_loop(), clock)
        tools = Tools(cast(Starter, self.runs), wall, clock, alarm, lambda *_: None, ScheduleAudit())
        return await Round(cast(Any, SimpleNamespace(store=self.store)), tools, asyncio.Event()).act()


@pytest.mark.parametrize("failure", [GONE, PeerRefusedError(GONE.reason, "No workflow of this name is served")])
async def test_a_workflow_that_no_replica_serves_is_tried_again_within_the_window(failure: RunsError) -> None:
    acting = Acting(shared=True, window=HOUR / 2, overlap=ANYWAY)
    acting.runs.failure = failure
    acting.now = T0 + HOUR
    assert await acting.act()
    assert (acting.progress.attempts, dict(acting.progress.counts)) == (1, {})
    acting.runs.failure = None
    acting.now += 2.0
    assert await acting.act()
    assert acting.progress.counts == {"started": 1}
    acting.runs.failure = failure
    acting.now = T0 + 2 * HOUR
    assert await acting.act()
    acting.now += HOUR / 2
    assert await acting.act()
    assert acting.progress.counts == {"started": 1, "failed": 1}


async def test_a_workflow_that_the_only_server_does_not_serve_is_not_waited_for() -> None:
    acting = Acting(shared=False)
    acting.runs.failure = GONE
    acting.now = T0 + HOUR
    assert await acting.act()
    assert acting.progress.counts == {"failed": 1}


async def test_a_workflow_that_no_replica_serves_is_not_waited_for_by_hand() -> None:
    acting = Acting(shared=True)
    acting.runs.failure = GONE
    acting.has(backfills=(Backfill(T0 - 3 * HOUR, T0 - HOUR, True, 1),))
    assert await acting.act()
    assert acting.progress.counts == {"failed": 1}


async def test_ranges_that_overlap_are_each_backfilled_to_their_ends() -> None:
    acting = Acting(overlap=ANYWAY)
    slow, fast = Backfill(T0 - 9 * HOUR, T0, False, 8), Backfill(T0 - 5 * HOUR, T0, True, 4)
    acting.has(backfills=(slow, fast), running=("other",))
    for left in (3, 2, 1):
        assert await acting.act()
        assert acting.progress.backfills == (slow, fast._replace(cursor=T0 - (left + 1) * HOUR, left=left))
    assert await acting.act()
    assert acting.progress.backfills == (slow,)
    assert not await acting.act()
    assert acting.runs.started == [acting.schedule.run_id(T0 - hours * HOUR) for hours in (4, 3, 2, 1)]


async def test_a_due_time_by_hand_is_tried_again_for_the_window_from_its_first_try() -> None:
    acting = Acting(window=HOUR)
    acting.runs.failure = StoreDownError("The store is down")
    acting.has(backfills=(Backfill(T0 - 90 * HOUR, T0 - 88 * HOUR, True, 1),))
    for seconds in (0, 100, 3500):
        acting.now = T0 + seconds
        assert await acting.act()
        assert acting.progress.waiting == 1
    acting.now = T0 + HOUR - 1 + 61
    acting.has(cursor=acting.now)
    assert await acting.act()
    assert (acting.progress.waiting, acting.progress.counts) == (0, {"failed": 1})
    assert acting.progress.failure is not None
    assert acting.progress.failure.reason == "STORE_UNAVAILABLE"


async def test_the_pause_between_tries_is_bounded_however_many_there_were() -> None:
    acting = Acting()
    acting.runs.failure = StoreDownError("The store is down")
    acting.has(attempts=5000, tried_at=T0, backfills=(Backfill(T0 - 3 * HOUR, T0 - HOUR, True, 1),))
    assert await acting.act()
    assert acting.progress.again_at == T0 + 60


async def test_a_run_that_cannot_be_cancelled_is_shown_and_the_next_one_starts() -> None:
    acting = Acting(overlap=CANCEL)
    acting.has(running=("stuck",), queue=(Due(T0),))
    acting.runs.failure = InvalidError("INVALID_REQUEST", "It cannot be cancelled", [])
    assert await acting.act()
    assert acting.progress.running == ()
    failure = acting.progress.failure
    assert failure is not None
    assert (failure.reason, failure.due) == ("INVALID_REQUEST", T0)
    acting.runs.failure = None
    assert await acting.act()
    assert acting.runs.started == [acting.schedule.run_id(T0)]


async def test_a_cancel_that_may_pass_is_tried_again() -> None:
    acting = Acting(overlap=CANCEL)
    acting.has(running=("stuck",), queue=(Due(T0),))
    acting.runs.failure = StoreDownError("The store is down")
    assert await acting.act()
    assert (acting.progress.running, acting.progress.attempts) == (("stuck",), 1)


@pytest.mark.parametrize("window", [10.0, 60.0, 86_400.0])
async def test_a_jitter_longer_than_the_interval_and_the_window_misses_nothing_and_keeps_the_order(
    window: float,
) -> None:
    acting = Acting(timing=Timing(every=10.0, jitter=300.0), window=window, overlap=ANYWAY)
    started: dict[str, float] = {}
    due = [T0 + 10.0 * number for number in range(1, 60)]
    for second in range(0, 1000, 5):
        acting.now = T0 + second
        while await acting.act():
            started.setdefault(acting.runs.started[-1], acting.now)
            acting.has(running=())
    assert list(started)[: len(due)] == [acting.schedule.run_id(each) for each in due]
    assert all(0.0 <= at - each <= 305.0 for each, at in zip(due, started.values(), strict=False))
    assert set(acting.progress.counts) == {"started"}


async def test_a_start_that_jitter_held_back_is_tried_again_for_the_whole_window() -> None:
    acting = Acting(timing=Timing(every=10.0, jitter=300.0), window=5.0, overlap=ANYWAY)
    delays = [acting.schedule.start_at(T0 + 10.0 * number) for number in range(1, 30)]
    late = next(number for number in range(1, 29) if delays[number] < max(delays[:number]) - 60.0)
    acting.has(cursor=T0 + 10.0 * late, floor=max(delays[:late]))
    acting.now = max(delays[:late])
    acting.runs.failure = StoreDownError("down")
    assert await acting.act()
    assert (acting.progress.attempts, dict(acting.progress.counts)) == (1, {})
    acting.runs.failure = None
    acting.now += 2.0
    assert await acting.act()
    assert acting.progress.counts == {"started": 1}


async def test_progress_of_a_version_without_floors_is_read() -> None:
    acting = Acting()
    saved = acting.progress.saved()
    del saved["floor"]
    assert Progress.of(saved) == acting.progress


# -- a crash between the start of a run and the commit that says so ---------------------------------------------------


@pytest.mark.parametrize("passed", [0.0, 2 * HOUR, 20 * HOUR], ids=["at once", "in time", "after the window"])
@pytest.mark.parametrize("overlap", [ANYWAY, CANCEL, QUEUE_ALL, QUEUE_ONE, SKIP])
async def test_a_start_before_a_crash_is_counted_whatever_has_passed(overlap: str, passed: float) -> None:
    acting = Acting(overlap=overlap)
    acting.now = T0 + HOUR
    (run,) = await acting.lost()
    acting.now += passed
    await acting.all()
    assert acting.progress.counts["started"] == len(set(acting.runs.started))
    assert any(each.run_id == run for each in acting.progress.last) or len(acting.progress.last) == 10
    assert run in acting.progress.running or run in acting.runs.ended
    assert sum(acting.progress.counts.values()) + acting.progress.waiting == 1 + passed / HOUR


async def test_a_queued_due_time_that_started_before_a_crash_is_cancelled_by_the_next_one() -> None:
    acting = Acting(overlap=CANCEL)
    acting.has(cursor=T0 + HOUR, queue=(Due(T0 + HOUR),))
    acting.now = T0 + HOUR
    (run,) = await acting.lost()
    acting.now = T0 + 2 * HOUR
    await acting.all()
    assert acting.progress.counts == {"started": 2}
    assert acting.runs.ended == {run}
    assert acting.progress.running == (acting.schedule.run_id(T0 + 2 * HOUR),)


async def test_a_run_by_hand_after_the_crash_does_not_hide_that_one_was_started() -> None:
    acting = Acting(overlap=SKIP)
    acting.now = T0 + HOUR
    (run,) = await acting.lost()
    acting.has(running=("by hand",))
    await acting.all()
    assert acting.progress.counts == {"started": 1}
    assert acting.progress.running == ("by hand", run)


async def test_a_start_before_a_crash_has_not_failed_where_its_workflow_is_gone_after_it() -> None:
    acting = Acting()
    acting.now = T0 + HOUR
    (run,) = await acting.lost()
    acting.runs.failure = GONE
    await acting.all()
    assert (acting.progress.counts, acting.progress.running) == ({"started": 1}, (run,))


@pytest.mark.parametrize("paused", [False, True])
@pytest.mark.parametrize("by_hand", [False, True])
async def test_a_change_after_the_crash_does_not_hide_that_a_run_was_started(paused: bool, by_hand: bool) -> None:
    acting = Acting(overlap=SKIP)
    acting.now = T0 + HOUR
    if by_hand:
        acting.has(cursor=acting.now, backfills=(Backfill(T0 - 9 * HOUR, T0 - 6 * HOUR, False, 3),))
    (run,) = await acting.lost()
    acting.now += HOUR / 2
    keep(acting.store, progress=acting.progress.begun_anew(acting.schedule.spec.timing, acting.now))
    pause = (acting.now, "ann", "") if paused else None
    changed = replace(acting.schedule, pause=pause, spec=replace(acting.schedule.spec, timing=Timing(every=7 * HOUR)))
    keep(acting.store, changed)
    await acting.all()
    assert acting.progress.counts == {"started": 1}
    assert (acting.progress.running, acting.progress.unsure) == ((run,), ())
    assert Progress.of(acting.progress.saved()) == acting.progress


async def test_a_start_that_a_change_meets_is_counted_once() -> None:
    acting = Acting()
    acting.now = T0 + HOUR
    start = acting.runs.start

    async def changed(caller: Principal, request: StartRequest) -> None:
        await start(caller, request)
        keep(acting.store, progress=acting.progress.begun_anew(acting.schedule.spec.timing, acting.now))

    acting.runs.start = changed  # type: ignore[method-assign]
    await acting.all()
    assert (acting.progress.counts, acting.progress.unsure) == ({"started": 1}, ())


async def test_due_times_that_a_pause_passed_start_nothing() -> None:
    acting = Acting()
    acting.now = T0 + 100 * HOUR
    keep(acting.store, progress=acting.progress.given_up(acting.schedule.spec.timing, acting.now))
    await acting.all()
    assert (acting.progress.counts, acting.progress.unsure, acting.runs.started) == ({}, (), [])
