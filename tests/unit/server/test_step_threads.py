"""Threads of sync steps: what hangs in one run or workflow leaves threads to the others."""

from __future__ import annotations

import asyncio
import logging
import threading
from collections.abc import Iterator
from concurrent.futures import Future
from contextlib import contextmanager
from typing import Any

import pytest

from stepwire.server.runs.hosting.slots import step_threads
from stepwire.server.runs.hosting.slots.step_threads import RunThreads, StepThreads

WAIT = 10.0


class Hanging:
    """Calls that hang until they are let go."""

    def __init__(self) -> None:
        self.let_go = threading.Event()
        self.entered = threading.Semaphore(0)

    def call(self) -> str:
        self.entered.release()
        self.let_go.wait()
        return "went on"

    def many(self, run: RunThreads, count: int, at_work: int) -> list[Future[Any]]:
        """Begin so many calls, and wait until as many as may are at work."""
        calls = [run.submit(self.call) for _ in range(count)]
        for _ in range(at_work):
            assert self.entered.acquire(timeout=WAIT)
        return calls


@pytest.fixture
def hanging() -> Iterator[Hanging]:
    found = Hanging()
    yield found
    found.let_go.set()


def quick(run: RunThreads) -> Any:
    return run.submit(lambda: "quick").result(WAIT)


def test_a_call_gives_its_result_or_its_error() -> None:
    run = StepThreads(2).of("flow", "r")
    assert run.submit(lambda a, b: a + b, 1, b=2).result(WAIT) == 3

    def fail() -> None:
        raise ValueError("no")

    with pytest.raises(ValueError, match="no"):
        run.submit(fail).result(WAIT)
    assert [quick(run) for _ in range(50)] == ["quick"] * 50


def test_hung_calls_of_one_run_leave_threads_to_other_runs(hanging: Hanging) -> None:
    threads = StepThreads(8)
    calls = hanging.many(threads.of("flow", "hung"), 20, at_work=2)
    assert threads.backlog == 18
    assert quick(threads.of("flow", "other")) == "quick"
    assert not hanging.entered.acquire(blocking=False)
    hanging.let_go.set()
    assert [call.result(WAIT) for call in calls] == ["went on"] * 20
    assert threads.backlog == 0


def test_hung_calls_of_one_workflow_leave_threads_to_another(hanging: Hanging) -> None:
    threads = StepThreads(8)
    assert quick(threads.of("fine", "first")) == "quick"
    for number in range(10):
        threads.of("hung", str(number)).submit(hanging.call)
    for _ in range(6):
        assert hanging.entered.acquire(timeout=WAIT)
    assert quick(threads.of("fine", "second")) == "quick"
    assert not hanging.entered.acquire(blocking=False)


def test_a_workflow_alone_gets_all_threads(hanging: Hanging) -> None:
    threads = StepThreads(8)
    for number in range(8):
        threads.of("flow", str(number)).submit(hanging.call)
    for _ in range(8):
        assert hanging.entered.acquire(timeout=WAIT)


def test_a_workflow_that_comes_when_another_one_hangs_in_all_threads_gets_its_share(hanging: Hanging) -> None:
    threads = StepThreads(8)
    for number in range(4):
        hanging.many(threads.of("hangs", f"r{number}"), 2, at_work=2)
    assert quick(threads.of("other", "o")) == "quick"
    hanging.many(threads.of("other", "o2"), 2, at_work=2)
    assert quick(threads.of("third", "t")) == "quick"


def test_a_thread_that_was_given_up_is_replaced_within_bounds(hanging: Hanging) -> None:
    threads = StepThreads(4)
    for number in range(16):
        (call,) = hanging.many(threads.of("flow", str(number)), 1, at_work=1)
        assert not call.cancel()
    late = threads.of("flow", "late")
    waiting = late.submit(lambda: "late")
    assert threads.backlog == 1  # four times the threads are there: no further one is made
    hanging.let_go.set()
    assert waiting.result(WAIT) == "late"


def test_a_run_whose_calls_were_given_up_gets_no_more_than_its_share(hanging: Hanging) -> None:
    threads = StepThreads(8)
    run = threads.of("flow", "retried")
    for _ in range(2):
        (call,) = hanging.many(run, 1, at_work=1)
        call.cancel()
    third = run.submit(hanging.call)
    assert threads.backlog == 1
    assert quick(threads.of("flow", "other")) == "quick"
    assert third.cancel()
    assert threads.backlog == 0
    hanging.let_go.set()
    assert run.submit(lambda: "again").result(WAIT) == "again"


def test_a_cancelled_call_that_has_not_begun_frees_its_place(hanging: Hanging) -> None:
    threads = StepThreads(1)
    (first,) = hanging.many(threads.of("flow", "a"), 1, at_work=1)
    waiting = [threads.of("flow", str(number)).submit(hanging.call) for number in range(3)]
    assert [call.cancel() for call in waiting] == [True] * 3
    assert threads.backlog == 0
    hanging.let_go.set()
    assert first.result(WAIT) == "went on"
    assert quick(threads.of("flow", "b")) == "quick"


@contextmanager
def at_once(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    with monkeypatch.context() as patched:
        for name in ("_SLOW_SECONDS", "_GIVEN_UP_SECONDS"):
            patched.setattr(step_threads, name, 0.01)
        yield


async def test_calls_that_wait_long_and_threads_that_go_on_are_told(
    hanging: Hanging, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.WARNING, "stepwire.runs")
    threads = StepThreads(4)
    loop = asyncio.get_running_loop()
    with at_once(monkeypatch):
        run = threads.of("flow", "hung")
        step = loop.run_in_executor(run, hanging.call)
        await asyncio.to_thread(hanging.entered.acquire, timeout=WAIT)
        waiting = loop.run_in_executor(run, hanging.call)
        while "wait for a thread" not in caplog.text:  # noqa: ASYNC110 - only the log tells
            await asyncio.sleep(0.01)
        assert "flow/hung (1)" in caplog.text
        step.cancel()
        while "given up; the run holds" not in caplog.text:  # noqa: ASYNC110 - only the log tells
            await asyncio.sleep(0.01)
        waiting.cancel()
