"""Commit what changes in one run, one commit in flight at a time, and tell those that wait for it."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable
from typing import TypeVar

from stepwire.server import failpoints
from stepwire.server.runs.errors import as_runs_error
from stepwire.server.runs.hosting.commits.commit import CommitBuilder
from stepwire.server.runs.hosting.commits.committed_run import CommittedRun
from stepwire.server.runs.hosting.commits.waiters import CommitWaiters
from stepwire.server.runs.hosting.failures import FailureReports
from stepwire.server.runs.hosting.run_scope import RunScope
from stepwire.server.runs.hosting.surroundings import Surroundings
from stepwire.server.runs.idempotency import Answers
from stepwire.server.store import (
    TERMINAL,
    Claim,
    Cluster,
    Commit,
    QuotaExceededError,
    RequestRecord,
    RunExistsError,
    StartRequestExistsError,
    Status,
    StoreError,
    level_of,
)
from stepwire.workflow.hosting import FailureReport, progress

__all__ = ["RunCommits"]

T = TypeVar("T")


class RunCommits:
    """Commit one run (docs/architecture.md: Durability). It is the `Host` of the engine that drives the run.

    It owns the run's claim, the commit in flight, the answers to requests that commits keep, and who waits for the
    next commit. It holds the run until `close`, so that a run that has left memory is freed at once.

    Attributes:
        claim: The claim under which it commits; None before the first commit.
        hosted: What drives the run, and tells what changed.
    """

    # Many runs wait in memory, so every attribute counts.
    __slots__ = (
        "_answers",
        "_around",
        "_builder",
        "_error",
        "_in_flight",
        "_loop",
        "_made_reports",
        "_run",
        "_scheduled",
        "_scope",
        "_waiters",
        "claim",
        "hosted",
    )

    def __init__(self, run: CommittedRun, claim: Claim | None, around: Surroundings) -> None:
        """Commit nothing yet.

        Args:
            run: The run; its `served` and `record` are set.
            claim: Its claim; None for a new run, whose first commit creates it.
            around: What it shares with the other runs.
        """
        served, record = run.served, run.record
        self._run: CommittedRun | None = run
        """None once the run has left memory: nothing is committed any more."""
        self._around = around
        self._loop = asyncio.get_running_loop()
        self._scope = RunScope.of(served.name, record)
        self.claim = claim
        self.hosted = around.drive(served, record, self, self._scope)
        self._builder = CommitBuilder(around.codec, around.bounds)
        self._answers: Answers | None = None
        self._made_reports: FailureReports | None = None
        self._waiters: CommitWaiters | None = None
        """Who waits for the next commit; None for nobody."""
        self._scheduled = False
        self._in_flight: asyncio.Future[Claim] | None = None
        self._error: BaseException | None = None
        """What lost the run, if a failed commit did."""

    # -- the host of the engine -----------------------------------------------------------------------------------

    def changed(self) -> None:
        """Commit soon."""
        if not self._scheduled and not self._in_flight and self._run is not None:
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
            self._made_reports = FailureReports(self.hosted.broker, self._scope, self._around.failure_detail)
        return self._made_reports

    def report(
        self, step: str | None, error: BaseException, *, attempt: int = 0, next_at: float | None = None
    ) -> FailureReport:
        """Log a step's failure; return what callers may be told."""
        return self._reports.report(step, error, attempt=attempt, next_at=next_at)

    def executed(self, step: str, outcome: str, seconds: float) -> None:
        """Count an execution that is over."""
        self._around.metrics.workflow(self._scope.workflow).step(step, outcome, seconds)

    # -- what waits for commits -----------------------------------------------------------------------------------

    @property
    def created(self) -> bool:
        """Whether the run's first commit is durable."""
        return self.claim is not None

    @property
    def clean(self) -> bool:
        """Whether everything is durable and nothing waits for a commit."""
        return not (self._in_flight is not None or self._scheduled or self._waiters is not None or self._uncommitted)

    @property
    def _uncommitted(self) -> bool:
        answers = self._answers
        return self.hosted.journal.uncommitted or (answers is not None and answers.uncommitted is not None)

    @property
    def answers(self) -> Answers:
        """The answers to requests that the run remembers. Most runs have none, so they are made at the first need."""
        if self._answers is None:
            self._answers = Answers()
        return self._answers

    def remember(self, request: RequestRecord) -> None:
        """Keep the answer to a request with the next commit."""
        self.answers.remember(request)
        self.changed()

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
            await self.wait()
            raise
        if not self._is_durable:
            await self.wait()
        return answer

    @property
    def _is_durable(self) -> bool:
        """Whether everything done up to now is durable, and sure to be this process's: `wait` would not wait."""
        cluster = self._around.cluster
        return (
            not (self._run is None or self._in_flight or self._scheduled)
            and not self._uncommitted
            and (cluster is None or cluster.fresh)
        )

    async def wait(self) -> None:
        """Wait until everything done up to now is durable. Raises StoreDownError when it cannot be."""
        self._raise_if_lost()
        if not self._in_flight and not self._scheduled and not self._uncommitted:
            if (cluster := self._around.cluster) is not None and not cluster.fresh:
                await self._hold(cluster)
            return
        future: asyncio.Future[None] = self._loop.create_future()
        self._next_waiters().acks.append(future)
        self.changed()
        await future

    async def _hold(self, cluster: Cluster) -> None:
        """Wait until it is sure that no other replica has taken the run. Raises StoreDownError if one has."""
        try:
            await cluster.hold()
        except StoreError as error:
            raise as_runs_error(error) from error
        self._raise_if_lost()

    def _raise_if_lost(self) -> None:
        """Raise what lost the run, if a failed commit did."""
        if self._error is not None:
            raise as_runs_error(self._error)

    # -- the end of the commits -----------------------------------------------------------------------------------

    def abandon(self, error: StoreError) -> None:
        """Take the commit in flight, which does not finish, for failed, and tell the callers that wait for it."""
        if self._in_flight is not None:
            if not self._in_flight.done():
                self._in_flight.set_exception(error)
        elif self._run is not None:
            self._run.leave(error)

    def close(self, error: BaseException | None) -> None:
        """Commit nothing any more: the run leaves memory, with what a commit failed with."""
        self._run = None
        self._error = error

    def dismiss(self) -> None:
        """Tell the callers that still wait after `close`: of a failed commit, else that everything is durable."""
        waiters, self._waiters = self._waiters, None
        if waiters is None:
            return
        if self._error is None:
            waiters.acknowledge()
        else:
            waiters.refuse(as_runs_error(self._error))

    # -- commits --------------------------------------------------------------------------------------------------

    def _commit(self) -> None:
        """Hand the store what changed since the last commit, unless a commit is in flight."""
        self._scheduled = False
        run = self._run
        if self._in_flight or run is None or run.broker.partial is not None:
            return  # the runner tells when a transition is whole that is made in slices
        if self.claim is not None and not self._uncommitted:
            waiters, self._waiters = self._waiters, None
            self._durable(waiters)
            if run.record.status in TERMINAL and self.clean:
                run.end()
            return
        if self._builder.prepare(run.broker):
            self._scheduled = True
            self._loop.call_soon(self._commit)
            return
        try:
            commit = self._builder.build(
                run,
                self.claim,
                [] if self._answers is None else self._answers.take(),
                paused_seconds=self._around.pauses.seconds_of(run.record, run.broker.clock),
                traceback="" if self._made_reports is None else self._made_reports.traceback,
            )
        except Exception as error:  # noqa: BLE001 - the author's types may raise anything while they are encoded
            # Nothing may go on that cannot be made durable: drop the run and tell the callers that wait.
            self._reports.log("a commit could not be made", error=error)
            run.leave(error)
            return
        if self.claim is None:
            commit.quota = self._around.quotas.pop(commit.record.key, None)
        if commit.record.status in TERMINAL:
            self.hosted.act()  # a limit, or a damaged value of the state, may have ended the run just now
        waiters, self._waiters = self._waiters, None
        future = self._in_flight = self._around.store.commit(commit)
        future.add_done_callback(lambda done: self._committed(run, done, commit, waiters))

    def _committed(
        self, run: CommittedRun, future: asyncio.Future[Claim], commit: Commit, waiters: CommitWaiters | None
    ) -> None:
        """Go on after a commit, or drop the run when it failed."""
        self._in_flight = None
        error = future.exception()
        if error is not None:
            # A failed commit is a crash of this run: drop it, the next call loads it again.
            if not isinstance(error, RunExistsError | StartRequestExistsError | QuotaExceededError):  # refused starts
                self._reports.log("a commit failed: %s", error, level=level_of(error, logging.ERROR))
            if waiters is not None:
                waiters.refuse(as_runs_error(error))
            run.leave(error)
            return
        record = commit.record
        before, ended = run.record.status if self.claim is not None else None, record.status in TERMINAL
        self.claim = future.result()
        run.recorded(record)
        if record.status is not before:
            self._tell_status(run, before, ended)
        self._durable(waiters, commit)
        if ended and self.clean:
            run.end()
            return
        if self._waiters is not None or self._uncommitted:
            self._scheduled = True
            self._commit()

    def _tell_status(self, run: CommittedRun, before: str | None, ended: bool) -> None:
        """Count the new status of the run, and log what operators want to know of it."""
        status = run.record.status
        self._around.metrics.workflow(self._scope.workflow).moved(before, status, ended=ended)
        if ended:
            if status != Status.COMPLETED and not run.served.own:
                self._reports.log_end(run.record)
        elif status is Status.WAITING and run.broker.untaken and progress.has_stalled(run.broker):
            self._reports.log_stall()

    def _durable(self, waiters: CommitWaiters | None, commit: Commit | None = None) -> None:
        # Acknowledgements first: a send_result precedes the entries of its commit.
        if failpoints.ACTIVE:
            failpoints.hit("ack.before")
        if waiters is not None:
            waiters.acknowledge()
        if commit is not None:
            self._around.on_commit(commit)
        if waiters is not None and not self.hosted.broker.frozen:
            waiters.call_back()
