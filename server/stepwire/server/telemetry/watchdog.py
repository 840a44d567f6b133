"""The watchdog: it names what blocks the event loop.

A thread asks the loop for an answer, several times in the span that is allowed. While none comes it looks at what the
loop's thread does. The same code for the whole span is a block: the log names it, with the author's line. The time in
which the thread was ready to run and got no processor does not count: then the machine was busy. Code of libraries
alone, asyncio's and Stepwire's own among them, is never named: the author can do nothing about it.
"""

from __future__ import annotations

import asyncio
import logging
import selectors
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from time import perf_counter
from typing import Final

from stepwire.server.telemetry.blocking_step import Blocker, Locate, Spot, blocker_at, code_outside_tasks
from stepwire.server.telemetry.metrics import LoopMetrics
from stepwire.server.telemetry.thread_clock import (
    ThreadTimes,
    Waits,
    clock_of_this_thread,
    most_waited,
    waits_of_threads,
)

__all__ = ["Watchdog"]

logger = logging.getLogger("stepwire.watchdog")

_LOOKS: Final = 4
"""Looks in the span that is allowed."""
_AGAIN_SECONDS: Final = 10.0
"""Seconds until a block at the same line is logged again; all are counted."""
_LINES: Final = 1000
"""Lines that the watchdog remembers to have logged."""
_LONG_SECONDS: Final = 1.0
"""A block of this length gets a second line when it ends."""


class _Block:
    """One blocker, for as long as it blocks."""

    __slots__ = ("blocker", "counted", "looked", "ran", "since", "stood_since", "waited", "waits")

    def __init__(self, blocker: Blocker, since: float, times: ThreadTimes, waits: Waits) -> None:
        self.blocker = blocker
        self.since = since
        self.looked = False
        self.counted = False
        self.ran = times.ran
        self.waited = times.waited
        """What the loop's thread had waited for a processor when the block began."""
        self.stood_since = since
        """When the thread was last seen to have run."""
        self.waits = waits
        """What each thread of the process had waited when the block was first seen."""

    def seconds(self, now: float, times: ThreadTimes) -> float:
        """Return how long it has blocked up to now, without the time in which threads of the process got no processor.

        Another thread may hold the interpreter and wait for a processor: then the loop's thread sleeps for it.
        """
        if times.ran != self.ran:
            self.ran = times.ran
            self.stood_since = now
        present = now - self.stood_since if times.runnable else 0.0
        own = times.waited - self.waited + present
        return now - self.since - max(own, most_waited(self.waits, waits_of_threads()))


class Watchdog:
    """Watch the running event loop from another thread."""

    def __init__(
        self, span: float, metrics: LoopMetrics, locate: Locate, *, clock: Callable[[], ThreadTimes] | None = None
    ) -> None:
        """Make a watchdog, on the thread of the loop.

        Args:
            span: Seconds that the loop may be blocked.
            metrics: Counts blocks.
            locate: Finds the run of a step.
            clock: Returns the times of the loop's thread; by default the system is asked.
        """
        self._span = span
        self._metrics = metrics
        self._locate = locate
        self._clock = clock or clock_of_this_thread()
        self._loop = asyncio.get_running_loop()
        self._ident = threading.get_ident()
        self._outside = code_outside_tasks()
        self._stop = threading.Event()
        self._answered = threading.Event()
        self._asked = 0.0
        self._asked_times = self._clock()
        self._paused = False
        self._logged: dict[tuple[Spot, ...], float] = {}
        self._thread = threading.Thread(target=self._watch, name="stepwire-watchdog", daemon=True)

    def start(self) -> None:
        """Begin to watch."""
        self._thread.start()

    def stop(self) -> None:
        """Stop watching."""
        self._stop.set()

    @contextmanager
    def paused(self) -> Iterator[None]:
        """Overlook an intended block, made on the loop inside this."""
        self._paused = True
        try:
            yield
        finally:
            self._loop.call_soon(self._resume)

    def _resume(self) -> None:
        self._paused = False

    # -- on the loop ----------------------------------------------------------------------------------------------

    def _answer(self) -> None:
        self._metrics.lag.observe(perf_counter() - self._asked)
        self._answered.set()

    # -- on the thread --------------------------------------------------------------------------------------------

    def _watch(self) -> None:
        tick = self._span / _LOOKS
        while not self._stop.is_set():
            self._answered.clear()
            self._asked_times = self._clock()
            self._asked = perf_counter()
            try:
                self._loop.call_soon_threadsafe(self._answer)
            except RuntimeError:  # the loop was closed
                return
            try:
                if not self._answered.wait(tick):
                    self._look(tick)
            except Exception:  # it looks into code that it does not know; the next block must be named all the same
                logger.exception("the watchdog could not find out what blocks the event loop")
                self._answered.wait(1.0)
            self._stop.wait(max(0.0, tick - (perf_counter() - self._asked)))

    def _look(self, tick: float) -> None:
        """Look at the loop, which did not answer, until it does."""
        block: _Block | None = None
        while not self._stop.is_set():
            frame = sys._current_frames().get(self._ident)
            # While only native code of the loop is at work there is nobody to name: it waits for the interpreter, too.
            idle = frame is None or frame.f_code is self._outside or frame.f_code.co_filename == selectors.__file__
            # Without code of the author there is nobody to name, either: a busy machine shows libraries anywhere.
            seen = None if frame is None or idle else blocker_at(frame, self._loop, self._locate)
            del frame
            now, times = perf_counter(), self._clock()
            if seen is None:
                self._end(block, now)
                block = None
            elif block is None:
                # The first blocker has the time since the question, too: native code may have kept this thread from
                # looking.
                block = _Block(seen, self._asked, self._asked_times, waits_of_threads())
            elif seen.identity != block.blocker.identity:
                self._end(block, now)
                block = _Block(seen, now, times, waits_of_threads())
            else:
                block.blocker = seen
            if block is not None and not block.looked and block.seconds(now, times) >= self._span - tick:
                block.looked = True
                block.counted = self._report(block, now - block.since)
            if self._answered.wait(tick):
                break
        self._end(block, perf_counter())

    def _report(self, block: _Block, seconds: float) -> bool:
        """Count a block and log it; return False when it is overlooked."""
        # The loop answers before it resumes: code that sees `_paused` reset also sees the answer.
        if self._paused or self._answered.is_set():
            return False
        blocker = block.blocker
        self._metrics.blocks[blocker.workflow, blocker.step] += 1
        now = perf_counter()
        if now - self._logged.get(blocker.places, -_AGAIN_SECONDS) < _AGAIN_SECONDS:
            return True
        if len(self._logged) >= _LINES:
            self._logged.clear()
        self._logged[blocker.places] = now
        if blocker.step:
            logger.warning(
                "step %s of workflow %s blocks the event loop, for %.2f s up to now (run %s, attempt %d): %s",
                blocker.step,
                blocker.workflow,
                seconds,
                blocker.run_id,
                blocker.attempt,
                blocker.where(),
            )
        else:
            logger.warning("the event loop is blocked outside the steps, for %.2f s: %s", seconds, blocker.where())
        return True

    def _end(self, block: _Block | None, now: float) -> None:
        """Count the seconds of a block that is over."""
        if block is None or not block.counted:
            return
        seconds, blocker = now - block.since, block.blocker
        self._metrics.blocked[blocker.workflow, blocker.step] += seconds
        if seconds >= _LONG_SECONDS:
            logger.warning("the event loop goes on after %.1f s: %s", seconds, blocker.step or blocker.where())
