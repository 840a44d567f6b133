"""The watchdog names the step that blocks the event loop, and nothing else."""

from __future__ import annotations

import asyncio
import itertools
import linecache
import logging
import subprocess
import threading
import time
from collections.abc import Callable
from functools import partial
from typing import NamedTuple

import pytest
from tests.integration.durability.support import until
from tests.integration.operations.support import operated, scrape

from stepwire.server.telemetry import watchdog as watchdog_module
from stepwire.server.telemetry.metrics import SECONDS, Histogram, LoopMetrics
from stepwire.server.telemetry.thread_clock import ThreadClock, ThreadTimes, most_waited, waits_of_threads
from stepwire.server.telemetry.watchdog import Watchdog

WATCHDOG = "stepwire.watchdog"


@pytest.mark.parametrize("child", [False, True], ids=["in the step", "in a task of the step"])
async def test_a_blocking_step_is_named_with_its_line(child: bool, caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.WARNING, WATCHDOG):
        async with operated(watchdog=0.1) as rpc:
            linecache.clearcache()  # of what looked at the workflow's source when it was registered
            run = await rpc.start("block", {"seconds": 0.4, "child": child})
            await rpc.ended(run.run_id)
            value = await scrape(rpc)
    told = [record.getMessage() for record in caplog.records if record.name == WATCHDOG and "block" in record.msg]
    named = [text for text in told if f"(run {run.run_id}, attempt 1)" in text]
    assert len(named) == 1, told
    assert named[0].startswith("step block of workflow block blocks the event loop, for 0.")
    assert "tests/integration/operations/flows.py" in named[0]
    assert ("# here the task blocks" if child else "# here it blocks") in named[0]
    # No source stays in memory for it.
    assert not [file for file in linecache.cache if file.endswith("tests/integration/operations/flows.py")]
    labels = {"workflow": "block", "step": "block"}
    assert value("stepwire_event_loop_blocks_total", **labels) >= 1
    assert value("stepwire_event_loop_blocked_seconds_total", **labels) >= 0.2
    assert value("stepwire_event_loop_lag_seconds_count") > 0


async def test_the_line_is_the_authors_also_when_a_library_blocks(caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.WARNING, WATCHDOG):
        async with operated(watchdog=0.1) as rpc:
            run = await rpc.start("block", {"seconds": 0.4, "library": True})
            await rpc.ended(run.run_id)
    [line] = [text for text in map(logging.LogRecord.getMessage, caplog.records) if f"(run {run.run_id}, " in text]
    assert "# here it waits for the library" in line
    assert "subprocess.py" in line
    assert "stepwire/workflow" not in line


async def test_a_loop_that_got_no_processor_is_not_named(caplog: pytest.LogCaptureFixture) -> None:
    # As on a busy machine: the loop's thread waits for a processor, as it happens inside a step.
    metrics = LoopMetrics()
    with caplog.at_level(logging.WARNING, WATCHDOG):
        clocks = [
            _Clock(time.monotonic, False),  # it waited again and again
            _Clock(lambda: 5.0, True),  # it has waited all the time and still does
        ]
        for clock in clocks:
            lag = metrics.lag = Histogram(SECONDS)
            watchdog = Watchdog(0.1, metrics, lambda _: ("", ""), clock=clock)
            watchdog.start()
            time.sleep(0.4)  # noqa: ASYNC251 - it is what is tested
            await until(partial(_seen, lag))
            watchdog.stop()
            assert not metrics.blocks
        waiting = Watchdog(0.1, metrics, lambda _: ("", ""), clock=_Clock(lambda: 5.0, False))
        waiting.start()
        time.sleep(0.4)  # noqa: ASYNC251 - it is what is tested
        await until(lambda: metrics.blocked["", ""] >= 0.2)
        waiting.stop()
    assert len([record for record in caplog.records if record.name == WATCHDOG]) == 1


