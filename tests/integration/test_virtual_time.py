"""`RunningServer.skip`: waits, retries, timeouts and retention of days, in a moment."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Collection
from concurrent.futures import Future, wait
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from stepwire.client import NotFoundError, RunFailedError, RunStatus
from stepwire.server.testing import RunningServer, running, stepwire_serve
from stepwire.workflow import (
    ConstantDelayRetryPolicy,
    Context,
    Event,
    HumanResponseEvent,
    InputRequiredEvent,
    StartEvent,
    StopEvent,
    Workflow,
    step,
)

__all__ = ["stepwire_serve"]

DAY = 24 * 3600.0
SEEN: list[Any] = []


class Asked(InputRequiredEvent):
    text: str


class Answered(HumanResponseEvent):
    text: str


class Echo(Workflow):
    @step
    async def ask(self, ctx: Context, ev: StartEvent) -> StopEvent:
        answer = await ctx.wait_for_event(Answered, Asked(text=ev.text))
        return StopEvent(result=answer.text)


class Sleeps(Workflow):
    """Sleep, then wait for an answer that does not come."""

    @step
    async def work(self, ctx: Context, ev: StartEvent) -> StopEvent:
        await ctx.sleep(3 * DAY)
        SEEN.append("slept")
        try:
            await ctx.wait_for_event(Answered, Asked(text="?"), timeout=4 * DAY)
        except TimeoutError:
            return StopEvent(result="nobody answered")
        return StopEvent(result="answered")


class Retries(Workflow):
    """Fail four times, a day apart."""

    def __init__(self) -> None:
        super().__init__(timeout=None)

    @step(retry_policy=ConstantDelayRetryPolicy(maximum_attempts=5, delay=DAY))
    async def work(self, ctx: Context, ev: StartEvent) -> StopEvent:
        attempt = ctx.step_info().attempt
        SEEN.append(attempt)
        if attempt < 5:
            raise ValueError("the bank is closed")
        return StopEvent(result=attempt)


class Hangs(Workflow):
    """Hang for good, in a step that has an hour."""

    def __init__(self) -> None:
        super().__init__(timeout=None)

    @step(timeout=3600)
    async def work(self, ev: StartEvent) -> StopEvent:
        await asyncio.Event().wait()
        return StopEvent()


class Nests(Workflow):
    """Wait inside a nested run."""

    @step
    async def work(self, ctx: Context, ev: StartEvent) -> StopEvent:
        return StopEvent(result=await Sleeps(timeout=None).run())


@pytest.fixture(autouse=True)
def _nothing_seen() -> None:
    SEEN.clear()


def test_a_week_passes_at_once(stepwire_serve: Callable[..., RunningServer]) -> None:
    server = stepwire_serve(Sleeps)
    with server.client() as client:
        run = client.start_run("Sleeps", timeout=10 * DAY)
        before = server.now
        server.skip(days=3)
        assert SEEN == ["slept"]
        assert [waiter.event_type for waiter in run.info().pending_waiters] == ["Answered"]
        server.skip(hours=4 * 24 - 1)
        assert str(run.info().status) == "waiting"
        server.skip(hours=2)
        assert run.result() == "nobody answered"
        assert timedelta(days=7, hours=1) <= server.now - before < timedelta(days=7, hours=2)
        times = [entry.time for entry in server.history(run.run_id)]
        assert times[-1] - times[0] >= timedelta(days=7)


def test_what_falls_due_on_the_way_happens_in_order_and_at_its_time(
    stepwire_serve: Callable[..., RunningServer],
) -> None:
    server = stepwire_serve(Retries)
    with server.client() as client:
        run = client.start_run("Retries")
        server.skip(days=2.5)
        assert SEEN == [1, 2, 3]
        server.skip(days=30)
        assert run.result() == 5
        attempts = [entry for entry in server.history(run.run_id) if entry.kind == "step" and entry.type == "failed"]
        assert [entry.fields["attempt"] for entry in attempts] == [1, 2, 3, 4]
        assert attempts[0].fields["error"] == "ValueError: the bank is closed"
        assert attempts[1].time - attempts[0].time >= timedelta(days=1)
        info = run.info()
        assert info.ended_at is not None
        assert info.created_at is not None
        # It ended after four days, not after thirty.
        assert timedelta(days=4) <= info.ended_at - info.created_at < timedelta(days=4, hours=1)


def test_timeouts_of_runs_and_steps_go_by_it(stepwire_serve: Callable[..., RunningServer]) -> None:
    server = stepwire_serve(Hangs)
    with server.client() as client:
        step_timed_out = client.start_run("Hangs")
        run_timed_out = client.start_run("Hangs", timeout=60.0)
        server.skip(minutes=2)
        assert str(run_timed_out.info().status) == "timed_out"
        assert str(step_timed_out.info().status) == "running"
        server.skip(hours=1)
        with pytest.raises(RunFailedError, match="took longer than 3600"):
            step_timed_out.result()


def test_runs_that_left_memory_or_the_process_wake_up_in_time(
    stepwire_serve: Callable[..., RunningServer], tmp_path: Path
) -> None:
    server = stepwire_serve(Sleeps(timeout=None), data=tmp_path, settings={"idle_after": 0.05})
    with server.client() as client:
        run = client.start_run("Sleeps")
        server.skip(days=1)
        server.restart()
        server.skip(days=1)
        server.restart(kill=True)
        assert SEEN == []
        server.skip(days=1, seconds=1)
        assert SEEN == ["slept"]
        server.skip(days=4)
        assert run.result() == "nobody answered"


def test_nested_runs_and_retention_go_by_it(stepwire_serve: Callable[..., RunningServer]) -> None:
    settings = {"retention_age": 30 * DAY}
    server = stepwire_serve(Nests(timeout=None), settings=settings)
    with server.client() as client:
        run = client.start_run("Nests")
        server.skip(days=8)
        assert run.result() == "nobody answered"
        server.skip(days=28)
        assert run.info().outcome is not None
        server.skip(days=2)
        with pytest.raises(NotFoundError):
            run.info()


def test_retention_counts_what_was_skipped_over_restarts_too(
    stepwire_serve: Callable[..., RunningServer], tmp_path: Path
) -> None:
    server = stepwire_serve(Sleeps(timeout=None), data=tmp_path, settings={"retention_age": 30 * DAY})
    with server.client() as client:
        run = client.start_run("Sleeps")
        server.skip(days=8)
        server.skip(days=14)
        server.restart()
        server.skip(days=14)
        assert run.result() == "nobody answered"
        server.restart(kill=True)
        server.skip(days=2)
        with pytest.raises(NotFoundError):
            run.info()


def test_a_call_for_many_runs_takes_those_of_skipped_time(stepwire_serve: Callable[..., RunningServer]) -> None:
    server = stepwire_serve(Sleeps)
    server.skip(days=30)
    with server.client() as client:
        run = client.start_run("Sleeps")
        *_, last = client.apply_to_runs("cancel", workflow="Sleeps")
        assert (last.done, run.wait().status) == (1, RunStatus.CANCELLED)


class Saves(Workflow):
    """Save the context of the run."""

    @step
    async def work(self, ctx: Context, ev: StartEvent) -> StopEvent:
        return StopEvent(result=ctx.to_dict()["stepwire"]["saved_at"])


def test_a_saved_context_has_the_time_of_its_run(stepwire_serve: Callable[..., RunningServer]) -> None:
    moment = datetime(2030, 1, 1, tzinfo=UTC)
    with stepwire_serve(Saves, standing_at=moment).client() as client:
        saved_at = client.start_run("Saves").result()
    assert 0.0 <= saved_at - moment.timestamp() < 0.1


def test_time_stands_at_a_time_of_choice(stepwire_serve: Callable[..., RunningServer]) -> None:
    moment = datetime(2030, 1, 1, tzinfo=UTC)
    server = stepwire_serve(Sleeps, standing_at=moment)
    with server.client() as client:
        runs = [client.start_run("Sleeps", timeout=10 * DAY) for _ in range(3)]
        created = [run.info().created_at or moment for run in runs]
        assert moment < created[0] < created[1] < created[2] < moment + timedelta(seconds=0.1)
        server.skip(days=11)
        assert {run.info().status for run in runs} == {RunStatus.COMPLETED}
        assert moment + timedelta(days=11) <= server.now < moment + timedelta(days=11, seconds=0.1)


def test_time_does_not_go_back_and_stands_while_the_server_is_off(
    stepwire_serve: Callable[..., RunningServer], tmp_path: Path
) -> None:
    server = stepwire_serve(Echo, data=tmp_path)
    with pytest.raises(ValueError, match="does not go back"):
        server.skip(days=-1)
    server.stop()
    with pytest.raises(RuntimeError, match="does not run"):
        server.skip(days=1)
    server.stop()
    server.start()
    with pytest.raises(RuntimeError, match="the server runs"):
        server.start()
    with pytest.raises(RuntimeError, match="data=tmp_path"):
        stepwire_serve(Echo).restart()


# -- restarts, history, failures ------------------------------------------------------------------------------------


class Round(Event):
    """Again."""


class Restless(Workflow):
    @step
    async def again(self, ev: StartEvent | Round) -> Round | StopEvent:
        return Round()


def test_a_run_that_never_rests_ends_a_skip(
    stepwire_serve: Callable[..., RunningServer], monkeypatch: pytest.MonkeyPatch
) -> None:
    server = stepwire_serve(Restless)
    with server.client() as client:
        client.start_run("Restless")
        monkeypatch.setattr(running, "_STALL_SECONDS", 0.5)
        with pytest.raises(TimeoutError, match=r"got nowhere for 0\.5 seconds"):
            server.skip(days=1)
        monkeypatch.undo()


def test_a_skip_takes_as_long_as_it_gets_on(
    stepwire_serve: Callable[..., RunningServer], monkeypatch: pytest.MonkeyPatch
) -> None:
    """However slow the machine is: each look finds the skip unfinished, but further on."""
    server = stepwire_serve(Sleeps)
    looks: list[int] = []

    def look(futures: Collection[Future[object]], timeout: float) -> tuple[set[Future[object]], set[Future[object]]]:
        looks.append(server._clock.skips)
        while server._clock.skips == looks[-1]:
            if (found := wait(futures, 0.001)).done:
                return found.done, found.not_done
        return set(), set(futures)

    with server.client() as client:
        run = client.start_run("Sleeps", timeout=10 * DAY)
        monkeypatch.setattr(running, "wait", look)
        server.skip(days=3)
        monkeypatch.undo()
        assert [waiter.event_type for waiter in run.info().pending_waiters] == ["Answered"]
    assert len(looks) > 1
