"""The watchdog: it names what blocks the event loop.

A thread asks the loop for an answer, several times in the span that is allowed. While none comes it looks at what the
loop's thread is doing; the same culprit for the whole span is a block, told in the log with the line where it stands.
"""

from __future__ import annotations

import asyncio
import logging
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from time import perf_counter

from stepwire.server.telemetry.blocking_step import Culprit, Locate, Spot, culprit_of
from stepwire.server.telemetry.metrics import LoopMetrics

__all__ = ["Watchdog"]

logger = logging.getLogger("stepwire.watchdog")

_LOOKS = 4
"""Looks in the span that is allowed."""
_TOLD_AGAIN = 10.0
"""Seconds until a block at the same line is told again; all are counted."""
_LINES = 1000
"""Lines whose telling is remembered."""


class Watchdog:
    """Watch the running event loop from another thread: `span` is in seconds."""

    def __init__(self, span: float, metrics: LoopMetrics, locate: Locate) -> None:
        self._span = span
        self._metrics = metrics
        self._locate = locate
        self._loop = asyncio.get_running_loop()
        self._ident = threading.get_ident()
        self._stop = threading.Event()
        self._answered = threading.Event()
        self._asked = 0.0
        self._paused = False
        self._told: dict[tuple[Spot, ...], float] = {}
        self._thread = threading.Thread(target=self._watch, name="stepwire-watchdog", daemon=True)

    def start(self) -> None:
        """Begin to watch."""
        self._thread.start()

    def stop(self) -> None:
        """Watch no more."""
        self._stop.set()

    @contextmanager
    def paused(self) -> Iterator[None]:
        """Overlook a block that is meant to be, made on the loop inside this."""
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
            self._asked = perf_counter()
            try:
                self._loop.call_soon_threadsafe(self._answer)
            except RuntimeError:  # the loop was closed
                return
            try:
                if not self._answered.wait(tick):
                    self._look(tick)
            except Exception:  # it looks into code that it knows nothing of; the next block is to be told all the same
                logger.exception("the watchdog could not tell what blocks the event loop")
                self._answered.wait(1.0)
            self._stop.wait(max(0.0, tick - (perf_counter() - self._asked)))

    def _look(self, tick: float) -> None:
        """Look at the loop, which did not answer, until it does."""
        culprit: Culprit | None = None
        # Who holds the interpreter keeps this thread from looking, too: the wait itself counts.
        # A block is looked at by `_tell` once, and its seconds count when it did.
        since, told, counted = self._asked, False, False
        while not self._stop.is_set():
            frame = sys._current_frames().get(self._ident)
            seen = culprit_of(frame, self._loop, self._locate) if frame is not None else None
            del frame
            now = perf_counter()
            if seen is None or culprit is None or seen.identity != culprit.identity:
                if counted and culprit is not None:
                    self._over(culprit, now - since)
                if culprit is not None:
                    since, told, counted = now, False, False
                culprit = seen
            if culprit is not None and not told and now - since >= self._span - tick:
                told, counted = True, self._tell(culprit, now - since)
            if self._answered.wait(tick):
                break
        if counted and culprit is not None:
            self._over(culprit, perf_counter() - since)

    def _tell(self, culprit: Culprit, seconds: float) -> bool:
        """Count and tell a block; False when it is overlooked."""
        # The loop answers before it resumes: who sees that it is not paused any more sees the answer, too.
        if self._paused or self._answered.is_set():
            return False
        key = (culprit.workflow, culprit.step)
        self._metrics.blocks[key] += 1
        now = perf_counter()
        if now - self._told.get(culprit.place, -_TOLD_AGAIN) < _TOLD_AGAIN:
            return True
        if len(self._told) >= _LINES:
            self._told.clear()
        self._told[culprit.place] = now
        if culprit.step:
            logger.warning(
                "step %s of workflow %s blocks the event loop, for %.2f s up to now (run %s, attempt %d): %s",
                culprit.step,
                culprit.workflow,
                seconds,
                culprit.run_id,
                culprit.attempt,
                culprit.where(),
            )
        else:
            logger.warning("the event loop is blocked outside the steps, for %.2f s: %s", seconds, culprit.where())
        return True

    def _over(self, culprit: Culprit, seconds: float) -> None:
        self._metrics.blocked[culprit.workflow, culprit.step] += seconds
        if seconds >= 1.0:
            logger.warning("the event loop goes on after %.1f s: %s", seconds, culprit.step or culprit.where())
