"""Which runs are in memory: find them, host new ones, load others when something needs them."""

from __future__ import annotations

import asyncio
import logging
from collections import OrderedDict
from collections.abc import Callable, Iterable, Iterator
from functools import partial

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
from stepwire.server.runs.hosting.crash_notes import CrashNotes
from stepwire.server.runs.hosting.live_run import LiveRun
from stepwire.server.runs.hosting.loading import RunLoader, forget
from stepwire.server.runs.hosting.step_threads import StepThreads, ThreadLoad
from stepwire.server.runs.hosting.surroundings import Surroundings
from stepwire.server.runs.hosting.trials import Trials
from stepwire.server.runs.hosting.waking import WakeList
from stepwire.server.runs.limits import RunLimits
from stepwire.server.runs.log.chunks import EntryCodec
from stepwire.server.runs.log.feed import Feeds
from stepwire.server.store import (
    TERMINAL,
    Claim,
    CommitTooLargeError,
    RunExistsError,
    RunKey,
    RunRecord,
    RunStore,
    StaleClaimError,
    StartRequestExistsError,
    Status,
    StoreError,
    StoreUnavailableError,
)
from stepwire.server.telemetry.metrics import Metrics
from stepwire.workflow.hosting import Alarm, Bounds, Broker, CountLost, one_more

__all__ = ["RunPool"]

logger = logging.getLogger("stepwire.runs")

_ENDED_KEPT = 1024
"""Records of ended runs kept in memory: callers ask for a run as soon as it has ended."""


