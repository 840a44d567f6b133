"""One run in memory and its commits, one in flight at a time."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping
from typing import Any, TypeVar

from stepwire.server import failpoints
from stepwire.server.registry import Served
from stepwire.server.runs.errors import as_runs_error
from stepwire.server.runs.hosting.commit import CommitBuilder
from stepwire.server.runs.hosting.commit_waiters import CommitWaiters
from stepwire.server.runs.hosting.failures import FailureReports
from stepwire.server.runs.hosting.record import RunPause
from stepwire.server.runs.hosting.run_scope import RunScope
from stepwire.server.runs.hosting.surroundings import Surroundings
from stepwire.server.runs.idempotency import Answers
from stepwire.server.store import (
    TERMINAL,
    Claim,
    Cluster,
    Commit,
    RequestRecord,
    RunExistsError,
    RunRecord,
    StartRequestExistsError,
    Status,
    StoreError,
)
from stepwire.workflow.hosting import (
    ChildOutcome,
    FailureReport,
    InMemoryStateStore,
    Received,
    progress,
)

__all__ = ["LiveRun"]

T = TypeVar("T")

_DISPOSE_SECONDS = 1.0
"""How long after its release or end a run's cancelled steps may still have a last word."""


class LiveRun:
    """Host one run: drive its broker and commit what changed (docs/architecture.md: Durability)."""

    # Many runs wait in memory, so every attribute counts.
    __slots__ = (
        "__weakref__",
        "_around",
        "_builder",
        "_claim",
        "_end_waiter",
        "_gone",
        "_hosted",
        "_in_flight",
        "_loop",
        "_made_reports",
        "_scheduled",
        "_scope",
        "_waiters",
        "answers",
        "broker",
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
        self.answers = Answers()
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
        self._claim = claim
        self._loop = asyncio.get_running_loop()
        self._scope = RunScope.of(served.name, record)
        self._hosted = around.drive(served, record, self, self._scope)
        self.broker = self._hosted.broker
        self._made_reports: FailureReports | None = None
        self._builder = CommitBuilder(served, self.broker, around.codec, around.bounds)
        self._waiters: CommitWaiters | None = None
        """Who waits for the next commit; None for nobody."""
        self._in_flight: asyncio.Future[Claim] | None = None
        self._end_waiter: asyncio.Future[None] | None = None
        self._scheduled = False
        self._gone: BaseException | None = None
        self.gone = False
        """Whether the run has left memory."""

    # -- the host of the runner -----------------------------------------------------------------------------------

    def changed(self) -> None:
        """Commit soon."""
        if not self._scheduled and not self._in_flight and not self.gone:
            self._scheduled = True
            # Whoever made the change is not kept for it, and what the commit starts is not the body's.
            self._loop.call_soon(self._commit, context=self._around.variables)

    def after_commit(self, callback: Callable[[], None]) -> None:
        """Call back once everything done up to now is durable."""
        self._next_waiters().callbacks.append(callback)
        self.changed()

    def _next_waiters(self) -> CommitWaiters:
        """Return who waits for the next commit, made at the first need."""
        if self._waiters is None:
            self._waiters = CommitWaiters()
        return self._waiters

    @property
    def _reports(self) -> FailureReports:
        """Return what reports failures, made at the first one."""
        if self._made_reports is None:
            self._made_reports = FailureReports(self.broker, self._scope, self._around.failure_detail)
        return self._made_reports

    def report(
        self, step: str | None, error: BaseException, *, attempt: int = 0, next_at: float | None = None
    ) -> FailureReport:
        """Log a step's failure; return what callers may be told."""
        return self._reports.report(step, error, attempt=attempt, next_at=next_at)

    def executed(self, step: str, outcome: str, seconds: float) -> None:
        """Count an execution that is over."""
        self._around.metrics.workflow(self.served.name).step(step, outcome, seconds)

    # -- what callers do ------------------------------------------------------------------------------------------

    @property
    def store(self) -> InMemoryStateStore[Any]:
        """The state of the run."""
        return self.broker.store

    @property
    def claim(self) -> Claim | None:
        """The claim under which it commits; None before the first commit."""
        return self._claim

    @property
    def created(self) -> bool:
        """Whether the run's first commit is durable."""
        return self._claim is not None

    @property
    def clean(self) -> bool:
        """Whether everything is durable and nothing waits for a commit."""
        return not (self._in_flight is not None or self._scheduled or self._waiters is not None or self._uncommitted)

    @property
    def busy(self) -> bool:
        """Whether the body of a step is at work, not parked. Those of the server's own workflows can end at once."""
        return not self.served.own and progress.is_at_work(self.broker)

    @property
    def _uncommitted(self) -> bool:
        return self._hosted.journal.uncommitted or self.answers.uncommitted is not None

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
        self._hosted.go(self.served.name, self.record.info.get("trace", {}), resumed=self.created)

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

    def exceed(self, message: str) -> None:
        """Fail the run because it has reached a limit."""
        self.broker.exceed(message)

    def child_started(self, run_id: str) -> None:
        """Note that a child was started."""
        self._hosted.child_started(run_id)
        self.act()

    def child_ended(self, run_id: str, outcome: ChildOutcome) -> None:
        """Note that a child has ended. Harmless for one that the run does not wait for any more."""
        self._hosted.child_ended(run_id, outcome)
        self.act()

    def cancel(self, reason: str) -> None:
        """Cancel the run."""
        self._hosted.cancel(reason)

    def remember(self, request: RequestRecord) -> None:
        """Keep the answer to a request with the next commit."""
        self.answers.remember(request)
        self.changed()

    def take_in(self, received: Received) -> None:
        """Note the event that the broker is about to accept: if it is large, it is encoded already."""
        if received.saved is not None:
            self._hosted.journal.received = received

    def take_values(self, values: Mapping[str, Any], encoded: Mapping[str, bytes]) -> None:
        """Note what values that are about to be set in the state are encoded as: some of them, or none."""
        for name, data in encoded.items():
            self._hosted.journal.note_encoded(name, values[name], data)

    async def answer(self, act: Callable[[], T]) -> T:
        """Make a transition of the run, or look at its live state; return what came of it once that is durable.

        Every answer that is derived from live state passes here, so that no client learns of what a crash can undo.
        That holds for errors, too: a refusal tells of the state that was the reason.

        Args:
            act: Called at once.

        Raises:
            StoreDownError: The commit failed, so nothing may be told.
        """
        try:
            answer = act()
        except Exception:  # a refusal is an answer, too: it tells of what must be durable
            await self.committed()
            raise
        if not self._is_durable:
            await self.committed()
        return answer

    @property
    def _is_durable(self) -> bool:
        """Whether everything done up to now is durable, and sure to be this process's: `committed` would not wait."""
        cluster = self._around.cluster
        return (
            not (self.gone or self._in_flight or self._scheduled)
            and not self._uncommitted
            and (cluster is None or cluster.fresh)
        )

    async def committed(self) -> None:
        """Wait until everything done up to now is durable. Raises StoreDownError when it cannot be."""
        self.raise_if_gone()
        if not self._in_flight and not self._scheduled and not self._uncommitted:
            if (cluster := self._around.cluster) is not None and not cluster.fresh:
                await self._hold(cluster)
            return
        future: asyncio.Future[None] = self._loop.create_future()
        self._next_waiters().acks.append(future)
        self.changed()
        await future

    async def ended(self, seconds: float) -> None:
        """Wait until the end of the run is durable, but at most so long; at least until the run is created.

        For the caller that starts the run: a reader of its feed would cost more than a short run itself. It returns
        early when the run leaves memory before its end.

        Raises:
            RunsError: The run could not be created.
        """
        if self.record.status not in TERMINAL and not self.gone:
            waiter = self._end_waiter = self._loop.create_future()
            timer = self._loop.call_later(seconds, self.stop_waiting)
            try:
                await waiter
            finally:
                timer.cancel()
                self._end_waiter = None
        if not self.created:
            await self.committed()

    def stop_waiting(self) -> None:
        """Have `ended` return."""
        if self._end_waiter is not None and not self._end_waiter.done():
            self._end_waiter.set_result(None)

    async def _hold(self, cluster: Cluster) -> None:
        """Wait until it is sure that no other replica has taken the run. Raises StoreDownError if one has."""
        try:
            await cluster.hold()
        except StoreError as error:
            raise as_runs_error(error) from error
        self.raise_if_gone()

    def raise_if_gone(self) -> None:
        """Raise what lost the run, if a failed commit did."""
        if self.gone and self._gone is not None:
            raise as_runs_error(self._gone)

    # -- leaving memory -------------------------------------------------------------------------------------------

    def release(self) -> bool:
        """Leave memory, if the run only waits and everything is durable; return whether it did."""
        if not self.clean or (self.queued and self.pause is None) or self.store.locked:
            return False
        if not progress.may_leave(self.broker):
            return False
        self._leave(None)
        self._loop.call_later(_DISPOSE_SECONDS, self._dispose)
        return True

    async def hand_over(self) -> None:
        """Freeze, commit, and leave memory, so that another replica can have the run."""
        self.freeze()
        await self.committed()
        if self.clean and not self.gone:
            self._leave(None)
            self._loop.call_later(_DISPOSE_SECONDS, self._dispose)

    def freeze(self) -> None:
        """Start nothing any more and cancel what runs; what it worked on is queued again and committed."""
        self._hosted.freeze()
        self.changed()

    def vanish(self) -> None:
        """Be gone without a commit or a word, as when the process is killed."""
        self.gone = True
        self._hosted.freeze()
        self._loop.call_later(_DISPOSE_SECONDS, self._dispose)

    def abandon(self, error: StoreError) -> None:
        """Take the commit in flight, which does not finish, for failed, and tell the callers that wait for it."""
        if self._in_flight is None:
            self._leave(error)
        elif not self._in_flight.done():
            self._in_flight.set_exception(error)

    def _leave(self, error: BaseException | None) -> None:
        if self.gone:
            return
        self.gone = True
        self._gone = error
        self.stop_waiting()
        self._hosted.freeze()
        self._around.on_gone(self, error)
        waiters, self._waiters = self._waiters, None
        if waiters is not None and error is None:
            waiters.acknowledge()
        elif waiters is not None and error is not None:
            waiters.refuse(as_runs_error(error))

    def _end(self) -> None:
        """Leave memory now that the end is durable."""
        self._leave(None)
        if self.broker.cut_off:
            self._loop.call_later(_DISPOSE_SECONDS, self._dispose)
        else:
            self._dispose()

    def _dispose(self) -> None:
        """Cut the references back to the run, once no step has a last word to say.

        Then a run that left memory is freed at once. A collection of old objects may be hours away, and collecting
        took a quarter of the time of short runs.
        """
        self._hosted.leave()

    # -- commits --------------------------------------------------------------------------------------------------

    def _commit(self) -> None:
        """Hand the store what changed since the last commit, unless a commit is in flight."""
        self._scheduled = False
        if self._in_flight or self.gone or self.broker.partial is not None:
            return  # the runner tells when a transition is whole that is made in slices
        if self._claim is not None and not self._uncommitted:
            waiters, self._waiters = self._waiters, None
            self._durable(waiters)
            if self.record.status in TERMINAL and self.clean:
                self._end()
            return
        if self._builder.prepare():
            self._scheduled = True
            self._loop.call_soon(self._commit)
            return
        requests = self.answers.take()
        try:
            commit = self._builder.build(
                self.record,
                self._claim,
                requests,
                queued=self.queued,
                pause=self.pause,
                paused_seconds=self._around.pauses.seconds_of(self.record, self.broker.clock),
                survived=self.survived,
                traceback="" if self._made_reports is None else self._made_reports.traceback,
            )
        except Exception as error:  # noqa: BLE001 - the author's types may raise anything while they are encoded
            # Nothing may go on that cannot be made durable: drop the run and tell the callers that wait.
            self._reports.log("a commit could not be made", error=error)
            self._leave(error)
            return
        if commit.record.status in TERMINAL:
            self._hosted.act()  # a limit, or a damaged value of the state, may have ended the run just now
        waiters, self._waiters = self._waiters, None
        future = self._in_flight = self._around.store.commit(commit)
        future.add_done_callback(lambda done: self._committed(done, commit, waiters))

    def _committed(self, future: asyncio.Future[Claim], commit: Commit, waiters: CommitWaiters | None) -> None:
        """Go on after a commit, or drop the run when it failed."""
        self._in_flight = None
        error = future.exception()
        if error is not None:
            # A failed commit is a crash of this run: drop it, the next call loads it again.
            if not isinstance(error, RunExistsError | StartRequestExistsError):  # a start that came twice is no failure
                self._reports.log("a commit failed: %s", error)
            if waiters is not None:
                waiters.refuse(as_runs_error(error))
            self._leave(error)
            return
        before = self.record.status if self.created else None
        if commit.record.status is not before:
            workflow_metrics = self._around.metrics.workflow(self.served.name)
            workflow_metrics.moved(before, commit.record.status, ended=commit.record.status in TERMINAL)
        self._claim = future.result()
        commit.record.first_available = self.record.first_available  # the log may have been trimmed meanwhile
        self.record = commit.record
        if commit.record.status is not before:
            if commit.record.status in TERMINAL:
                self.stop_waiting()
                if commit.record.status != Status.COMPLETED and not self.served.own:
                    self._reports.log_end(commit.record)
            elif commit.record.status is Status.WAITING and self.broker.untaken and progress.has_stalled(self.broker):
                self._reports.log_stall()
        self._durable(waiters, commit)
        if commit.record.status in TERMINAL and self.clean:
            self._end()
            return
        if self._waiters is not None or self._uncommitted:
            self._scheduled = True
            self._commit()

    def _durable(self, waiters: CommitWaiters | None, commit: Commit | None = None) -> None:
        # Acknowledgements first: a send_result precedes the entries of its commit.
        if failpoints.ACTIVE:
            failpoints.hit("ack.before")
        if waiters is not None:
            waiters.acknowledge()
        if commit is not None:
            self._around.on_commit(commit)
        if waiters is not None and not self.broker.frozen:
            waiters.call_back()
