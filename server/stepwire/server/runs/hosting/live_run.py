"""One run in memory: drive it, pause it, and have it leave."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from typing import Any

from stepwire.server.registry import Served
from stepwire.server.runs.hosting.commits.record import RunPause
from stepwire.server.runs.hosting.commits.run_commits import RunCommits
from stepwire.server.runs.hosting.surroundings import Surroundings
from stepwire.server.store import TERMINAL, Claim, RunRecord
from stepwire.workflow.hosting import ChildOutcome, InMemoryStateStore, Received, progress

__all__ = ["LiveRun"]

_DISPOSE_SECONDS = 1.0
"""How long after its release or end a run's cancelled steps may still have a last word."""


class LiveRun:
    """Host one run.

    It owns the run's record, what keeps the run from going on (its queue and its pause), and its leaving memory.

    Attributes:
        broker: The data of the run.
        commits: Its commits, and who waits for them.
        key: Its key.
        served: Its workflow.
    """

    # Many runs wait in memory, so every attribute counts.
    __slots__ = (
        "__weakref__",
        "_around",
        "_end_waiter",
        "_hosted",
        "broker",
        "commits",
        "gone",
        "idle_since",
        "key",
        "lost",
        "pause",
        "queued",
        "record",
        "served",
        "survived",
        "took_slot",
    )

    def __init__(self, served: Served, record: RunRecord, claim: Claim | None, around: Surroundings) -> None:
        """Make a run that does nothing yet.

        Args:
            served: Its workflow.
            record: Its record as of its last commit; of a new run, as it will be created.
            claim: Its claim; None for a new run, whose first commit creates it.
            around: What it shares with the other runs.
        """
        self.served = served
        self.record = record
        """The record as of the last durable commit."""
        self.key = record.key
        self.idle_since = 0.0
        """When a look at the pool first found the run waiting; 0.0 while it works."""
        self.queued = False
        """Whether the run is queued, behind `num_concurrent_runs` or for its trial: nothing starts."""
        self.pause = RunPause.of(record)
        """The pause of the run itself; None while it is not paused. Its workflow may be paused besides."""
        self.lost = 0
        """Executions of one of its deliveries that were lost to crashes, when the run was loaded."""
        self.survived = False
        """Whether the run was suspect of a crash, and has survived its trial since."""
        self.took_slot = False
        """Whether admitting this object took a slot of `num_concurrent_runs`, or a place in the queue for one."""
        self._around = around
        self._end_waiter: asyncio.Future[None] | None = None
        self.gone = False
        """Whether the run has left memory."""
        self.commits = RunCommits(self, claim, around)
        self._hosted = self.commits.hosted
        self.broker = self._hosted.broker

    # -- what callers do ------------------------------------------------------------------------------------------

    @property
    def store(self) -> InMemoryStateStore[Any]:
        """The state of the run."""
        return self.broker.store

    @property
    def busy(self) -> bool:
        """Whether the body of a step is at work, not parked. Those of the server's own workflows can end at once."""
        return not self.served.own and progress.is_at_work(self.broker)

    def recorded(self, record: RunRecord) -> None:
        """Take the record of a commit that is durable."""
        record.first_available = self.record.first_available  # the log may have been trimmed meanwhile
        self.record = record
        if record.status in TERMINAL:
            self.stop_waiting()

    def trimmed(self, first: int) -> None:
        """Note that the log of the run now begins at sequence `first`."""
        self.record.first_available = first
        self._hosted.journal.bound_log(first)

    def make_durable(self) -> None:
        """Keep a journal from here on."""
        self._hosted.make_durable()
        self._hosted.journal.bound_log(self.record.first_available)

    def find_changes_in_place(self) -> None:
        """Have what steps have changed in place so far written: the state is about to be told to a caller."""
        self._hosted.journal.find_changes_in_place()

    def go(self) -> None:
        """Let the runner drive the run from now on."""
        self.queued = False
        self._hosted.go(self.served.name, self.record.info.get("trace", {}), resumed=self.commits.created)

    def set_pause(self, pause: RunPause | None) -> None:
        """Pause the run, or resume it with None."""
        if self.pause is not None or pause is not None:
            self.pause = pause
            self.broker.touch_head()
            self.hold()

    def hold(self) -> None:
        """Start nothing while the run or its workflow is paused; start again what may once neither is."""
        if not self.gone:
            held = self.pause is not None or self._around.pauses.of(self.record) is not None
            if self.broker.work.held != held:
                self._hosted.hold(held)

    def catch_up(self) -> None:
        """Set the clock of a run that was loaded: it stood still while its workflow was paused."""
        self._around.pauses.catch_up(self.broker, self.record)

    def act(self) -> None:
        """Let the runner act on a transition that was just made."""
        if not self.queued:
            self._hosted.act()

    def child_started(self, run_id: str) -> None:
        """Note that a child was started."""
        self._hosted.child_started(run_id)
        self.act()

    def child_sent(self, run_id: str, number: int) -> None:
        """Note that an event was sent to a child, or that the child does not take it."""
        self._hosted.child_sent(run_id, number)
        self.act()

    def child_ended(self, run_id: str, outcome: ChildOutcome) -> None:
        """Note that a child has ended. Harmless for one that the run does not wait for any more."""
        self._hosted.child_ended(run_id, outcome)
        self.act()

    def cancel(self, reason: str) -> None:
        """Cancel the run."""
        self._hosted.cancel(reason)

    def take_in(self, received: Received) -> None:
        """Note the event that the broker is about to accept: if it is large, it is encoded already."""
        if received.saved is not None:
            self._hosted.journal.received = received

    def encode_start(self, received: Received) -> None:
        """Encode the event that the broker is about to begin with, while nothing has changed yet.

        Raises:
            SerializationError: It cannot be saved, as a default that no serializer knows.
            EventTooLargeError: It has more bytes than an event may have.
        """
        journal, event = self._hosted.journal, received.event
        journal.received = received
        journal.received = Received(event, journal.wire(event), journal.encode(event))

    def take_values(self, values: Mapping[str, Any], encoded: Mapping[str, bytes]) -> None:
        """Note what values that are about to be set in the state are encoded as: some of them, or none."""
        for name, data in encoded.items():
            self._hosted.journal.note_encoded(name, values[name], data)

    async def ended(self, seconds: float) -> None:
        """Wait until the end of the run is durable, but at most so long; at least until the run is created.

        For the caller that starts the run: a reader of its feed would cost more than a short run itself. It returns
        early when the run leaves memory before its end.

        Raises:
            RunsError: The run could not be created.
        """
        if self.record.status not in TERMINAL and not self.gone:
            loop = asyncio.get_running_loop()
            waiter = self._end_waiter = loop.create_future()
            timer = loop.call_later(seconds, self.stop_waiting)
            try:
                await waiter
            finally:
                timer.cancel()
                self._end_waiter = None
        if not self.commits.created:
            await self.commits.wait()

    def stop_waiting(self) -> None:
        """Have `ended` return."""
        if self._end_waiter is not None and not self._end_waiter.done():
            self._end_waiter.set_result(None)

    # -- leaving memory -------------------------------------------------------------------------------------------

    def release(self) -> bool:
        """Leave memory, if the run only waits and everything is durable; return whether it did."""
        if not self.commits.clean or (self.queued and self.pause is None) or self.store.locked:
            return False
        if not progress.may_leave(self.broker):
            return False
        self.leave(None)
        self._dispose_later()
        return True

    async def hand_over(self) -> None:
        """Freeze, commit, and leave memory, so that another replica can have the run."""
        self.freeze()
        await self.commits.wait()
        if self.commits.clean and not self.gone:
            self.leave(None)
            self._dispose_later()

    def freeze(self) -> None:
        """Start nothing any more and cancel what runs; what it worked on is queued again and committed."""
        self._hosted.freeze()
        self.commits.changed()

    def vanish(self) -> None:
        """Be gone without a commit or a word, as when the process is killed."""
        self.gone = True
        self.commits.close(None)
        self._hosted.freeze()
        self._dispose_later()

    def leave(self, error: BaseException | None) -> None:
        """Leave memory, with what a commit failed with; harmless for a run that has left."""
        if self.gone:
            return
        self.gone = True
        self.commits.close(error)
        self.stop_waiting()
        self._hosted.freeze()
        self._around.on_gone(self, error)
        self.commits.dismiss()

    def end(self) -> None:
        """Leave memory now that the end is durable."""
        self.leave(None)
        if self.broker.cut_off:
            self._dispose_later()
        else:
            self._dispose()

    def _dispose_later(self) -> None:
        asyncio.get_running_loop().call_later(_DISPOSE_SECONDS, self._dispose)

    def _dispose(self) -> None:
        """Cut the references back to the run, once no step has a last word to say.

        Then a run that left memory is freed at once. A collection of old objects may be hours away, and collecting
        took a quarter of the time of short runs.
        """
        self._hosted.leave()