def _everything(workflow: str) -> bool:
    """See every workflow."""
    return True


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
        notes: CrashNotes | None = None,
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
            notes: What outlives a crash of the process; None keeps nothing.
        """
        self.registry = registry
        self.store = store
        self.codec = codec
        self.limits = limits or RunLimits()
        self.metrics = metrics or Metrics()
        self.feeds = Feeds(store, self.find)
        self.notes = notes or CrashNotes()
        self.trials = Trials(self.notes)
        self.slots = RunSlots(self.trials.start)
        self.wakes = WakeList()
        self.draining = False
        """Whether the server is stopping: no run is loaded any more."""
        self._threads = StepThreads(sync_threads)
        self._around = Surroundings(
            store=store,
            codec=codec,
            threads=self._threads,
            metrics=self.metrics,
            failure_detail=failure_detail,
            bounds=Bounds(
                event_bytes=self.limits.entry_bytes,
                state_bytes=self.limits.state_bytes,
                entries=self.limits.log_entries,
                deliveries=self.limits.queued_events,
            ),
            on_commit=self.feeds.committed,
            on_gone=self._gone,
        )
        self._loader = RunLoader(store, self.metrics, self.notes, self.host)
        self._live: dict[RunKey, LiveRun] = {}
        self._loading: dict[RunKey, asyncio.Future[LiveRun | RunRecord]] = {}
        self._ended: OrderedDict[RunKey, RunRecord] = OrderedDict()
        self._too_large: dict[RunKey, str] = {}
        """Runs that this process dropped because a commit of theirs was too large: they fail when they are back."""
        self._deleting: set[RunKey] = set()
        """Ended runs that are about to be deleted: the store alone says whether they are there."""
        self._dropped: dict[RunKey, CountLost] = {}
        """Runs that this process dropped after a failed commit, and how that counts: a store's failure does not."""

    async def open(self) -> None:
        """Set the pool to work on the running event loop. Raises StoreError."""
        self._around.alarm = Alarm(asyncio.get_running_loop())
        self.store.on_delete(self._going, self._deleted)
        self.notes.open()
        try:
            await self._loader.note_crash(self.registry)
        except StoreUnavailableError as error:
            logger.warning("cannot note which run crashed the process: %s", error)
        await self.slots.open(self.store, self.registry)

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
        """Return a run that takes input, loaded if need be. Raises RunFinishedError, and as `reach`."""
        run = await self.reach(caller, run_id)
        if isinstance(run, RunRecord):
            raise RunFinishedError("The run has ended", run_id=run_id)
        return run

    async def reach(self, caller: Principal, run_id: str) -> LiveRun | RunRecord:
        """Return a run that takes input, loaded if need be; of a run that has ended, its record, once that is durable.

        Raises RunNotFoundError, RunBlockedError, DrainingError for a run that takes no input because the server is
        stopping, and StoreDownError.
        """
        key, sees = caller.key(run_id), caller.scopes.sees
        while True:
            run = self._live.get(key)
            if run is None or run.gone:
                if caller.scopes.restricted and key in self._loading:
                    await self.get(caller, run_id)  # another caller's load says nothing of what this one may see
                found = await self.load(key, sees)
                if isinstance(found, RunRecord):
                    return found
                run = found
            if not sees(run.served.name):
                raise RunNotFoundError(run_id)
            if not run.created or run.broker.outcome is not None:
                # What a caller is told of a run must be durable, its end too.
                await run.committed()
            if run.broker.outcome is not None:
                return run.record
            if run.gone:
                continue  # it was released meanwhile
            if run.broker.frozen:
                raise DrainingError("The server is stopping; its runs take no input any more")
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

    async def load(self, key: RunKey, sees: Callable[[str], bool] = _everything) -> LiveRun | RunRecord:
        """Load a run, once however many callers ask; of a run that has ended, return the record.

        Args:
            key: The run.
            sees: Tells whether the caller may see a workflow. A run of another workflow is not loaded.

        Raises:
            RunsError: As `reach`.
        """
        loading = self._loading.get(key)
        if loading is not None and _failed(loading):
            # It is forgotten on the next turn of the loop. Until then it would fail again and again, without a turn.
            loading = None
        joined = loading is not None
        if loading is None:
            loading = asyncio.ensure_future(self._load(key, sees))
            self._loading[key] = loading
            loading.add_done_callback(partial(self._loaded, key))
        try:
            return await asyncio.shield(loading)
        except RunNotFoundError:
            if not joined:
                raise
            return await self.load(key, sees)  # the caller that began the load may see less
        finally:
            # A failure's traceback holds this frame: with the future in it that would be a circle.
            del loading

    def _loaded(self, key: RunKey, loading: asyncio.Future[LiveRun | RunRecord]) -> None:
        if self._loading.get(key) is loading:
            del self._loading[key]
        if not loading.cancelled():
            loading.exception()  # whoever waited for it may have left

    async def loads_done(self, timeout: float) -> None:
        """Wait for the loads under way, at most `timeout` seconds. With `draining` set no other ones begin."""
        if self._loading:
            await asyncio.wait(list(self._loading.values()), timeout=timeout)

    async def _load(self, key: RunKey, sees: Callable[[str], bool]) -> LiveRun | RunRecord:
        try:
            record = await self.store.get(key)
        except StoreError as error:
            raise as_runs_error(error) from error
        if record is None:
            self.slots.free(key)
        if record is None or not sees(record.workflow):
            raise RunNotFoundError(key.run_id)
        # A commit that failed may have been durable all the same, the run's last one too.
        self.feeds.found(record)
        served = self.registry.get(record.workflow)
        if record.status in TERMINAL:
            self.slots.free(key, record.workflow)
            return record
        if served is None:
            raise RunBlockedError("The run's workflow is not served here", workflow=record.workflow)
        if self.draining:
            raise DrainingError("The server is stopping")
        try:
            run = await self._loader.load(served, record, self._dropped.pop(key, None))
        except RunBlockedError:
            self.slots.free(key, served.name)
            raise
        self.add(run)
        if (reason := self._too_large.pop(key, None)) is not None:
            run.exceed(f"a commit of the run is too large: {reason}")
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
            if run.paused or not run.broker.idle:
                run.idle_since = 0.0
            elif not run.idle_since:
                run.idle_since = now
            elif now - run.idle_since >= idle_after:
                self.metrics.released += run.release()

    def _gone(self, run: LiveRun, error: BaseException | None) -> None:
        """Forget a run that left memory; let the next one go when it has ended."""
        if self._live.get(run.key) is run:
            del self._live[run.key]
        self.trials.left(run)
        record = run.record
        if record.status in TERMINAL or (not run.created and run.took_slot):
            self.slots.free(run.key, run.served.name)
        elif run.paused:
            self.slots.unload(run)
        if error is not None:
            # A first commit that was refused left nothing. After any other failure the run may be in the store.
            if not isinstance(error, StaleClaimError | RunExistsError | StartRequestExistsError):
                self._dropped[run.key] = forget if isinstance(error, StoreError) else one_more
                if isinstance(error, CommitTooLargeError):
                    self._too_large[run.key] = str(error)
                self.wakes.add_lost(run.key)
        elif record.status in TERMINAL:
            if record.key not in self._deleting:
                self._ended[record.key] = record
            if len(self._ended) > _ENDED_KEPT:
                self._ended.popitem(last=False)
        else:
            self.wakes.expect(record)

    def _going(self, keys: Iterable[RunKey]) -> None:
        """Forget ended runs that are about to be deleted, so that the store alone says what there is."""
        for key in keys:
            self._deleting.add(key)
            self._ended.pop(key, None)
            if (run := self._live.get(key)) is not None and run.record.status in TERMINAL:
                del self._live[key]  # its end is durable; it would have left in a moment

    def _deleted(self, keys: Iterable[RunKey]) -> None:
        """End the readers of runs that were deleted."""
        for key in keys:
            self._deleting.discard(key)
            self.feeds.deleted(key)

    def trimmed(self, key: RunKey, first: int) -> None:
        """Note that the log of a run now begins at sequence `first`."""
        if (ended := self._ended.get(key)) is not None:
            ended.first_available = first
        if (run := self._live.get(key)) is not None:
            run.trimmed(first)
        elif (loading := self._loading.get(key)) is not None:
            loading.add_done_callback(lambda _: self.trimmed(key, first))  # its record may be the one before
        self.feeds.trimmed(key, first)

    # -- what operators see, from any thread --------------------------------------------------------------------------

    @property
    def thread_load(self) -> ThreadLoad:
        """What the threads of sync steps do now."""
        return self._threads.load

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
                queued += len(broker.queues)
            found[run.served.name] = queued, waiters + len(broker.waits)
        return found

    def locate(self, broker: Broker) -> tuple[str, str]:
        """Return the workflow and the run_id of a broker; empty when no run in memory has it."""
        for run in self:
            if run.broker is broker:
                return run.served.name, run.key.run_id
        return "", ""


def _failed(loading: asyncio.Future[LiveRun | RunRecord]) -> bool:
    return loading.done() and (loading.cancelled() or loading.exception() is not None)
