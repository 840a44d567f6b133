"""A run in memory: its context, its runner, and the commits that make what it does durable."""

from __future__ import annotations

import asyncio
import contextvars
import logging
import traceback
from collections.abc import Callable
from concurrent.futures import Executor
from typing import Any
from uuid import uuid4

from stepwire.server import failpoints
from stepwire.server.registry import Served
from stepwire.server.runs.errors import as_runs_error
from stepwire.server.runs.hosting.delta import encode_delta
from stepwire.server.runs.hosting.record import next_record
from stepwire.server.runs.hosting.redact import without_texts
from stepwire.server.runs.hosting.scope import RUN, RunScope
from stepwire.server.runs.log.chunks import EntryCodec, chunks_of
from stepwire.server.store import (
    KEPT_REQUESTS,
    TERMINAL,
    Claim,
    Commit,
    RequestRecord,
    RunRecord,
    RunStore,
    StoreError,
)
from stepwire.server.telemetry.metrics import WorkflowMetrics
from stepwire.server.telemetry.tracing import trace_id
from stepwire.workflow.hosting import (
    GONE,
    Alarm,
    Context,
    FailureReport,
    Journal,
    Runner,
    WorkflowError,
    all_parts,
    registry_encoder,
    running_execution,
    take_changes,
)

logger = logging.getLogger("stepwire.runs")

FULL_EVERY_BYTES = 64 * 1024
"""A commit writes all parts when the deltas since the last full one exceed this and four times that one's size."""
_DISPOSE_SECONDS = 1.0
"""How long after its release or end a run's steps that were cancelled may still have a last word."""


