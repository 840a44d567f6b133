"""The commits of one run: one in flight at a time, who waits for them, and what a failed one does."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable

import pytest
from tests.integration.rpc_serving import registry_of

from stepwire.server.rpc.entry_codec import WireCodec
from stepwire.server.runs.errors import RunsError, StoreDownError
from stepwire.server.runs.hosting.live_run import LiveRun
from stepwire.server.runs.hosting.pauses import WorkflowPauses
from stepwire.server.runs.hosting.slots.step_threads import StepThreads
from stepwire.server.runs.hosting.surroundings import Surroundings
from stepwire.server.store import (
    Claim,
    Commit,
    MemoryStore,
    RequestRecord,
    RunKey,
    RunRecord,
    Status,
    StoreUnavailableError,
)
from stepwire.server.telemetry.metrics import Metrics
from stepwire.workflow import Context, HumanResponseEvent, StartEvent, StopEvent, Workflow, step
from stepwire.workflow.broker.bounds import UNBOUNDED
from stepwire.workflow.broker.timing.clock import CLOCK

DOWN = StoreUnavailableError("the disk is gone")


class Asking(Workflow):
    @step
    async def ask(self, ctx: Context, ev: StartEvent) -> StopEvent:
        await ctx.wait_for_event(HumanResponseEvent, timeout=None)
        return StopEvent()


class HeldStore(MemoryStore):
    """Have the test say when a commit is durable, and when it fails."""

    def __init__(self) -> None:
        super().__init__()
        self.commits: list[Commit] = []
        self.released: list[Claim] = []
        self._futures: list[asyncio.Future[Claim]] = []

    def commit(self, commit: Commit) -> asyncio.Future[Claim]:
        self.commits.append(commit)
        self._futures.append(asyncio.get_running_loop().create_future())
        return self._futures[-1]

    async def finish(self, error: Exception | None = None) -> None:
        """Finish the commit in flight."""
        future = self._futures[-1]
        if error is not None:
            future.set_exception(error)
        else:
            future.set_result(Claim(self.commits[-1].record.key, 1, 1))
        await turns()


async def turns() -> None:
    """Let everything happen that needs no commit."""
    for _ in range(10):
        await asyncio.sleep(0)


class World:
    """A new run, whose commits are finished by the test."""

    def __init__(self) -> None:
        self.store = HeldStore()
        self.gone: list[BaseException | None] = []
        self.noted_by: list[Callable[[], None]] = []
        around = Surroundings(
            store=self.store,
            codec=WireCodec(),
            threads=StepThreads(1),
            metrics=Metrics(),
            pauses=WorkflowPauses(self.store, CLOCK),
            bounds=UNBOUNDED,
            on_commit=self._committed,
            on_gone=lambda _, error: self.gone.append(error),
            children=lambda _: None,
        )
        served = registry_of(asking=Asking(timeout=None)).get("asking")
        assert served is not None
        record = RunRecord(
            key=RunKey("default", "r"), workflow="asking", status=Status.RUNNING, created_at=1.0, updated_at=1.0
        )
        self.run = LiveRun(served, record, None, around)
        self.commits = self.run.commits
        self.run.make_durable()
        self.run.broker.begin(StartEvent(), None)
        self.run.go()

    def _committed(self, _: Commit) -> None:
        for note in self.noted_by:
            note()

    async def settle(self) -> None:
        """Have everything committed that the run does by itself."""
        await turns()
        while not self.commits.clean:
            await self.store.finish()

    def touch(self) -> None:
        """Change something."""
        self.run.broker.touch_head()


@pytest.fixture
async def world() -> AsyncIterator[World]:
    """A run that waits for an answer, with everything durable."""
    made = World()
    await made.settle()
    yield made
    if not made.run.gone:
        made.run.vanish()  # its step waits for no commit any more
    await turns()


async def test_what_changes_while_a_commit_is_in_flight_goes_into_the_next_one(world: World) -> None:
    before = len(world.store.commits)
    world.touch()
    await turns()
    world.touch()
    world.commits.remember(RequestRecord("one", "", {}, 1.0))
    await turns()
    assert len(world.store.commits) == before + 1
    await world.store.finish()
    assert len(world.store.commits) == before + 2
    assert [request.request_id for request in world.store.commits[-1].requests] == ["one"]
    await world.store.finish()
    assert world.commits.clean
    assert len(world.store.commits) == before + 2


async def test_the_first_commit_creates_the_run() -> None:
    world = World()
    await turns()
    created = [world.commits.created]
    assert world.store.commits[0].claim is None
    await world.store.finish()
    created.append(world.commits.created)
    assert created == [False, True]
    await world.settle()
    assert world.store.commits[-1].claim == world.commits.claim
    assert world.run.record is world.store.commits[-1].record
    assert world.run.record.status == Status.WAITING
    world.run.vanish()
    await turns()


async def test_answers_and_refusals_wait_for_the_commit_that_contains_them(world: World) -> None:
    def refuse() -> None:
        world.touch()
        raise KeyError("refused")

    for act in (world.touch, refuse):
        answer = asyncio.ensure_future(world.commits.answer(act))
        await turns()
        assert not answer.done()
        await world.store.finish()
        assert answer.done()
        assert isinstance(answer.exception(), KeyError if act is refuse else type(None))
    assert await world.commits.answer(lambda: "a look at what is durable") == "a look at what is durable"
    assert world.commits.clean


async def test_callers_hear_of_a_commit_before_readers_and_the_run_goes_on_last(world: World) -> None:
    told: list[str] = []

    def note(who: str) -> None:  # after what was told before, which wakes up first
        asyncio.get_running_loop().call_soon(told.append, who)

    world.noted_by.append(lambda: note("readers"))

    def act() -> None:
        world.touch()
        world.commits.after_commit(lambda: note("run"))

    async def call() -> None:
        await world.commits.answer(act)
        told.append("caller")

    caller = asyncio.ensure_future(call())
    await turns()
    assert told == []
    await world.store.finish()
    assert told == ["caller", "readers", "run"]
    await caller


@pytest.mark.parametrize("how", ["failed", "abandoned"])
async def test_a_failed_commit_loses_the_run(world: World, how: str) -> None:
    world.touch()
    first = asyncio.ensure_future(world.commits.wait())
    await turns()
    world.touch()
    second = asyncio.ensure_future(world.commits.wait())  # it waits for the commit after the one in flight
    await turns()
    if how == "failed":
        await world.store.finish(DOWN)
    else:
        world.commits.abandon(DOWN)
        world.commits.abandon(DOWN)
        await turns()
    for waiting in (first, second):
        assert isinstance(waiting.exception(), StoreDownError)
    assert world.run.gone
    assert world.gone == [DOWN]
    with pytest.raises(RunsError):
        await world.commits.wait()
    count = len(world.store.commits)
    world.commits.changed()
    await turns()
    assert len(world.store.commits) == count, "nothing is committed after that"


async def test_a_run_with_no_commit_in_flight_is_abandoned_at_once(world: World) -> None:
    world.commits.abandon(DOWN)
    assert world.run.gone
    assert world.gone == [DOWN]
    world.commits.abandon(DOWN)
    assert world.gone == [DOWN]


async def test_a_run_leaves_memory_only_when_everything_is_durable(world: World) -> None:
    world.touch()
    assert not world.run.release()
    await turns()
    assert not world.run.release()
    await world.store.finish()
    assert world.run.release()
    assert world.run.gone
    assert world.gone == [None]
    await world.commits.wait()  # what was done is durable
    world.run.leave(DOWN)
    assert world.gone == [None]


async def test_a_run_that_vanishes_says_and_commits_nothing(world: World) -> None:
    world.touch()
    world.run.vanish()
    count = len(world.store.commits)
    await turns()
    assert world.run.gone
    assert world.gone == []
    assert len(world.store.commits) == count
