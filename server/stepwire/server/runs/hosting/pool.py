"""Which runs are in memory: find them, host new ones, load others when something needs them."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Iterable, Iterator
from typing import Protocol

from stepwire.server.principal import Principal
from stepwire.server.registry import Registry, Served
from stepwire.server.runs.errors import DrainingError, RunFinishedError, RunLeftError, RunNotFoundError
from stepwire.server.runs.hosting.commits.committed_records import CommittedRecords
from stepwire.server.runs.hosting.live_run import LiveRun
from stepwire.server.runs.hosting.loading.crash_notes import CrashNotes
from stepwire.server.runs.hosting.loading.from_store import RunLoader
from stepwire.server.runs.hosting.loading.restoring import Restorer
from stepwire.server.runs.hosting.loading.single_loads import SingleLoads
from stepwire.server.runs.hosting.loading.trials import Trials
from stepwire.server.runs.hosting.loading.waking import WakeList
from stepwire.server.runs.hosting.pauses import WorkflowPauses
from stepwire.server.runs.hosting.replicas.holdings import Holdings
from stepwire.server.runs.hosting.replicas.peer_news import PeerNews
from stepwire.server.runs.hosting.replicas.routes import Routes
from stepwire.server.runs.hosting.slots.concurrency import RunSlots
from stepwire.server.runs.hosting.slots.shared_slots import SharedSlots
from stepwire.server.runs.hosting.slots.step_threads import StepThreads, ThreadLoad
from stepwire.server.runs.hosting.surroundings import Surroundings
from stepwire.server.runs.limits import RunLimits
from stepwire.server.runs.log.chunks import EntryCodec
from stepwire.server.store import (
    TERMINAL,
    Claim,
    Commit,
    Quota,
    QuotaExceededError,
    RunExistsError,
    RunKey,
    RunRecord,
    RunStore,
    StaleClaimError,
    StartRequestExistsError,
    StoreError,
    TakenForDeadError,
    level_of,
)
from stepwire.server.telemetry.metrics import Metrics
from stepwire.workflow.hosting import CLOCK, Alarm, Bounds, ChildHost, Clock, executions, progress

__all__ = ["RunPool"]

logger = logging.getLogger("stepwire.runs")

_EXECUTION_LOGS = {"off": executions.LOG_NONE, "failures": executions.LOG_FAILURES, "all": executions.LOG_ALL}


class Family(Protocol):
    """What parents and children among the runs are to each other."""

    def children_of(self, record: RunRecord, /) -> ChildHost:
        """Return what starts runs for the steps of the run of a record."""

    def ended(self, record: RunRecord) -> None:
        """Note that a run of this process has ended, durably."""

    async def settle(self, record: RunRecord) -> None:
        """Do what is to be done still about a run that has ended, and that is to be deleted. Raises RunsError."""


class RunPool:
    """Hold the runs in memory, and bring in others when something needs them. Raises `RunsError`s.

    Attributes:
        records: The records of runs, in memory or not.
        loads: Loads runs, each once however many callers ask.
        feeds: The logs of runs that have readers.
    """

    def __init__(
        self,
        registry: Registry,
        store: RunStore,
        codec: EntryCodec,
        *,
        failure_detail: str = "message",
        execution_log: str = "all",
        sync_threads: int = 64,
        limits: RunLimits | None = None,
        metrics: Metrics | None = None,
        notes: CrashNotes | None = None,
        clock: Clock = CLOCK,
    ) -> None:
        """Make an empty pool.

        Args:
            registry: The served workflows.
            store: Where runs are kept.
            codec: Encodes the entries of their logs.
            failure_detail: What callers are told of failures: `type`, `message` or `traceback`.
            execution_log: Which attempts at steps the logs record: `off`, `failures` or `all`.
            sync_threads: How many sync steps run at a time.
            limits: What one run may hold.
            metrics: Counts what the runs do.
            notes: What outlives a crash of the process; None keeps nothing.
            clock: What time it is for the runs.
        """
        self.clock = clock
        self.registry = registry
        self.store = store
        self.codec = codec
        self.limits = limits or RunLimits()
        self.metrics = metrics or Metrics()
        self._live: dict[RunKey, LiveRun] = {}
        self.records = CommittedRecords(store, self._live)
        self.feeds = self.records.feeds
        self.notes = notes or CrashNotes()
        self.restorer = Restorer(self.notes)
        self.trials = Trials(self.notes)
        self.slots: RunSlots | SharedSlots = RunSlots(self.trials.start)
        if store.cluster.shared:
            self.slots = SharedSlots(self.trials.start, store.cluster)
        self.wakes = WakeList(clock)
        self.pauses = WorkflowPauses(store, clock)
        self.own_workflows: dict[str, Served] = {}
        """Workflows of the server itself, by name: no caller sees them."""
        self.family: Family | None = None
        """Starts runs for the steps of runs, and tells them how those ended; None if runs have no children."""
        self.draining = False
        """Whether the server is stopping: no run is loaded any more."""
        self._threads = StepThreads(sync_threads)
        self.cluster = store.cluster
        self._shared = self.cluster.shared
        self.routes = Routes(self.cluster)
        self._around = Surroundings(
            store=store,
            clock=clock,
            cluster=self.cluster if self._shared else None,
            codec=codec,
            threads=self._threads,
            metrics=self.metrics,
            pauses=self.pauses,
            failure_detail=failure_detail,
            bounds=Bounds(
                event_bytes=self.limits.entry_bytes,
                state_bytes=self.limits.state_bytes,
                entries=self.limits.log_entries,
                deliveries=self.limits.queued_events,
            ),
            executions=_EXECUTION_LOGS[execution_log],
            on_commit=self.committed,
            children=self._children_of,
            on_gone=self._gone,
        )
        self._loader = RunLoader(store, self.metrics, self.notes, self.restorer, self.host, clock)
        self.loads = SingleLoads(self, self._loader)
        self._peer_news = PeerNews(self)
        self.holdings = Holdings(self)
        """Keeps the runs in memory the same as those that the store says are this replica's."""

    async def open(self) -> None:
        """Set the pool to work on the running event loop. Raises StoreError."""
        self._around.alarm = Alarm(asyncio.get_running_loop(), self.clock)
        self.records.open()
        self._peer_news.open()
        self.holdings.open()
        self.notes.open()
        await self.pauses.open()
        try:
            await self._loader.note_crash(self.registry)
        except StoreError as error:  # a damaged record, too: it must not keep the server from starting
            logger.log(level_of(error), "cannot note which run crashed the process: %s", error)
        await self.slots.open(self.store, self.registry)

    def served(self, workflow: str) -> Served | None:
        """Return a workflow that this server runs, its own ones too; None for one that it does not."""
        return self.registry.get(workflow) or self.own_workflows.get(workflow)

    @property
    def names(self) -> list[str]:
        """The names of the workflows that this server runs, its own ones too."""
        return [*self.registry.names(), *self.own_workflows]

    @property
    def versions(self) -> dict[str, str]:
        """What tells the code of each workflow that this server runs, by name."""
        return {served.name: served.told for served in (*self.registry, *self.own_workflows.values())}

    def committed(self, commit: Commit) -> None:
        """Pass on a durable commit of a run of this process: to the readers of the run, and to its family."""
        self.feeds.committed(commit)
        if self.family is not None and commit.record.status in TERMINAL:
            self.family.ended(commit.record)

    def _children_of(self, record: RunRecord) -> ChildHost | None:
        """Return what starts runs for the steps of a run."""
        return None if self.family is None else self.family.children_of(record)

    # -- finding ------------------------------------------------------------------------------------------------------

    async def live(self, caller: Principal, run_id: str) -> LiveRun:
        """Return a run that takes input, loaded if need be. Raises RunFinishedError, and as `reach`."""
        run = await self.reach(caller, run_id)
        if isinstance(run, RunRecord):
            raise RunFinishedError("The run has ended", run_id=run_id)
        return run

    async def reach(self, caller: Principal, run_id: str) -> LiveRun | RunRecord:
        """Return a run that takes input, loaded if need be; of a run that has ended, its record, once that is durable.

        Raises RunNotFoundError, RunBlockedError, DrainingError for a run that takes no input because the server is
        stopping, RunElsewhereError for one of another replica, and StoreDownError.
        """
        key, sees = caller.key(run_id), caller.scopes.sees
        while True:
            run = self._live.get(key)
            if run is None or run.gone:
                self.routes.follow(key)
                if caller.scopes.restricted and self.loads.under_way(key) is not None:
                    # Another caller's load says nothing of what this one may see.
                    await self.records.get(caller, run_id)
                found = await self.loads.load(key, sees)
                if isinstance(found, RunRecord):
                    return found
                run = found
            if not sees(run.served.name):
                raise RunNotFoundError(run_id)
            if not run.commits.created or run.broker.outcome is not None:
                # What a caller is told of a run must be durable, its end too.
                await run.commits.wait()
            if run.broker.outcome is not None:
                return run.record
            if run.gone:
                continue  # it was released meanwhile
            if run.broker.frozen:
                if self._shared:
                    raise RunLeftError
                raise DrainingError("The server is stopping; its runs take no input any more")
            return run

    def in_memory(self, key: RunKey) -> LiveRun | None:
        """Return a run if it is in memory, also one whose first commit is still in flight."""
        return self._live.get(key)

    def is_loading(self, key: RunKey) -> bool:
        """Tell whether a run is being loaded."""
        return self.loads.under_way(key) is not None

    def __iter__(self) -> Iterator[LiveRun]:
        """Iterate over the runs in memory, as they are now. From any thread."""
        return iter(list(self._live.values()))

    def __len__(self) -> int:
        return len(self._live)

    # -- coming into memory -------------------------------------------------------------------------------------------

    def host(self, served: Served, record: RunRecord, claim: Claim | None = None) -> LiveRun:
        """Make a run; `add` brings it in."""
        return LiveRun(served, record, claim, self._around)

    def add(self, run: LiveRun, quota: Quota | None = None) -> None:
        """Hold a run from here on; the first commit of a new one is held against a quota."""
        if quota is not None:
            self._around.quotas[run.key] = quota
        self._live[run.key] = run
        run.hold()

    def end_readers(self) -> None:
        """End everything that waits for news of runs, because the server is stopping."""
        self.feeds.end_all()
        for run in self:
            run.stop_waiting()

    def hold(self, namespace: str, workflow: str) -> None:
        """Have the runs in memory act on it that their workflow was paused or resumed."""
        for run in self:
            if run.served.name == workflow and run.key.namespace == namespace:
                run.hold()

    # -- leaving memory -----------------------------------------------------------------------------------------------

    def release(self, runs: Iterable[LiveRun], now: float, idle_after: float) -> None:
        """Release those of these runs that have only waited for `idle_after` seconds."""
        for run in runs:
            if run.gone:
                continue
            if (run.queued and run.pause is None) or not progress.is_idle(run.broker):
                run.idle_since = 0.0
            elif not run.idle_since:
                run.idle_since = now
            elif now - run.idle_since >= idle_after:
                self.metrics.released += run.release()

    def vanish(self) -> None:
        """Lose every run, as the end of the process does: nothing more is committed, no step goes on."""
        self.draining = True
        for run in list(self._live.values()):
            run.vanish()
        self._live.clear()

    def _gone(self, run: LiveRun, error: BaseException | None) -> None:
        """Forget a run that left memory; let the next one go when it has ended."""
        if self._live.get(run.key) is run:
            del self._live[run.key]
        self.trials.left(run)
        record = run.record
        if record.status in TERMINAL or (not run.commits.created and run.took_slot):
            self.slots.free(run.key, run.served.name)
        elif run.queued:
            self.slots.unload(run)
        if error is not None:
            # A first commit that was refused left nothing. After any other failure the run may be in the store, and
            # where the storage is shared it may be this replica's still, although its claim does not hold.
            left = RunExistsError | StartRequestExistsError | QuotaExceededError
            left |= TakenForDeadError if self._shared else StaleClaimError
            if not isinstance(error, left):
                self.loads.dropped(run.key, error)
                self.wakes.add_lost(run.key)
        elif record.status in TERMINAL:
            self.records.keep(record)
        else:
            if run.commits.claim is not None:
                self.store.release(run.commits.claim)
            self.wakes.expect(record)
        self.feeds.left(run.key)

    def trimmed(self, key: RunKey, first: int) -> None:
        """Note that the log of a run now begins at sequence `first`."""
        self.records.trimmed(key, first)
        if (run := self._live.get(key)) is not None:
            run.trimmed(first)
        elif (loading := self.loads.under_way(key)) is not None:
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