class LiveRun:
    """Host one run: drive its broker, commit what changed, one commit in flight at a time (DESIGN: the commit).

    `on_gone` is called once, when the run is not in memory any more: with None after its end or release, with the
    error after a failed commit.
    """

    # Many runs wait in memory: what each holds is what they cost.
    __slots__ = (
        "__weakref__",
        "_acks",
        "_callbacks",
        "_claim",
        "_codec",
        "_deltas",
        "_failure_detail",
        "_full_size",
        "_gone",
        "_in_flight",
        "_is_gone",
        "_loop",
        "_metrics",
        "_on_commit",
        "_on_gone",
        "_requests",
        "_runner",
        "_scheduled",
        "_scope",
        "_store",
        "_traceback",
        "answered",
        "context",
        "idle_since",
        "journal",
        "key",
        "paused",
        "record",
        "served",
        "took_place",
    )

    def __init__(
        self,
        served: Served,
        store: RunStore,
        codec: EntryCodec,
        record: RunRecord,
        *,
        claim: Claim | None = None,
        failure_detail: str = "message",
        executor: Executor | None = None,
        metrics: WorkflowMetrics | None = None,
        alarm: Alarm | None = None,
        on_commit: Callable[[Commit], None],
        on_gone: Callable[[LiveRun, BaseException | None], None],
    ) -> None:
        self.served = served
        self.record = record
        """The record as of the last durable commit (of a new run, as it will be created)."""
        self.key = record.key
        self.answered: dict[str, RequestRecord] = {}
        """Answered requests by id, also those whose commit is still under way."""
        self.context: Context[Any] = Context(served.workflow)
        self.context.run_id = record.key.run_id
        self.journal = Journal(served.names, self.changed)
        self.idle_since = 0.0
        self.paused = False
        """Queued behind the workflow's concurrent runs: nothing starts."""
        self.took_place = False
        """It is this run in memory that took a place of the workflow's concurrent runs."""
        self._store = store
        self._codec = codec
        self._claim = claim
        self._failure_detail = failure_detail
        self._metrics = metrics or WorkflowMetrics()
        self._on_commit = on_commit
        self._on_gone = on_gone
        self._loop = asyncio.get_running_loop()
        # Steps, and what they log, know their run by a context variable that the runner keeps for them; they know
        # nothing of the call that started or loaded it, whose message and credential would live as long as the run.
        principal, trace = record.info.get("principal", ""), trace_id(record.info.get("trace", {}))
        self._scope = RunScope(served.name, record.key.run_id, principal, trace)
        variables = contextvars.Context()
        variables.run(RUN.set, self._scope)
        broker = self.context._broker
        self._runner = variables.run(
            Runner, served.workflow, self.context, broker, host=self, executor=executor, alarm=alarm
        )
        self._callbacks: list[Callable[[], None]] = []
        self._acks: list[asyncio.Future[None]] = []
        self._requests: list[RequestRecord] = []
        self._in_flight: asyncio.Future[Claim] | None = None
        self._scheduled = False
        self._gone: BaseException | None = None
        self._is_gone = False
        self._deltas = 0
        self._full_size = 0
        self._traceback = ""
        """What may be told of where the run failed."""

    # -- the host of the runner -----------------------------------------------------------------------------------

    def changed(self) -> None:
        """Commit soon."""
        if not self._scheduled and not self._in_flight and not self._is_gone:
            self._scheduled = True
            self._loop.call_soon(self._commit)

    def after_commit(self, callback: Callable[[], None]) -> None:
        """Call back once everything done up to now is durable."""
        self._callbacks.append(callback)
        self.changed()

    def report(self, step: str | None, error: BaseException) -> FailureReport:
        """Log a step's failure under a reference id; tell of it, in the log too, what `failure_detail` allows."""
        reference = uuid4().hex[:16]
        logger.error(
            "run %s: step %s failed (reference %s)",
            self.key.run_id,
            step,
            reference,
            exc_info=self._shown(error),
            extra=self._about(step),
        )
        message = trace = ""
        public = error.public if isinstance(error, WorkflowError) else None
        if self._failure_detail in ("message", "traceback"):
            message = str(error)
        elif public is not None:
            message = public
        if self._failure_detail == "traceback":
            trace = "".join(traceback.format_exception(error))[-16_384:]
        self._traceback = trace
        return FailureReport(message, trace, reference)

    def _about(self, step: str | None = None) -> dict[str, Any]:
        """Tell the log what a record is about: timers and commits run in anyone's task."""
        about: dict[str, Any] = {"method": None, "attempt": None, **self._scope.log_fields(), "step": step}
        execution = running_execution()
        if execution is not None and execution.broker is self.context._broker and execution.delivery.step == step:
            about["attempt"] = execution.delivery.attempt
        return {"stepwire": about}

    def _shown(self, error: BaseException) -> Any:
        if self._failure_detail == "type":
            return without_texts(error)
        return type(error), error, error.__traceback__

    def executed(self, step: str, outcome: str, seconds: float) -> None:
        """Count an execution that is over."""
        self._metrics.step(step, outcome, seconds)

    # -- entry points ---------------------------------------------------------------------------------------------

    def make_durable(self) -> None:
        """Keep a journal from here on."""
        self.context._make_durable(self.journal)

    def go(self) -> None:
        """Let the runner drive the run from now on."""
        self.paused = False
        self._runner.trace(self.served.name, self.record.info.get("trace", {}), resumed=self._claim is not None)
        self.context._runner = self._runner
        self._runner.pump()

    def act(self) -> None:
        """Let the runner act on a transition that was just made."""
        if not self.paused:
            self._runner.pump()

    def cancel(self, reason: str) -> None:
        """Cancel the run."""
        self._runner.cancel(reason)

    async def committed(self) -> None:
        """Wait until everything done up to now is durable; StoreDownError when it cannot be."""
        self.raise_if_gone()
        if not self._in_flight and not self._scheduled and not self.journal.dirty and not self.journal.entries:
            return
        future: asyncio.Future[None] = self._loop.create_future()
        self._acks.append(future)
        self.changed()
        await future

    def remember(self, request: RequestRecord) -> None:
        """Keep the answer to a request with the next commit."""
        self.answered[request.request_id] = request
        if len(self.answered) > KEPT_REQUESTS:
            del self.answered[next(iter(self.answered))]
        self._requests.append(request)
        self.changed()

    def raise_if_gone(self) -> None:
        """Raise what a call gets that came too late for this run in memory."""
        if self._is_gone and self._gone is not None:
            raise as_runs_error(self._gone)

    @property
    def gone(self) -> bool:
        """Whether the run is not in memory any more."""
        return self._is_gone

    @property
    def clean(self) -> bool:
        """Whether everything is durable and nothing waits for a commit."""
        return not (
            self._in_flight is not None
            or self._scheduled
            or self._callbacks
            or self._acks
            or self._requests
            or self.journal.dirty
            or self.journal.entries
        )

    def release(self) -> bool:
        """Leave memory, if the run only waits and everything is durable (DESIGN: Release)."""
        broker = self.context._broker
        if not self.clean or broker.active or self.paused or self.context.store.locked:
            return False
        if any(waiter.delivery is None for waiter in broker.waits):
            return False
        self._leave(None)
        self._loop.call_later(_DISPOSE_SECONDS, self._dispose)
        return True

    def _end(self) -> None:
        """Leave memory, the end being durable."""
        self._leave(None)
        if self.context._broker.cut_off:
            self._loop.call_later(_DISPOSE_SECONDS, self._dispose)
        else:
            self._dispose()

    def _dispose(self) -> None:
        """Cut what refers back, once no step has a last word to say.

        So a run that left memory is freed at once: the next collection of old garbage may be hours away, and
        collecting took a quarter of the time of short runs.
        """
        broker, store = self.context._broker, self.context._store
        self._runner._host = None
        self.context._runner = None
        self.journal._changed = _nothing
        store.hooks = GONE
        for waiter in list(broker.waits):
            broker.waits.remove(waiter)
            waiter.timer = None
        for delivery in broker.deliveries.values():
            delivery.timer = None

    def freeze(self) -> None:
        """Start nothing any more and cancel what runs; what it worked on is queued again (DESIGN: drain)."""
        self._runner.freeze()
        self.changed()

    def abandon(self, error: StoreError) -> None:
        """Take the commit in flight, which does not come, for failed; tell those who wait."""
        if self._in_flight is None:
            self._leave(error)
        elif not self._in_flight.done():
            self._in_flight.set_exception(error)

    def _leave(self, error: BaseException | None) -> None:
        if self._is_gone:
            return
        self._is_gone = True
        self._gone = error
        self._runner.freeze()
        self._on_gone(self, error)
        failure = as_runs_error(error) if error is not None else None
        for ack in self._acks:
            if not ack.done():
                if failure is None:
                    ack.set_result(None)
                else:
                    ack.set_exception(failure)
        self._acks.clear()
        self._callbacks.clear()

    # -- commits --------------------------------------------------------------------------------------------------

    def _commit(self) -> None:
        """Hand the store what changed since the last commit, unless one is in flight."""
        self._scheduled = False
        if self._in_flight or self._is_gone:
            return
        if not (self.journal.dirty or self.journal.entries or self._requests) and self._claim is not None:
            self._durable(self._take_callbacks(), self._take_acks())
            if self.record.status in TERMINAL and self.clean:
                self._end()
            return
        try:
            commit, callbacks, acks = self._build()
        except Exception as error:
            # Nothing may go on that cannot be made durable: the run is dropped, those who wait are told.
            shown, about = self._shown(error), self._about()
            logger.error("run %s: a commit could not be made", self.key.run_id, exc_info=shown, extra=about)
            self._leave(error)
            return
        future = self._in_flight = self._store.commit(commit)
        future.add_done_callback(lambda done: self._committed(done, commit, callbacks, acks))

    def _build(self) -> tuple[Commit, list[Callable[[], None]], list[asyncio.Future[None]]]:
        """Take what changed since the last commit, and who waits for it."""
        broker = self.context._broker
        ended = broker.outcome is not None
        damaged = False
        if failpoints.ACTIVE:
            failpoints.hit("snapshot.before")
        changes = take_changes(broker)
        if broker.outcome is not None and not ended:
            # A state value that was damaged in place has just failed the run.
            self._runner.pump()
            changes = _joined(changes, take_changes(broker))
            damaged = True
        parts = changes.parts
        full = self._claim is None
        delta = encode_delta(parts, changes.deleted)
        # What was damaged has no form to be written in full; the value last committed stays.
        if not full and not damaged and self._deltas + len(delta) > max(FULL_EVERY_BYTES, 4 * self._full_size):
            full = True
            delta = encode_delta(all_parts(broker, registry_encoder(self.served.names)))
        if full:
            self._full_size, self._deltas = len(delta), 0
        else:
            self._deltas += len(delta)
        requests, self._requests = self._requests, []
        record = next_record(self.record, self.served, broker, changes, paused=self.paused, traceback=self._traceback)
        commit = Commit(record, self._claim, delta, full, chunks_of(changes.entries, self._codec), requests)
        if failpoints.ACTIVE:
            failpoints.hit("snapshot.after")
        return commit, self._take_callbacks(), self._take_acks()

    def _take_callbacks(self) -> list[Callable[[], None]]:
        taken, self._callbacks = self._callbacks, []
        return taken

    def _take_acks(self) -> list[asyncio.Future[None]]:
        taken, self._acks = self._acks, []
        return taken

    def _committed(
        self,
        future: asyncio.Future[Claim],
        commit: Commit,
        callbacks: list[Callable[[], None]],
        acks: list[asyncio.Future[None]],
    ) -> None:
        self._in_flight = None
        error = future.exception()
        if error is not None:
            # A failed commit is a crash of this run: drop it, the next call loads it again.
            logger.error("run %s: a commit failed: %s", self.key.run_id, error, extra=self._about())
            self._acks = acks + self._acks
            self._leave(error)
            return
        if self._claim is None or commit.record.status is not self.record.status:
            before = None if self._claim is None else self.record.status
            self._metrics.moved(before, commit.record.status, ended=commit.record.status in TERMINAL)
        self._claim = future.result()
        commit.record.first_available = self.record.first_available  # the log may have been trimmed meanwhile
        self.record = commit.record
        self._durable(callbacks, acks, commit)
        if commit.record.status in TERMINAL and self.clean:
            self._end()
            return
        if self.journal.dirty or self.journal.entries or self._requests or self._callbacks or self._acks:
            self._scheduled = True
            self._commit()

    def _durable(
        self, callbacks: list[Callable[[], None]], acks: list[asyncio.Future[None]], commit: Commit | None = None
    ) -> None:
        # Acknowledgements first: a send_result precedes the entries of its commit.
        if failpoints.ACTIVE:
            failpoints.hit("ack.before")
        for ack in acks:
            if not ack.done():
                ack.set_result(None)
        if commit is not None:
            self._on_commit(commit)
        if self.context._broker.frozen:
            return
        for callback in callbacks:
            callback()


def _nothing() -> None:
    """Take the place of what called the host of a run."""


def _joined(first: Any, second: Any) -> Any:
    parts = {**first.parts, **second.parts}
    gone = set(second.deleted)
    deleted = [key for key in first.deleted if key not in second.parts] + second.deleted
    return type(first)(
        {key: value for key, value in parts.items() if key not in gone}, deleted, first.entries + second.entries
    )
