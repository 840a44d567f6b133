"""Threads for sync steps: shared fairly, and never waited for when the process ends.

A sync step that does not return holds its thread for ever, since a thread cannot be ended. So no run may hold more than
a quarter of the threads, and no workflow more than three quarters when several have sync steps. A workflow alone may
hold all of them; another one that comes then still gets a quarter, in threads beyond the limit. A thread whose attempt
was given up (a timeout, a cancel, a release) is replaced by another one; it still counts for its run.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import queue
import threading
import time
from collections import Counter, deque
from collections.abc import Callable
from concurrent.futures import Executor, Future
from functools import partial
from typing import Any, NamedTuple

from stepwire.workflow.hosting import outside

__all__ = ["RunThreads", "StepThreads", "ThreadLoad"]

logger = logging.getLogger("stepwire.runs")

_SLOW_SECONDS = 10.0
"""A call that waits this long for a thread is worth a line in the log."""
_GIVEN_UP_SECONDS = 5.0
"""A step that goes on this long after its attempt was given up is worth a line, too."""
_QUIET_SECONDS = 60.0
"""Seconds between two lines about calls that wait."""
_MOST = 4
"""Factor between the threads at work and all threads, with those that were given up."""


class ThreadLoad(NamedTuple):
    """What the threads of sync steps do at one time."""

    waiting: int
    """Calls that wait for a thread."""
    running: int
    """Calls at work, without those that were given up."""
    given_up: int
    """Calls that go on though their attempt was given up."""
    longest_wait: float
    """Seconds that the first of the waiting calls has waited; 0 when none waits."""


class StepThreads:
    """Run sync steps in about `limit` threads at a time.

    Python's own pool joins its threads when the interpreter exits: a step that does not return would hang a drain.
    """

    def __init__(self, limit: int) -> None:
        self._limit = limit
        self._run_limit = max(1, limit // 4)
        self._workflow_limit = max(1, limit - limit // 4)
        self._share = max(1, limit - self._workflow_limit)
        """Threads that every workflow gets, also when others hold all within the limit."""
        self._lock = threading.Lock()
        self._ready: dict[str, deque[_Call]] = {}
        """Calls that wait for a thread, by workflow. Whose turn it is comes first."""
        self._handed: queue.SimpleQueue[_Call] = queue.SimpleQueue()
        self._idle = 0
        self._threads = 0
        self._running: set[_Call] = set()
        """Calls at work, without those that were given up."""
        self._held_back: set[RunThreads] = set()
        """Runs with calls that wait until the run holds fewer threads."""
        self._by_workflow: Counter[str] = Counter()
        self._given_up = 0
        self._waiting = 0
        self._checking = False
        self._quiet_until = 0.0

    def of(self, workflow: str, run_id: str) -> RunThreads:
        """Return what runs the sync steps of one run."""
        return RunThreads(self, workflow, run_id)

    @property
    def backlog(self) -> int:
        """How many calls wait for a thread. From any thread."""
        return self._waiting

    @property
    def load(self) -> ThreadLoad:
        """What the threads do now. From any thread."""
        with self._lock:
            held_back = (run.waiting[0].asked for run in self._held_back if run.waiting)
            first = min((*(calls[0].asked for calls in self._ready.values() if calls), *held_back), default=None)
            waited = 0.0 if first is None else time.monotonic() - first
            return ThreadLoad(self._waiting, len(self._running), self._given_up, waited)

    # -- what a run's executor calls -----------------------------------------------------------------------------------

    def submit(self, call: _Call) -> None:
        """Run a call as soon as it is its turn."""
        with self._lock:
            self._waiting += 1
            run = call.run
            if run.held < self._run_limit:
                run.held += 1
                self._queue(call)
                self._dispatch()
            else:
                if run.waiting is None:
                    run.waiting = deque()
                run.waiting.append(call)
                self._held_back.add(run)
            slow = self._waiting and not self._checking
            self._checking = self._checking or bool(slow)
        if slow:
            self._check_later()

    def give_up(self, call: _Call) -> None:
        """Replace the thread of a call that nobody waits for any more."""
        with self._lock:
            if call not in self._running:
                return
            self._running.discard(call)
            self._by_workflow[call.run.workflow] -= 1
            self._given_up += 1
            call.given_up = True
            self._dispatch()
        with contextlib.suppress(RuntimeError):  # without a loop there is nobody to tell
            loop = asyncio.get_running_loop()
            outside(lambda: loop.call_later(_GIVEN_UP_SECONDS, self._warn_of_given_up, call))

    def withdraw(self, call: _Call) -> None:
        """Drop a call that has not begun and was cancelled."""
        with self._lock:
            if call.began or call.over:
                return
            call.over = True
            self._waiting -= 1
            run = call.run
            if run.waiting is not None and call in run.waiting:
                run.waiting.remove(call)
                if not run.waiting:
                    self._held_back.discard(run)
            elif (ready := self._ready.get(run.workflow)) is not None and call in ready:
                ready.remove(call)
                self._release(run)

    # -- under the lock -----------------------------------------------------------------------------------------------

    def _queue(self, call: _Call) -> None:
        self._ready.setdefault(call.run.workflow, deque()).append(call)

    def _release(self, run: RunThreads) -> None:
        """Note that a run holds a thread less; queue the next of its calls."""
        if run.waiting:
            self._queue(run.waiting.popleft())
            if not run.waiting:
                self._held_back.discard(run)
        else:
            run.held -= 1

    def _dispatch(self) -> None:
        """Hand calls to threads, the workflows in turn."""
        limit = self._limit if len(self._by_workflow) < 2 else self._workflow_limit
        for workflow in list(self._ready):
            self._by_workflow.setdefault(workflow, 0)
        turn = True
        while turn:
            turn = False
            for workflow, calls in list(self._ready.items()):
                if len(self._running) + self._given_up >= _MOST * self._limit:
                    return
                held = self._by_workflow[workflow]
                if not calls or held >= limit:
                    continue
                if len(self._running) >= self._limit and held >= self._share:
                    continue  # within its share it gets a thread all the same: others may hang in all of theirs
                turn = True
                call = calls.popleft()
                del self._ready[workflow]
                if calls:
                    self._ready[workflow] = calls  # at the end: it is the turn of the others
                self._begin(call)

    def _begin(self, call: _Call) -> None:
        call.began = time.monotonic()
        self._waiting -= 1
        self._running.add(call)
        self._by_workflow[call.run.workflow] += 1
        self._handed.put(call)
        if self._idle:
            self._idle -= 1
        else:
            self._threads += 1
            threading.Thread(target=self._work, name=f"stepwire-step-{self._threads}", daemon=True).start()

    # -- in the threads -----------------------------------------------------------------------------------------------

    def _work(self) -> None:
        while True:
            call = self._handed.get()
            call.perform()
            with self._lock:
                call.over = True
                if call.given_up:
                    self._given_up -= 1
                else:
                    self._running.discard(call)
                    self._by_workflow[call.run.workflow] -= 1
                    self._idle += 1
                self._release(call.run)
                self._dispatch()
                if call.given_up:
                    return  # another thread has taken its place
            del call

    # -- the log ------------------------------------------------------------------------------------------------------

    def _check_later(self) -> None:
        try:
            loop = asyncio.get_running_loop()
        except RuntimeError:
            self._checking = False
        else:
            outside(lambda: loop.call_later(_SLOW_SECONDS, self._check))

    def _check(self) -> None:
        """Say so when calls have waited long, and which runs hold the threads."""
        now = time.monotonic()
        with self._lock:
            waiting = [call for calls in self._ready.values() for call in calls]
            for run in self._held_back:
                waiting += run.waiting or ()
            self._checking = bool(self._waiting)
            again = self._checking
            slow = [call for call in waiting if now - call.asked >= _SLOW_SECONDS]
            held = Counter(f"{call.run.workflow}/{call.run.run_id}" for call in self._running)
            oldest = max((now - (call.began or now) for call in self._running), default=0.0)
            given_up = self._given_up
        if again:
            self._check_later()
        if slow and now >= self._quiet_until:
            self._quiet_until = now + _QUIET_SECONDS
            logger.warning(
                "%d sync steps wait for a thread, one of them for %.0f seconds; %d threads are at work, the longest for"
                " %.0f seconds, and %d were given up; most are held by %s",
                len(waiting),
                max(now - call.asked for call in slow),
                held.total(),
                oldest,
                given_up,
                ", ".join(f"{run} ({count})" for run, count in held.most_common(3)) or "no run",
            )

    def _warn_of_given_up(self, call: _Call) -> None:
        if not call.over:
            logger.warning(
                "run %s: a sync step goes on in its thread though its attempt was given up; the run holds %d of at most"
                " %d threads",
                call.run.run_id,
                call.run.held,
                self._run_limit,
            )


class RunThreads(Executor):
    """Run the sync steps of one run; what `loop.run_in_executor` needs."""

    # Many runs wait in memory, so the queue is made at the first need.
    __slots__ = ("held", "run_id", "threads", "waiting", "workflow")

    def __init__(self, threads: StepThreads, workflow: str, run_id: str) -> None:
        self.threads = threads
        self.workflow = workflow
        self.run_id = run_id
        self.held = 0
        """Calls of the run that have a thread or are next for one, with those that were given up."""
        self.waiting: deque[_Call] | None = None
        """Calls that wait until the run holds fewer threads."""

    def submit(self, fn: Callable[..., Any], /, *args: Any, **kwargs: Any) -> Future[Any]:
        """Run a call in a thread."""
        call = _Call(self, partial(fn, *args, **kwargs))
        self.threads.submit(call)
        return call


class _Call(Future[Any]):
    """A call, and what becomes of it."""

    def __init__(self, run: RunThreads, function: Callable[[], Any]) -> None:
        super().__init__()
        self.run = run
        self.asked = time.monotonic()
        self.began = 0.0
        self.given_up = False
        self.over = False
        self._function: Callable[[], Any] | None = function

    def cancel(self) -> bool:
        """Cancel the call, or, when it is at work, have its thread replaced."""
        cancelled = super().cancel()
        if cancelled:
            self.run.threads.withdraw(self)
        elif not self.done():
            self.run.threads.give_up(self)
        return cancelled

    def perform(self) -> None:
        """Make the call in this thread."""
        function, self._function = self._function, None
        if function is None or not self.set_running_or_notify_cancel():
            return
        try:
            result = function()
        except BaseException as error:  # noqa: BLE001 - handed to whoever awaits the step
            self.set_exception(error)
        else:
            self.set_result(result)
