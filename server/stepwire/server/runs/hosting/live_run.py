"""One run in memory and its commits, one in flight at a time."""

from __future__ import annotations

import asyncio
import contextvars
from collections.abc import Callable, Mapping
from typing import Any, TypeVar

from stepwire.server import failpoints
from stepwire.server.registry import Served
from stepwire.server.runs.errors import as_runs_error
from stepwire.server.runs.hosting.commit import CommitBuilder
from stepwire.server.runs.hosting.commit_waiters import CommitWaiters
from stepwire.server.runs.hosting.failures import FailureReports
from stepwire.server.runs.hosting.run_scope import RUN, RunScope
from stepwire.server.runs.hosting.surroundings import Surroundings
from stepwire.server.runs.idempotency import Answers
from stepwire.server.store import (
    TERMINAL,
    Claim,
    Commit,
    RequestRecord,
    RunExistsError,
    RunRecord,
    StartRequestExistsError,
    StoreError,
)
from stepwire.server.telemetry.tracing import trace_id
from stepwire.workflow.hosting import FailureReport, HostedRun, InMemoryStateStore, Received

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
        "_gone",
        "_hosted",
        "_in_flight",
        "_is_gone",
        "_loop",
        "_reports",
        "_scheduled",
        "_waiters",
        "answers",
        "broker",
        "idle_since",
        "key",
        "lost",
        "paused",
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
        self.paused = False
        """Whether the run is queued, behind `num_concurrent_runs` or for its trial: nothing starts."""
        self.lost = 0
        """Executions of one of its deliveries that were lost to crashes, when the run was loaded."""
        self.survived = False
        """Whether the run was suspect of a crash, and has survived its trial since."""
        self.took_slot = False
        """Whether admitting this object took a slot of `num_concurrent_runs`, or a place in the queue for one."""
        self._around = around
        self._claim = claim
        self._loop = asyncio.get_running_loop()
        # Steps and their log records find their run through a context variable that the runner keeps for them. They
        # inherit nothing of the call that started or loaded the run: its message and credential would live as long.
        principal, trace = record.info.get("principal", ""), trace_id(record.info.get("trace", {}))
        scope = RunScope(served.name, record.key.run_id, principal, trace)
        variables = contextvars.Context()
        variables.run(RUN.set, scope)
        self._hosted = HostedRun(
            served.workflow,
            served.names,
            self,
            run_id=record.key.run_id,
            executor=around.threads.of(served.name, record.key.run_id),
            alarm=around.alarm,
            variables=variables,
            bounds=around.bounds,
        )
        self.broker = self._hosted.broker
        self._reports = FailureReports(self.broker, scope, around.failure_detail)
        self._builder = CommitBuilder(served, self.broker, around.codec, around.bounds)
        self._waiters = CommitWaiters()
        self._in_flight: asyncio.Future[Claim] | None = None
        self._scheduled = False
        self._gone: BaseException | None = None
        self._is_gone = False

    # -- the host of the runner -----------------------------------------------------------------------------------

    def changed(self) -> None:
        """Commit soon."""
        if not self._scheduled and not self._in_flight and not self._is_gone:
            self._scheduled = True
            # Whoever made the change is not kept for it, and what the commit starts is not the body's.
            self._loop.call_soon(self._commit, context=self._around.variables)

    def after_commit(self, callback: Callable[[], None]) -> None:
        """Call back once everything done up to now is durable."""
        self._waiters.callbacks.append(callback)
        self.changed()

    def report(self, step: str | None, error: BaseException) -> FailureReport:
        """Log a step's failure; return what callers may be told."""
        return self._reports.report(step, error)

    def executed(self, step: str, outcome: str, seconds: float) -> None:
        """Count an execution that is over."""
        self._around.metrics.workflow(self.served.name).step(step, outcome, seconds)

    # -- what callers do ------------------------------------------------------------------------------------------

    @property
    def store(self) -> InMemoryStateStore[Any]:
        """The state of the run."""
        return self.broker.store

    @property
    def created(self) -> bool:
        """Whether the run's first commit is durable."""
        return self._claim is not None

    @property
    def gone(self) -> bool:
        """Whether the run has left memory."""
        return self._is_gone

    @property
    def clean(self) -> bool:
        """Whether everything is durable and nothing waits for a commit."""
        return not (self._in_flight is not None or self._scheduled or self._waiters or self._uncommitted)

    @property
    def busy(self) -> bool:
        """Whether the body of a step is at work, not parked."""
        return any(execution.delivery.status == "running" for execution in self.broker.executions.values())

    @property
    def _uncommitted(self) -> bool:
        return self._hosted.journal.uncommitted or self.answers.uncommitted

    def trimmed(self, first: int) -> None:
        """Note that the log of the run now begins at sequence `first`."""
        self.record.first_available = first
        self.broker.bound_log(first)

    def make_durable(self) -> None:
        """Keep a journal from here on."""
        self._hosted.make_durable()
        self.broker.bound_log(self.record.first_available)

    def go(self) -> None:
        """Let the runner drive the run from now on."""
        self.paused = False
        self._hosted.go(self.served.name, self.record.info.get("trace", {}), resumed=self.created)

    def act(self) -> None:
        """Let the runner act on a transition that was just made."""
        if not self.paused:
            self._hosted.act()

    def survive(self, suspect: int) -> None:
        """Note that the run has survived its trial: its deliveries are `suspect` of that many crashes at most."""
        self.survived = True
        self.broker.touch_head()
        for delivery in self.broker.deliveries.values():
            if delivery.lost > suspect:
                delivery.lost = suspect
                self.broker.work.touch(delivery)

    def exceed(self, message: str) -> None:
        """Fail the run because it has reached a limit."""
        self.broker.exceed(message)

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
        except Exception:
            await self.committed()
            raise
        await self.committed()
        return answer

    async def committed(self) -> None:
        """Wait until everything done up to now is durable. Raises StoreDownError when it cannot be."""
        self.raise_if_gone()
        if not self._in_flight and not self._scheduled and not self._uncommitted:
            return
        future: asyncio.Future[None] = self._loop.create_future()
        self._waiters.acks.append(future)
        self.changed()
        await future

    def raise_if_gone(self) -> None:
        """Raise what lost the run, if a failed commit did."""
        if self._is_gone and self._gone is not None:
            raise as_runs_error(self._gone)

    # -- leaving memory -------------------------------------------------------------------------------------------

    def release(self) -> bool:
        """Leave memory, if the run only waits and everything is durable; return whether it did."""
        broker = self.broker
        if not self.clean or not broker.idle or self.paused or self.store.locked:
            return False
        if any(waiter.delivery is None for waiter in broker.waits):
            return False
        self._leave(None)
        self._loop.call_later(_DISPOSE_SECONDS, self._dispose)
        return True

    def freeze(self) -> None:
        """Start nothing any more and cancel what runs; what it worked on is queued again and committed."""
        self._hosted.freeze()
        self.changed()

    def abandon(self, error: StoreError) -> None:
        """Take the commit in flight, which does not finish, for failed, and tell the callers that wait for it."""
        if self._in_flight is None:
            self._leave(error)
        elif not self._in_flight.done():
            self._in_flight.set_exception(error)

    def _leave(self, error: BaseException | None) -> None:
        if self._is_gone:
            return
        self._is_gone = True
        self._gone = error
        self._hosted.freeze()
        self._around.on_gone(self, error)
        if error is None:
            self._waiters.acknowledge()
            self._waiters.callbacks.clear()
        else:
            self._waiters.refuse(as_runs_error(error))

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
        if self._in_flight or self._is_gone:
            return
        if not self._uncommitted and self._claim is not None:
            self._durable(self._waiters.take())
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
                paused=self.paused,
                survived=self.survived,
                traceback=self._reports.traceback,
            )
        except Exception as error:  # noqa: BLE001 - the author's types may raise anything while they are encoded
            # Nothing may go on that cannot be made durable: drop the run and tell the callers that wait.
            self._reports.log("a commit could not be made", error=error)
            self._leave(error)
            return
        if commit.record.status in TERMINAL:
            self._hosted.act()  # a limit, or a damaged value of the state, may have ended the run just now
            self._reports.log_limit()
        waiters = self._waiters.take()
        future = self._in_flight = self._around.store.commit(commit)
        future.add_done_callback(lambda done: self._committed(done, commit, waiters))

    def _committed(self, future: asyncio.Future[Claim], commit: Commit, waiters: CommitWaiters) -> None:
        """Go on after a commit, or drop the run when it failed."""
        self._in_flight = None
        error = future.exception()
        if error is not None:
            # A failed commit is a crash of this run: drop it, the next call loads it again.
            if not isinstance(error, RunExistsError | StartRequestExistsError):  # a start that came twice is no failure
                self._reports.log("a commit failed: %s", error)
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
        self._durable(waiters, commit)
        if commit.record.status in TERMINAL and self.clean:
            self._end()
            return
        if self._uncommitted or self._waiters:
            self._scheduled = True
            self._commit()

    def _durable(self, waiters: CommitWaiters, commit: Commit | None = None) -> None:
        # Acknowledgements first: a send_result precedes the entries of its commit.
        if failpoints.ACTIVE:
            failpoints.hit("ack.before")
        waiters.acknowledge()
        if commit is not None:
            self._around.on_commit(commit)
        if not self.broker.frozen:
            waiters.call_back()
