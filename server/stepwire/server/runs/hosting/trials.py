"""Find the run whose step crashes the process, without harm to the runs beside it.

A delivery that was in progress at a crash is suspect. After one crash all suspects go on at once. Suspects of two or
more crashes go on one at a time: each is on trial until it has stayed in memory for a while. The crash notes say which
run was on trial, and only that one is blamed if the process crashes again. So the guilty run is lost again and again,
until it fails with CRASH_LOOP, and the others are not.

A step may crash the process late. If the process ended itself (`LastEnd.itself`), each next crash doubles the time of a
trial, and a run that has survived its trial stays suspect. If the cause of the crash is unknown, it is mostly a SIGKILL
from outside: then a run that has survived is not blamed, however often that happens.
"""

from __future__ import annotations

import asyncio
import heapq

from stepwire.server.runs.hosting.crash_notes import CrashNotes
from stepwire.server.runs.hosting.live_run import LiveRun
from stepwire.workflow.hosting import MAX_LOST_EXECUTIONS

__all__ = ["Trials"]

SUSPECT = 2
"""Lost executions from which on a run goes on alone."""
_TRIAL_SECONDS = 1.0
"""How long a run must stay in memory to survive. Most steps that crash the process do so at once."""
_ALL_SECONDS = 20.0
"""The trials of many suspects are shorter, so that all of them take about this long."""
_LONGEST_SECONDS = 60.0


class Trials:
    """Let runs go: suspects of several crashes one at a time."""

    def __init__(self, notes: CrashNotes) -> None:
        self._notes = notes
        self._waiting: list[tuple[int, float, int, LiveRun]] = []
        """A heap: the most suspect run first, of equally suspect ones the youngest."""
        self._count = 0
        self._on_trial: LiveRun | None = None
        self._open = False
        self._found = False
        """Whether a guilty run was found: then the others go at once."""

    def open(self) -> None:
        """Begin: the runs that the last process left are loaded."""
        self._open = True
        self._next()

    def start(self, run: LiveRun) -> None:
        """Let a run go, now or when its trial comes."""
        lost = run.lost
        if lost >= MAX_LOST_EXECUTIONS:
            self._found = True
            run.go()
            self._next()
        elif lost >= SUSPECT and not self._found:
            run.paused = True
            self._count += 1
            heapq.heappush(self._waiting, (-lost, -run.record.created_at, self._count, run))
            run.changed()
            if self._open and self._on_trial is None:
                self._next()
        else:
            run.go()
            if lost:
                self._watch(run, _TRIAL_SECONDS)

    def left(self, run: LiveRun) -> None:
        """Note that a run left memory: its trial is over."""
        if run is self._on_trial:
            self._next()

    def _next(self) -> None:
        """Go on with the next suspect; with all of them once the guilty one was found."""
        if self._on_trial is not None:
            self._on_trial = None
            self._notes.trial(None)
        while self._waiting:
            _, _, _, run = heapq.heappop(self._waiting)
            if run.gone or run.broker.outcome is not None or run.broker.frozen:
                continue
            seconds = self._seconds()
            if not self._found:
                self._on_trial = run
                self._notes.trial(run.key)
            run.go()
            run.changed()
            self._watch(run, seconds)
            if not self._found:
                return

    def _seconds(self) -> float:
        last = self._notes.last
        seconds = min(_TRIAL_SECONDS, _ALL_SECONDS / (len(self._waiting) + 1))
        return min(_LONGEST_SECONDS, seconds * 2.0**last.rounds) if last.itself else seconds

    def _watch(self, run: LiveRun, seconds: float) -> None:
        """Have a run survive once it has stayed in memory for so long."""
        loop = asyncio.get_running_loop()

        def begin() -> None:
            loop.call_later(seconds, self._survived, run)

        run.after_commit(begin)

    def _survived(self, run: LiveRun) -> None:
        if not run.gone and not run.broker.frozen and run.broker.outcome is None:
            run.survive(SUSPECT)
        self.left(run)
