"""The runs in memory: host them, find them, load and release them."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import sys
from collections import OrderedDict
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

from stepwire.server import failpoints
from stepwire.server.principal import Principal
from stepwire.server.registry import Registry, Served
from stepwire.server.runs.errors import (
    DrainingError,
    LimitError,
    RunBlockedError,
    RunFinishedError,
    RunNotFoundError,
    RunsError,
    StoreDownError,
    as_runs_error,
)
from stepwire.server.runs.hosting.concurrency import Places
from stepwire.server.runs.hosting.delta import Parts, encode_delta, fold
from stepwire.server.runs.hosting.live_run import LiveRun
from stepwire.server.runs.hosting.retention import Retention
from stepwire.server.runs.hosting.step_threads import StepThreads
from stepwire.server.runs.limits import RunLimits, RunQuota
from stepwire.server.runs.log.chunks import EntryCodec
from stepwire.server.runs.log.feed import Feeds
from stepwire.server.store import (
    TERMINAL,
    Commit,
    RunExistsError,
    RunKey,
    RunQuery,
    RunRecord,
    RunStore,
    StaleClaimError,
    StartRequestExistsError,
    Status,
    StoreCorruptError,
    StoreError,
    StoreUnavailableError,
)
from stepwire.server.telemetry.metrics import Metrics
from stepwire.workflow.hosting import CLOCK, Alarm, Broker, ContextSerdeError, SnapshotError, restore

logger = logging.getLogger("stepwire.runs")

_LOAD_AT_ONCE = 64
_ENDED_KEPT = 1024
_DUE_AT_ONCE = 1024
_RETRY_SECONDS = 0.5
"""How long after a failed commit the runs that it dropped are loaded again, unless someone asks for them before."""
_LAST_COMMIT_SECONDS = 2.0
"""Beyond the grace: how long the last commits may take when the server stops."""


class LiveRuns:
    """Hold the live runs and bring in others when something needs them.

    `idle_after` is how long a run may only wait before it leaves memory, in seconds. Errors are `RunsError`s.
    """

    def __init__(
        self,
        registry: Registry,
        store: RunStore,
        codec: EntryCodec,
        *,
        idle_after: float = 60.0,
        failure_detail: str = "message",
        sync_threads: int = 64,
        retention: Retention | None = None,
        limits: RunLimits | None = None,
        quota: RunQuota | None = None,
        metrics: Metrics | None = None,
    ) -> None:
        self.registry = registry
        self.store = store
        self.codec = codec
        self.feeds = Feeds(store, self.find)
        self._idle_after = idle_after
        self._failure_detail = failure_detail
        self._threads = StepThreads(sync_threads)
        self._retention = retention or Retention()
        self.limits = limits or RunLimits()
        self._quota = quota or RunQuota(0)
        self.metrics = metrics or Metrics()
        self._alarm: Alarm | None = None
        """Rings for all runs in memory."""
        self._live: dict[RunKey, LiveRun] = {}
        self._loading: dict[RunKey, asyncio.Future[LiveRun]] = {}
        self._ending: dict[RunKey, asyncio.Future[RunRecord]] = {}
        """Blocked runs that are being cancelled."""
        self.places = Places()
        self._tasks: set[asyncio.Task[Any]] = set()
        self._wake = asyncio.Event()
        self._next_look = 0.0
        self._ended: OrderedDict[RunKey, RunRecord] = OrderedDict()
        """Records of runs that have just ended: callers ask for them at once."""
        self._lost: set[RunKey] = set()
        """Runs that a failed commit dropped: they are loaded again when the store heals."""
        self._retry_at = 0.0
        self._draining = False

    async def open(self) -> int:
        """Take up every unfinished run that has work; return how many were taken up."""
        self._alarm = Alarm(asyncio.get_running_loop())
        await self._quota.open(self.store)
        for (workflow, status), count in (await self.store.counts()).items():
            if status not in TERMINAL:
                self.metrics.workflow(workflow).unfinished[status] = count
        for served in self.registry:
            await self.places.open(self.store, served)
            await self._unblock(served)
        taken = await self._take_up()
        self._spawn(self._keep_waking(), "wake")
        self._spawn(self._keep_releasing(), "release")
        self._spawn(self._retention.keep(self.registry, self.store, self._ended.clear, self._trimmed), "retention")
        return taken

    async def drain(self, grace: float) -> bool:
        """Refuse new work, give running steps `grace` seconds, then freeze every run and commit.

        False when the store does not commit in time: then who waits for it gets StoreDownError.
        """
        self._draining = True
        for task in list(self._tasks):
            task.cancel()
        deadline = asyncio.get_running_loop().time() + grace
        while asyncio.get_running_loop().time() < deadline:
            busy = [run for run in self._live.values() if run.context._broker.executions and _runs(run)]
            if not busy:
                break
            waits = [asyncio.ensure_future(self._quiet(run)) for run in busy]
            _, pending = await asyncio.wait(waits, timeout=max(0.0, deadline - asyncio.get_running_loop().time()))
            for waiting in pending:
                waiting.cancel()
        runs = list(self._live.values())
        for run in runs:
            run.freeze()
        try:
            async with asyncio.timeout_at(deadline + _LAST_COMMIT_SECONDS):
                await asyncio.gather(*(run.committed() for run in runs), return_exceptions=True)
        except TimeoutError:
            logger.error("the store does not commit: what was not acknowledged is left")
            for run in runs:
                if not run.clean:
                    run.abandon(StoreUnavailableError("the store did not commit in time"))
            return False
        return True

    async def _quiet(self, run: LiveRun) -> None:
        """Wait for the run's next commit; its steps finish by committing."""
        if run._claim is None:
            with contextlib.suppress(RunsError):  # it is dropped then, and not waited for again
                await run.committed()
            return
        feed = await self.feeds.open(run.key)
        try:
            await feed.changed()
        finally:
            self.feeds.close(run.key, feed)

    def _trimmed(self, key: RunKey, first: int) -> None:
        """Take in that a run's log begins later now."""
        if (run := self._live.get(key)) is not None:
            run.record.first_available = first
        elif (loading := self._loading.get(key)) is not None:
            loading.add_done_callback(lambda _: self._trimmed(key, first))  # its record may be the one before
        self.feeds.trimmed(key, first)

    def _spawn(self, work: Any, name: str) -> None:
        task = asyncio.create_task(work, name=f"stepwire-{name}")
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    def _host(self, served: Served, record: RunRecord, claim: Any) -> LiveRun:
        return LiveRun(
            served,
            self.store,
            self.codec,
            record,
            claim=claim,
            failure_detail=self._failure_detail,
            executor=self._threads,
            metrics=self.metrics.workflow(served.name),
            alarm=self._alarm,
            on_commit=self.feeds.committed,
            on_gone=self._gone,
        )

    def _restore(self, run: LiveRun, parts: Parts, at: float, version: str, *, fork: bool) -> None:
        served = run.served
        if version != served.version and (migrate := getattr(served.workflow, "migrate", None)) is not None:
            try:
                parts = migrate(parts)
            except Exception as error:  # the author's code may raise anything
                raise SnapshotError(f"migrate() raised {type(error).__name__}") from error
        restore(
            run.context._broker,
            parts,
            served.names,
            saved_at=at,
            fork=fork,
            validate=version != served.version,
        )

    def _gone(self, run: LiveRun, error: BaseException | None) -> None:
        """Forget a run that left memory; let the next one go when it has ended."""
        if self._live.get(run.key) is run:
            del self._live[run.key]
        unborn = error is not None and run._claim is None
        if run.record.status in TERMINAL or (error is not None and run.paused) or (unborn and run.took_place):
            self.places.free(run.served, run.key)
        record = run.record
        if error is not None:
            # A first commit that was refused left nothing; after any other failure the run may be there.
            if not isinstance(error, StaleClaimError | RunExistsError | StartRequestExistsError):
                self._lost.add(run.key)
                self._retry_at = now() + _RETRY_SECONDS
                self._wake.set()
        elif record.status in TERMINAL:
            self._ended[record.key] = record
            if len(self._ended) > _ENDED_KEPT:
                self._ended.popitem(last=False)
        elif record.wake_at is not None and record.wake_at < self._next_look:
            self._wake.set()

    async def find(self, key: RunKey) -> RunRecord | None:
        """Return the record of a run, as committed."""
        run = self._live.get(key)
        if run is not None and run._claim is not None:
            return run.record
        if (ended := self._ended.get(key)) is not None:
            return ended
        try:
            return await self.store.get(key)
        except StoreError as error:
            raise as_runs_error(error) from error

    async def get(self, caller: Principal, run_id: str) -> RunRecord:
        """Return the record of a run. RunNotFoundError."""
        record = await self.find(caller.key(run_id))
        if record is None or not caller.scopes.sees(record.workflow):
            raise RunNotFoundError(run_id)
        return record

    async def check_seen(self, caller: Principal, run_id: str) -> None:
        """Raise RunNotFoundError for a run of a workflow that the caller may not see."""
        if caller.scopes.restricted:
            await self.get(caller, run_id)

    async def live(self, caller: Principal, run_id: str) -> LiveRun:
        """Return a run that takes input, loaded if need be. RunNotFoundError, RunFinishedError, RunBlockedError."""
        key = caller.key(run_id)
        await self.check_seen(caller, run_id)
        run = self._live.get(key)
        if run is None or run.gone:
            run = await self._load(key)
        if run._claim is None:
            await run.committed()
        if run.context._broker.outcome is not None:
            raise RunFinishedError("The run has ended", run_id=run_id)
        return run

    async def _load(self, key: RunKey) -> LiveRun:
        """Load a run, once however many ask (DESIGN: loads are single-flight)."""
        loading = self._loading.get(key)
        if loading is None:
            loading = asyncio.ensure_future(self._do_load(key))
            self._loading[key] = loading
            loading.add_done_callback(lambda _: self._loading.pop(key, None))
        try:
            return await asyncio.shield(loading)
        finally:
            # A failure's traceback holds this frame: with the future in it that would be a circle.
            del loading

    async def _do_load(self, key: RunKey) -> LiveRun:
        try:
            record = await self.store.get(key)
            if record is None:
                raise RunNotFoundError(key.run_id)
            # A commit that failed may have been durable all the same, its last one too.
            self.feeds.found(record)
            served = self.registry.get(record.workflow)
            if record.status in TERMINAL:
                if served is not None:
                    self.places.free(served, key)
                raise RunFinishedError("The run has ended", run_id=key.run_id)
            if served is None:
                raise RunBlockedError("The run's workflow is not served here", workflow=record.workflow)
            if self._draining:
                raise DrainingError("The server is stopping")
            claim = await self.store.claim(key)
            if claim is None:
                raise RunNotFoundError(key.run_id)
            run = self._host(served, record, claim)
            try:
                stored = await self.store.load(key)
                if stored is None:
                    raise StoreCorruptError("its snapshots are missing")
                if failpoints.ACTIVE:
                    failpoints.hit("restore.before")
                self._restore(run, fold(stored), stored.at, record.info.get("version", ""), fork=False)
                if failpoints.ACTIVE:
                    failpoints.hit("restore.after")
                for request in await self.store.requests(key):
                    run.answered[request.request_id] = request
            except (ContextSerdeError, StoreCorruptError) as error:
                await self._block(record, claim, str(error))
                self.places.free(served, key)
                raise RunBlockedError(f"The run cannot go on: {error}") from error
        except StoreError as error:
            raise as_runs_error(error) from error
        run.make_durable()
        unblocked = record.status == Status.BLOCKED
        if unblocked:
            run.context._broker.touch_head()  # so that its record says so, also when it has nothing to do
        for delivery in run.context._broker.deliveries.values():
            run.context._broker.touch_delivery(delivery)
        self._live[key] = run
        self.metrics.loaded += 1
        self.places.admit(run)
        if unblocked:
            await run.committed()  # until then its record says that it is blocked
        return run

    async def _block(self, record: RunRecord, claim: Any, reason: str) -> None:
        """Mark a run that cannot go on with this code (DESIGN: new code, old runs)."""
        logger.warning("run %s is blocked: %s", record.key.run_id, reason)
        if record.status == Status.BLOCKED:
            return
        blocked = replace(
            record, status=Status.BLOCKED, updated_at=now(), info={**record.info, "blocked_reason": reason}
        )
        await self.store.commit(Commit(blocked, claim, encode_delta({}), False))
        self.metrics.workflow(record.workflow).moved(record.status, Status.BLOCKED, ended=False)

    async def _unblock(self, served: Served) -> None:
        """Try runs that were blocked under other code."""
        for namespace in await self.store.namespaces():
            query = RunQuery(namespace=namespace, workflow=served.name, statuses=(Status.BLOCKED,), limit=1000)
            while records := await self.store.list(query):
                await self._load_all([record.key for record in records])
                query.before = (records[-1].created_at, records[-1].key.run_id)

    async def _take_up(self) -> int:
        """At the start: load every unfinished run that has work or whose deadline has passed."""
        return await self._load_due((-1.0, 0))

    async def _load_due(self, place: tuple[float, int]) -> int:
        """Load the runs that are due, those behind a place in the order; return how many were not in memory."""
        taken = 0
        names = self.registry.names()
        while due := await self.store.due(now(), _DUE_AT_ONCE, workflows=names, after=place):
            place = (due[-1].wake_at, due[-1].handle)
            taken += await self._load_all([run.key for run in due])
        return taken

    async def _load_all(self, keys: Sequence[RunKey]) -> int:
        taken = 0
        todo = [key for key in keys if key not in self._live]
        for start in range(0, len(todo), _LOAD_AT_ONCE):
            batch = todo[start : start + _LOAD_AT_ONCE]
            results = await asyncio.gather(*(self._load(key) for key in batch), return_exceptions=True)
            for key, result in zip(batch, results, strict=True):
                if not isinstance(result, BaseException):
                    taken += 1
                elif isinstance(result, StoreDownError | LimitError):
                    self._lost.add(key)
                    self._retry_at = now() + _RETRY_SECONDS
                elif not isinstance(result, RunFinishedError | RunNotFoundError):
                    logger.warning("run %s was not taken up: %s", key.run_id, result)
        return taken

    async def _keep_waking(self) -> None:
        """Load runs whose deadlines come while they are not in memory, and those that a failed commit dropped."""
        while True:
            self._wake.clear()
            try:
                at = now()
                names = self.registry.names()
                due = await self.store.next_wake(at, workflows=names)
                # A deadline far away is looked at again: another process may have moved it.
                wait = 60.0 if due is None else min(60.0, max(0.01, due - at))
                if self._lost:
                    wait = min(wait, max(0.01, self._retry_at - at))
                self._next_look = at + wait
                with contextlib.suppress(TimeoutError):
                    await asyncio.wait_for(self._wake.wait(), wait)
                # Not at once: a store that stays down would be asked without a pause.
                if self._lost and now() >= self._retry_at:
                    lost, self._lost = self._lost, set()
                    await self._load_all(list(lost))
                await self._load_due((0.0, sys.maxsize))
            except StoreError as error:
                logger.warning("cannot look for runs that are due: %s", error)
                await asyncio.sleep(_RETRY_SECONDS)

    async def _keep_releasing(self) -> None:
        """Let go of runs that have only waited for `idle_after` seconds."""
        while True:
            await asyncio.sleep(max(0.05, self._idle_after / 4))
            keys = list(self._live)
            for start in range(0, len(keys), _LOAD_AT_ONCE):
                self._release_idle(keys[start : start + _LOAD_AT_ONCE])
                await asyncio.sleep(0)  # of 100,000 at once no caller must wait for all

    def _release_idle(self, keys: Sequence[RunKey]) -> None:
        now = asyncio.get_running_loop().time()
        for key in keys:
            run = self._live.get(key)
            if run is None:
                continue
            if run.context._broker.active or run.paused:
                run.idle_since = 0.0
            elif not run.idle_since:
                run.idle_since = now
            elif now - run.idle_since >= self._idle_after:
                self.metrics.released += run.release()

    @property
    def sync_backlog(self) -> int:
        """How many sync steps wait for a thread."""
        return self._threads.backlog

    def depths(self) -> dict[str, tuple[int, int]]:
        """Count queued deliveries and open waiters of the runs in memory, by workflow. From any thread."""
        found: dict[str, tuple[int, int]] = {}
        for run in list(self._live.values()):
            broker = run.context._broker
            queued, waiters = found.get(run.served.name, (0, 0))
            if broker.active:
                queued += sum(map(len, broker.queues.values()))
            found[run.served.name] = queued, waiters + len(broker.waits)
        return found

    def locate(self, broker: Broker) -> tuple[str, str]:
        """Give the workflow and the run_id of a broker; empty when it is of no run in memory. From any thread."""
        for run in list(self._live.values()):
            if run.context._broker is broker:
                return run.served.name, run.key.run_id
        return "", ""

    @property
    def live_runs(self) -> int:
        """How many runs are in memory."""
        return len(self._live)


def _runs(run: LiveRun) -> bool:
    """Tell whether a body of the run is at work, not parked."""
    return any(execution.delivery.status == "running" for execution in run.context._broker.executions.values())


def now() -> float:
    """Return the present time, in seconds since the epoch."""
    return CLOCK.now()
