"""The watchdog: it names what blocks the event loop.

A timer of the loop beats several times in the span that is allowed. While a beat is overdue, another thread looks at
what the thread of the loop does. The same code for the whole span is a block: the log names it, with the author's line.
The time in which the thread was ready to run and got no processor does not count: then the machine was busy. Code of
libraries alone, asyncio's and Stepwire's own among them, is never named: the author can do nothing about it.

The other thread asks the loop for nothing: each thing that it did would take the interpreter from the loop.
"""

from __future__ import annotations

import asyncio
import logging
import selectors
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from time import perf_counter
from typing import Final, NamedTuple, Protocol

from stepwire.server.telemetry.blocking_step import Blocker, Locate, Spot, blocker_at, code_outside_tasks
from stepwire.server.telemetry.metrics import LoopMetrics
from stepwire.server.telemetry.thread_clock import (
    ThreadClock,
    ThreadTimes,
    Waits,
    most_waited,
    waits_of_threads,
)

__all__ = ["Watchdog"]

logger = logging.getLogger("stepwire.watchdog")

_BEATS: Final = 4
"""Beats in the span that is allowed, and looks while one is overdue."""
_AGAIN_SECONDS: Final = 10.0
"""Seconds until a block at the same line is logged again; all are counted."""
_LINES: Final = 1000
"""Lines that the watchdog remembers to have logged."""
_LONG_SECONDS: Final = 1.0
"""A block of this length gets a second line when it ends."""


class Clock(Protocol):
    """Tells the times of a thread."""

    def times(self) -> ThreadTimes:
        """Return them."""

    def runnable(self) -> bool:
        """Return whether the thread runs now or waits for a processor."""


class _Beat(NamedTuple):
    """A sign of life of the loop.

    Attributes:
        at: When it came, by `perf_counter`.
        next_due: When the next one is due.
        times: The times of the loop's thread then.
    """

    at: float
    next_due: float
    times: ThreadTimes


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

    def seconds(self, now: float, clock: Clock, enough: float) -> float:
        """Return how long it has blocked up to now, without the time in which threads of the process got no processor.

        Another thread may hold the interpreter and wait for a processor: then the loop's thread sleeps for it. What
        these have waited is looked at only once the time is `enough` with it.
        """
        times = clock.times()
        if times.ran != self.ran:
            self.ran = times.ran
            self.stood_since = now
        present = now - self.stood_since if clock.runnable() else 0.0
        passed, own = now - self.since, times.waited - self.waited + present
        if passed - own < enough:
            return passed - own
        return passed - max(own, most_waited(self.waits, waits_of_threads()))


class Watchdog:
    """Watch the running event loop from another thread."""

    def __init__(self, span: float, metrics: LoopMetrics, locate: Locate, *, clock: Clock | None = None) -> None:
        """Make a watchdog, on the thread of the loop.

        Args:
            span: Seconds that the loop may be blocked.
            metrics: Counts blocks.
            locate: Finds the run of a step.
            clock: Tells the times of the loop's thread; by default the system is asked.
        """
        self._span = span
        self._metrics = metrics
        self._locate = locate
        self._clock: Clock = clock or ThreadClock()
        self._loop = asyncio.get_running_loop()
        self._ident = threading.get_ident()
        self._outside = code_outside_tasks()
        self._stop = threading.Event()
        self._beaten = threading.Event()
        """Set by each beat: it ends a look at once."""
        self._tick = span / _BEATS
        self._beat = _Beat(perf_counter(), 0.0, self._clock.times())
        self._timer: asyncio.TimerHandle | None = None
        self._paused = False
        self._logged: dict[tuple[Spot, ...], float] = {}
        self._thread = threading.Thread(target=self._watch, name="stepwire-watchdog", daemon=True)

    def start(self) -> None:
        """Begin to watch, on the thread of the loop."""
        self._set_timer()
        self._thread.start()

    def stop(self) -> None:
        """Stop watching, on the thread of the loop."""
        self._stop.set()
        if self._timer is not None:
            self._timer.cancel()

    @contextmanager
    def paused(self) -> Iterator[None]:
        """Overlook an intended block, made on the loop inside this."""
        self._paused = True
        try:
            yield
        finally:
            self._loop.call_soon(self._resume)

    def _resume(self) -> None:
        self._set_timer()  # a sign of life first: code that sees `_paused` reset sees the new beat
        self._paused = False

    # -- on the loop ----------------------------------------------------------------------------------------------

    def _set_timer(self) -> None:
        """Note that the loop is alive, and have it beat again."""
        if self._timer is not None:
            self._timer.cancel()
        now = perf_counter()
        self._beat = _Beat(now, now + self._tick, self._clock.times())
        self._beaten.set()
        self._timer = self._loop.call_later(self._tick, self._on_time)

    def _on_time(self) -> None:
        self._metrics.lag.observe(max(0.0, perf_counter() - self._beat.next_due))
        self._set_timer()

    # -- on the thread --------------------------------------------------------------------------------------------

    def _watch(self) -> None:
        while not self._stop.wait(self._tick) and not self._loop.is_closed():
            beat = self._beat
            if perf_counter() - beat.next_due >= self._tick:
                try:
                    self._look(beat)
                except Exception:  # it looks into code that it does not know; the next block must be named all the same
                    logger.exception("the watchdog could not find out what blocks the event loop")
                    self._stop.wait(1.0)

    def _look(self, beat: _Beat) -> None:
        """Look at the loop until it beats again; `beat` is its last one."""
        block: _Block | None = None
        self._beaten.clear()
        while self._beat is beat:
            frame = sys._current_frames().get(self._ident)
            # While only native code of the loop is at work there is nobody to name: it waits for the interpreter, too.
            idle = frame is None or frame.f_code is self._outside or frame.f_code.co_filename == selectors.__file__
            # Without code of the author there is nobody to name, either: a busy machine shows libraries anywhere.
            seen = None if frame is None or idle else blocker_at(frame, self._loop, self._locate)
            del frame
            now = perf_counter()
            if seen is None:
                self._end(block, now)
                block = None
            elif block is None:
                # The first blocker has the time since the beat was due, too: native code may have kept this thread from
                # looking.
                block = _Block(seen, beat.next_due, beat.times, waits_of_threads())
            elif seen.identity != block.blocker.identity:
                self._end(block, now)
                block = _Block(seen, now, self._clock.times(), waits_of_threads())
            else:
                block.blocker = seen
            enough = self._span - self._tick
            if block is not None and not block.looked and block.seconds(now, self._clock, enough) >= enough:
                block.looked = True
                block.counted = self._report(block, now - block.since, beat)
            self._beaten.wait(self._tick)
            if self._stop.is_set() or self._loop.is_closed():
                break
        self._end(block, self._beat.at if self._beat is not beat else perf_counter())

    def _report(self, block: _Block, seconds: float, beat: _Beat) -> bool:
        """Count a block since a beat and log it; return False when it is overlooked."""
        if self._paused or self._beat is not beat:
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
