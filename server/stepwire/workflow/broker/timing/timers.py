"""What falls due: timers of one run, and one alarm of the event loop for all of them."""

from __future__ import annotations

import asyncio
import contextvars
import heapq
from collections.abc import Callable
from typing import Generic, TypeVar

from stepwire.workflow.broker.timing.clock import CLOCK, Clock

__all__ = ["Alarm", "Timer", "TimerQueue"]

T = TypeVar("T")


class Timer(Generic[T]):
    """Something that falls due; `item` is None once it was cancelled."""

    __slots__ = ("due", "item")

    def __init__(self, due: float, item: T) -> None:
        self.due = due
        self.item: T | None = item

    def __lt__(self, other: Timer[T]) -> bool:
        return self.due < other.due


class TimerQueue(Generic[T]):
    """A heap of timers that forgets cancelled ones in amortized constant time."""

    __slots__ = ("_cancelled", "_heap")

    def __init__(self) -> None:
        self._heap: list[Timer[T]] = []
        self._cancelled = 0

    def add(self, due: float, item: T) -> Timer[T]:
        """Add an item that falls due at `due`."""
        timer = Timer(due, item)
        heapq.heappush(self._heap, timer)
        return timer

    def cancel(self, timer: Timer[T]) -> None:
        """Forget a timer; harmless when it was popped or cancelled before."""
        if timer.item is None:
            return
        timer.item = None
        self._cancelled += 1
        if self._cancelled > 16 and self._cancelled * 2 > len(self._heap):
            self._heap = [entry for entry in self._heap if entry.item is not None]
            heapq.heapify(self._heap)
            self._cancelled = 0

    def clear(self) -> None:
        """Forget all timers."""
        self._heap.clear()
        self._cancelled = 0

    def next_due(self) -> float | None:
        """Return the earliest due time; None when there is none."""
        while self._heap and self._heap[0].item is None:
            heapq.heappop(self._heap)
            self._cancelled -= 1
        return self._heap[0].due if self._heap else None

    def pop_due(self, now: float) -> list[T]:
        """Take out the items that are due at `now`, the earliest first."""
        items: list[T] = []
        while (due := self.next_due()) is not None and due <= now:
            timer = heapq.heappop(self._heap)
            assert timer.item is not None
            items.append(timer.item)
            timer.item = None
        return items


class Alarm:
    """Call back at due times, with one timer of the event loop for any number of them.

    A timer of the loop for each run would cost a short run a tenth of its time.
    """

    __slots__ = ("__weakref__", "_context", "_due", "_handle", "_timers", "clock", "loop")

    def __init__(self, loop: asyncio.AbstractEventLoop, clock: Clock = CLOCK) -> None:
        self.loop = loop
        self.clock = clock
        # Whoever happens to set a due time is not kept until then.
        self._context = contextvars.Context()
        self._timers: TimerQueue[Callable[[], object]] = TimerQueue()
        self._handle: asyncio.TimerHandle | None = None
        self._due = 0.0
        clock.watch(self)

    def next_due(self) -> float | None:
        """Return the earliest due time; None when there is none."""
        return self._timers.next_due()

    def look(self) -> None:
        """Call back what is due now, because the clock was set forward."""
        if self._handle is not None:
            self._handle.cancel()
            self._ring()

    def set(self, due: float, callback: Callable[[], object]) -> Timer[Callable[[], object]]:
        """Call back at `due`, in seconds since the epoch."""
        timer = self._timers.add(due, callback)
        if self._handle is None or due < self._due:
            self._arm(due)
        return timer

    def cancel(self, timer: Timer[Callable[[], object]]) -> None:
        """Do not call back; harmless when it was done. The loop's own timer stays and finds nothing due."""
        self._timers.cancel(timer)

    def _arm(self, due: float) -> None:
        if self._handle is not None:
            self._handle.cancel()
        self._due = due
        delay = max(0.0, due - self.clock.now())
        self._handle = self.loop.call_later(delay, self._ring, context=self._context)

    def _ring(self) -> None:
        self._handle = None
        for callback in self._timers.pop_due(self.clock.now()):
            self.loop.call_soon(callback)  # one that fails is none of the others' business
        due = self._timers.next_due()
        if due is not None:
            self._arm(due)
