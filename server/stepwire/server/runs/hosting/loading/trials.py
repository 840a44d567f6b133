"""Find the run whose step crashes the process, without harm to the runs beside it.

A delivery that was in progress at a crash is suspect. After one crash all suspects go on at once. Suspects of two or
more crashes go on one at a time: each is on trial until it has stayed in memory for a while. The crash notes say which
run was on trial, and only that one is blamed if the process crashes again. So the guilty run is lost again and again,
until it fails with CRASH_LOOP, and the others are not.

A step may crash the process late, so each crash during the trials, or soon after, doubles their time.

The cause of a crash may be unknown: a SIGKILL leaves no trace, and mostly comes from outside. So a run that has
survived its trial is suspected of such a crash, but not blamed. And before a run that such a crash is blamed on goes on
trial again, all suspects are held back for as long as the trial takes: a process that is killed meanwhile is killed
from outside, and nobody is blamed.
"""

from __future__ import annotations

import asyncio
import heapq

from stepwire.server.runs.hosting.live_run import LiveRun
from stepwire.server.runs.hosting.loading.crash_notes import CrashNotes
from stepwire.server.runs.hosting.loading.restoring import SUSPECT
from stepwire.workflow.hosting import MAX_LOST_EXECUTIONS

__all__ = ["Trials"]

_TRIAL_SECONDS = 1.0
"""How long a run must stay in memory to survive. Most steps that crash the process do so at once."""
_ALL_SECONDS = 20.0
"""The trials of many suspects are shorter, so that all of them take about this long."""
_LONGEST_SECONDS = 60.0
"""The longest trial; a run that has stayed so long after its trial is suspected no more."""


class Trials:
    """Let runs go: suspects of several crashes one at a time."""

    def __init__(self, notes: CrashNotes) -> None:
        self._notes = notes
        self._waiting: list[tuple[int, float, int, LiveRun]] = []
        """A heap: the most suspect run first, of equally suspect ones the youngest."""
        self._count = 0
        self._on_trial: LiveRun | None = None
        self.in_control = False
        """Whether the suspects are held back, to see whether the process is killed without them."""
        self._controlled = False
        self._open = False
        self._found = False
        """Whether a guilty run was found: then the others go at once."""

    def open(self) -> None:
        """Begin: the runs that the last process left are loaded."""
        self._open = True
        self._next()

    def start(self, run: LiveRun) -> None:
        """Let a run go, now or when its trial comes."""
        if self._notes.last.killer_is_outside and run.lost > SUSPECT:
            run.lost = SUSPECT
            _survive(run, SUSPECT)
        lost = run.lost
        if lost >= MAX_LOST_EXECUTIONS:
            self._found = True
            run.go()
            self._next()
        elif lost >= SUSPECT and not self._found:
            run.queued = True
            self._count += 1
            heapq.heappush(self._waiting, (-lost, -run.record.created_at, self._count, run))
            run.commits.changed()
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
        while self._waiting and not (self.in_control and not self._found):
            _, _, _, run = entry = heapq.heappop(self._waiting)
            if run.gone or run.broker.outcome is not None or run.broker.frozen:
                continue
            seconds = self._seconds()
            if not self._found:
                if run.lost > SUSPECT and not (self._controlled or self._notes.last.itself):
                    heapq.heappush(self._waiting, entry)
                    self._hold_back(seconds)
                    return
                self._on_trial = run
                self._notes.trial(run.key)
            run.go()
            run.commits.changed()
            self._watch(run, seconds)
            if not self._found:
                return

    def _hold_back(self, seconds: float) -> None:
        """Let no suspect go for so long."""
        self.in_control = self._controlled = True
        self._notes.control(True)
        asyncio.get_running_loop().call_later(seconds, self._control_over)

    def _control_over(self) -> None:
        self.in_control = False
        self._notes.control(False)
        if self._on_trial is None:
            self._next()

    def _seconds(self) -> float:
        seconds = min(_TRIAL_SECONDS, _ALL_SECONDS / (len(self._waiting) + 1))
        return min(_LONGEST_SECONDS, seconds * 2.0**self._notes.last.rounds)

    def _watch(self, run: LiveRun, seconds: float) -> None:
        """Have a run survive once it has stayed in memory for so long."""
        loop = asyncio.get_running_loop()

        def begin() -> None:
            loop.call_later(seconds, self._survived, run)

        run.commits.after_commit(begin)

    def _survived(self, run: LiveRun) -> None:
        if _goes_on(run):
            _survive(run, SUSPECT)
            if not self._notes.last.itself:
                asyncio.get_running_loop().call_later(_LONGEST_SECONDS, self._cleared, run)
        self.left(run)

    def _cleared(self, run: LiveRun) -> None:
        """Suspect a run no more: the crash that comes now is another matter."""
        if _goes_on(run):
            _survive(run, 0)
        if not self._waiting and self._on_trial is None:
            self._notes.calm()


def _survive(run: LiveRun, suspect: int) -> None:
    """Note that a run has survived its trial: its deliveries are `suspect` of that many crashes at most."""
    run.survived = True
    run.broker.touch_head()
    for delivery in run.broker.deliveries.values():
        if delivery.lost > suspect:
            delivery.lost = suspect
            run.broker.work.touch(delivery)


def _goes_on(run: LiveRun) -> bool:
    return not run.gone and not run.broker.frozen and run.broker.outcome is None
