"""Which runs are in memory: find them, host new ones, load others when something needs them."""

from __future__ import annotations

import asyncio
from collections import OrderedDict
from collections.abc import Iterable, Iterator

from stepwire.server.principal import Principal
from stepwire.server.registry import Registry, Served
from stepwire.server.runs.errors import (
    DrainingError,
    RunBlockedError,
    RunFinishedError,
    RunNotFoundError,
    as_runs_error,
)
from stepwire.server.runs.hosting.concurrency import RunSlots
from stepwire.server.runs.hosting.live_run import LiveRun, Surroundings
from stepwire.server.runs.hosting.loading import RunLoader
from stepwire.server.runs.hosting.step_threads import StepThreads
from stepwire.server.runs.hosting.waking import WakeList
from stepwire.server.runs.limits import RunLimits
from stepwire.server.runs.log.chunks import EntryCodec
from stepwire.server.runs.log.feed import Feeds
from stepwire.server.store import (
    TERMINAL,
    Claim,
    RunExistsError,
    RunKey,
    RunRecord,
    RunStore,
    StaleClaimError,
    StartRequestExistsError,
    Status,
    StoreError,
)
from stepwire.server.telemetry.metrics import Metrics
from stepwire.workflow.hosting import Alarm, Broker

__all__ = ["RunPool"]

_ENDED_KEPT = 1024
"""Records of ended runs kept in memory: callers ask for a run as soon as it has ended."""