def test_code_of_libraries_alone_is_never_named(caplog: pytest.LogCaptureFixture) -> None:
    # As a callback of asyncio that a busy machine does not let go on: no line of an author is in it.
    metrics = LoopMetrics()
    lag = metrics.lag = Histogram(SECONDS)

    async def watched() -> None:
        watchdog = Watchdog(0.1, metrics, lambda _: ("", ""))
        watchdog.start()
        asyncio.get_running_loop().call_soon(partial(subprocess.run, ["sleep", "0.4"], check=True))
        await until(partial(_seen, lag))
        watchdog.stop()

    with caplog.at_level(logging.WARNING, WATCHDOG):
        asyncio.run(watched())
    assert not metrics.blocks
    assert not [record for record in caplog.records if record.name == WATCHDOG]


async def test_a_thread_that_holds_the_interpreter_and_gets_no_processor_excuses_the_loop(
    caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    looks = itertools.count()  # from one look to the next it has waited longer than the machine can keep a thread
    monkeypatch.setattr(watchdog_module, "waits_of_threads", lambda: {1: 0.0, 2: 1000.0 * next(looks)})
    metrics = LoopMetrics()
    lag = metrics.lag = Histogram(SECONDS)
    with caplog.at_level(logging.WARNING, WATCHDOG):
        watchdog = Watchdog(0.1, metrics, lambda _: ("", ""), clock=_Clock(lambda: 5.0, False))
        watchdog.start()
        time.sleep(0.4)  # noqa: ASYNC251 - it is what is tested
        await until(partial(_seen, lag))
        watchdog.stop()
    assert not metrics.blocks


def test_the_waits_of_threads_are_told_by_thread() -> None:
    first = waits_of_threads()
    second = waits_of_threads()
    if first:  # the system tells
        assert threading.get_native_id() in first
        assert 0.0 <= most_waited(first, second) < 3600.0
    assert most_waited({1: 1.0, 2: 1.0}, {1: 1.5, 2: 3.0, 3: 9.0}) == 2.0
    assert most_waited({}, {}) == 0.0


class _Clock(NamedTuple):
    """The clock of a thread that ran for a second, and waited for so long."""

    waited: Callable[[], float]
    waits: bool

    def times(self) -> ThreadTimes:
        return ThreadTimes(1.0, self.waited())

    def runnable(self) -> bool:
        return self.waits


def _seen(lag: Histogram) -> bool:
    return lag.sum >= 0.2


def test_the_times_of_a_thread_only_grow() -> None:
    clock = ThreadClock()
    first = clock.times()
    end = time.thread_time() + 0.02
    while time.thread_time() < end:
        pass
    second, running = clock.times(), clock.runnable()
    assert first.waited <= second.waited < 3600.0
    assert (second.ran, running) == (0.0, False) or (first.ran < second.ran < 3600.0 and running)
    clock.close()
    assert (clock.times(), clock.runnable()) == (ThreadTimes(0.0, 0.0), False)


async def test_a_step_that_awaits_is_not_named(caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.WARNING, WATCHDOG):
        async with operated(watchdog=1.0) as rpc:
            await rpc.ended((await rpc.start("block", {"seconds": 0.0})).run_id)
            await rpc.ended((await rpc.start("work")).run_id)
            value = await scrape(rpc)
    assert not [record for record in caplog.records if record.name == WATCHDOG]
    assert value("stepwire_event_loop_blocks_total", workflow="block", step="block") == 0


async def test_it_is_off_when_the_setting_says_so(caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.WARNING, WATCHDOG):
        async with operated(watchdog=0.0) as rpc:
            await rpc.ended((await rpc.start("block", {"seconds": 0.3})).run_id)
            value = await scrape(rpc)
    assert not [record for record in caplog.records if record.name == WATCHDOG]
    assert value("stepwire_event_loop_lag_seconds_count") == 0


async def test_a_block_that_was_announced_is_overlooked(caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.WARNING, WATCHDOG):
        async with operated(watchdog=0.1) as rpc:
            with rpc.server.observing.pausing():
                time.sleep(0.3)  # noqa: ASYNC251 - it is what is tested
            await rpc.ended((await rpc.start("work")).run_id)
            value = await scrape(rpc)
    assert not [record for record in caplog.records if record.name == WATCHDOG]
    labels = {"workflow": "", "step": ""}
    assert value("stepwire_event_loop_blocks_total", **labels) == 0
    assert value("stepwire_event_loop_blocked_seconds_total", **labels) == 0