class RunPool:
    """Hold the runs in memory, and bring in others when something needs them. Raises `RunsError`s."""

    def __init__(
        self,
        registry: Registry,
        store: RunStore,
        codec: EntryCodec,
        *,
        failure_detail: str = "message",
        sync_threads: int = 64,
        limits: RunLimits | None = None,
        metrics: Metrics | None = None,
    ) -> None:
        """Make an empty pool.

        Args:
            registry: The served workflows.
            store: Where runs are kept.
            codec: Encodes the entries of their logs.
            failure_detail: What callers are told of failures: `type`, `message` or `traceback`.
            sync_threads: How many sync steps run at a time.
            limits: What one run may hold.
            metrics: Counts what the runs do.
        """
        self.registry = registry
        self.store = store
        self.codec = codec
        self.limits = limits or RunLimits()
        self.metrics = metrics or Metrics()
        self.feeds = Feeds(store, self.find)
        self.slots = RunSlots()
        self.wakes = WakeList()
        self.draining = False
        """Whether the server is stopping: no run is loaded any more."""
        self._threads = StepThreads(sync_threads)
        self._around = Surroundings(
            store=store,
            codec=codec,
            executor=self._threads,
            metrics=self.metrics,
            failure_detail=failure_detail,
            on_commit=self.feeds.committed,
            on_gone=self._gone,
        )
        self._loader = RunLoader(registry, store, self.metrics, self.host)
        self._live: dict[RunKey, LiveRun] = {}
        self._loading: dict[RunKey, asyncio.Future[LiveRun]] = {}
        self._ended: OrderedDict[RunKey, RunRecord] = OrderedDict()

    def open(self) -> None:
        """Set the pool to work on the running event loop."""
        self._around.alarm = Alarm(asyncio.get_running_loop())

    # -- finding ------------------------------------------------------------------------------------------------------

    async def find(self, key: RunKey) -> RunRecord | None:
        """Return the record of a run, as committed; None when there is no such run."""
        run = self._live.get(key)
        if run is not None and run.created:
            return run.record
        if (ended := self._ended.get(key)) is not None:
            return ended
        try:
            return await self.store.get(key)
        except StoreError as error:
            raise as_runs_error(error) from error

    async def get(self, caller: Principal, run_id: str) -> RunRecord:
        """Return the record of a run that the caller may see. Raises RunNotFoundError."""
        record = await self.find(caller.key(run_id))
        if record is None or not caller.scopes.sees(record.workflow):
            raise RunNotFoundError(run_id)
        return record

    async def check_seen(self, caller: Principal, run_id: str) -> None:
        """Raise RunNotFoundError for a run of a workflow that the caller may not see."""
        if caller.scopes.restricted:
            await self.get(caller, run_id)

    async def live(self, caller: Principal, run_id: str) -> LiveRun:
        """Return a run that takes input, loaded if need be.

        Raises RunNotFoundError, RunFinishedError, RunBlockedError, and DrainingError for a run that is not in memory.
        """
        key = caller.key(run_id)
        await self.check_seen(caller, run_id)
        run = self._live.get(key)
        if run is None or run.gone:
            run = await self.load(key)
        if not run.created:
            await run.committed()
        if run.broker.outcome is not None:
            await run.committed()  # a crash before that would undo the end
            raise RunFinishedError("The run has ended", run_id=run_id)
        return run

    def in_memory(self, key: RunKey) -> LiveRun | None:
        """Return a run if it is in memory, also one whose first commit is still in flight."""
        return self._live.get(key)

    def __iter__(self) -> Iterator[LiveRun]:
        """Iterate over the runs in memory, as they are now. From any thread."""
        return iter(list(self._live.values()))

    def __len__(self) -> int:
        return len(self._live)

    # -- coming into memory -------------------------------------------------------------------------------------------

    def host(self, served: Served, record: RunRecord, claim: Claim | None = None) -> LiveRun:
        """Make a run; `add` brings it in."""
        return LiveRun(served, record, claim, self._around)

    def add(self, run: LiveRun) -> None:
        """Hold a run from here on."""
        self._live[run.key] = run

    async def load(self, key: RunKey) -> LiveRun:
        """Load a run, once however many callers ask. Raises as `live`."""
        loading = self._loading.get(key)
        if loading is None:
            loading = asyncio.ensure_future(self._load(key))
            self._loading[key] = loading
            loading.add_done_callback(lambda _: self._loading.pop(key, None))
        try:
            return await asyncio.shield(loading)
        finally:
            # A failure's traceback holds this frame: with the future in it that would be a circle.
            del loading

    async def _load(self, key: RunKey) -> LiveRun:
        try:
            record = await self.store.get(key)
        except StoreError as error:
            raise as_runs_error(error) from error
        if record is None:
            raise RunNotFoundError(key.run_id)
        # A commit that failed may have been durable all the same, the run's last one too.
        self.feeds.found(record)
        if self.draining and record.status not in TERMINAL:
            raise DrainingError("The server is stopping")
        try:
            run = await self._loader.load(record)
        except (RunFinishedError, RunBlockedError):
            if (served := self.registry.get(record.workflow)) is not None:
                self.slots.free(served, key)
            raise
        self.add(run)
        self.slots.admit(run)
        if record.status == Status.BLOCKED:
            await run.committed()  # until then its record says that it is blocked
        return run

    # -- leaving memory -----------------------------------------------------------------------------------------------

    def release(self, runs: Iterable[LiveRun], now: float, idle_after: float) -> None:
        """Release those of these runs that have only waited for `idle_after` seconds."""
        for run in runs:
            if run.gone:
                continue
            if run.broker.active or run.paused:
                run.idle_since = 0.0
            elif not run.idle_since:
                run.idle_since = now
            elif now - run.idle_since >= idle_after:
                self.metrics.released += run.release()

    def _gone(self, run: LiveRun, error: BaseException | None) -> None:
        """Forget a run that left memory; let the next one go when it has ended."""
        if self._live.get(run.key) is run:
            del self._live[run.key]
        record = run.record
        unborn = error is not None and not run.created
        if record.status in TERMINAL or (error is not None and run.paused) or (unborn and run.took_slot):
            self.slots.free(run.served, run.key)
        if error is not None:
            # A first commit that was refused left nothing. After any other failure the run may be in the store.
            if not isinstance(error, StaleClaimError | RunExistsError | StartRequestExistsError):
                self.wakes.add_lost(run.key)
        elif record.status in TERMINAL:
            self._ended[record.key] = record
            if len(self._ended) > _ENDED_KEPT:
                self._ended.popitem(last=False)
        else:
            self.wakes.expect(record)

    def forget_ended(self, key: RunKey | None = None) -> None:
        """Drop what memory knows of an ended run, or of all: it was deleted."""
        if key is None:
            self._ended.clear()
        else:
            self._ended.pop(key, None)
            self.feeds.deleted(key)

    def trimmed(self, key: RunKey, first: int) -> None:
        """Note that the log of a run now begins at sequence `first`."""
        if (run := self._live.get(key)) is not None:
            run.record.first_available = first
        elif (loading := self._loading.get(key)) is not None:
            loading.add_done_callback(lambda _: self.trimmed(key, first))  # its record may be the one before
        self.feeds.trimmed(key, first)

    # -- what operators see, from any thread --------------------------------------------------------------------------

    @property
    def sync_backlog(self) -> int:
        """How many sync steps wait for a thread."""
        return self._threads.backlog

    def depths(self) -> dict[str, tuple[int, int]]:
        """Count queued deliveries and open waiters of the runs in memory, by workflow."""
        found: dict[str, tuple[int, int]] = {}
        for run in self:
            broker = run.broker
            queued, waiters = found.get(run.served.name, (0, 0))
            if broker.active:
                queued += sum(map(len, broker.queues.values()))
            found[run.served.name] = queued, waiters + len(broker.waits)
        return found

    def locate(self, broker: Broker) -> tuple[str, str]:
        """Return the workflow and the run_id of a broker; empty when no run in memory has it."""
        for run in self:
            if run.broker is broker:
                return run.served.name, run.key.run_id
        return "", ""
