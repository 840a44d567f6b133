"""Load a run from the store: claim it, fold its snapshot, restore it; or block it when this code cannot go on.

The one path from the store into memory, after a crash, a restart, a release or a failed commit alike.
"""

from __future__ import annotations

import logging
from collections.abc import Callable
from dataclasses import asdict, replace

from stepwire.server import failpoints
from stepwire.server.registry import Registry, Served
from stepwire.server.runs.errors import RunBlockedError, RunLeftError, RunNotFoundError, as_runs_error
from stepwire.server.runs.hosting.commits.delta import encode_delta
from stepwire.server.runs.hosting.commits.record import BLOCKED_REASON, LOAD_CRASHES, SURVIVED
from stepwire.server.runs.hosting.live_run import LiveRun
from stepwire.server.runs.hosting.loading.crash_notes import CrashNotes
from stepwire.server.runs.hosting.loading.load_crashes import LoadCrashes
from stepwire.server.runs.hosting.loading.restoring import Restorer, keep, suspect
from stepwire.server.store import (
    TERMINAL,
    Claim,
    Commit,
    RunRecord,
    RunStore,
    Status,
    StoreCorruptError,
    StoreError,
)
from stepwire.server.telemetry.metrics import Metrics
from stepwire.workflow.hosting import CLOCK, Clock, ContextSerdeError, CountLost, one_more

__all__ = ["RunLoader"]

logger = logging.getLogger("stepwire.runs")

Host = Callable[[Served, RunRecord, Claim], LiveRun]
"""Make the run that is loaded."""


class RunLoader:
    """Load runs."""

    def __init__(
        self,
        store: RunStore,
        metrics: Metrics,
        notes: CrashNotes,
        restorer: Restorer,
        host: Host,
        clock: Clock = CLOCK,
    ) -> None:
        """Make a loader.

        Args:
            store: Where runs are kept.
            metrics: Counts the loads.
            notes: How the last process ended, and what this one is loading.
            restorer: Fills the broker of a run.
            host: Makes the object of a run.
            clock: What time it is for the runs.
        """
        self._clock = clock
        self._store = store
        self._metrics = metrics
        self._notes = notes
        self._restorer = restorer
        self._host = host

    async def load(
        self,
        served: Served,
        record: RunRecord,
        count_lost: CountLost | None = None,
        *,
        force: bool = False,
        forgiving: bool = False,
    ) -> LiveRun:
        """Return the run, restored and durable, but not going yet.

        Args:
            served: Its workflow.
            record: Its record.
            count_lost: How an execution that was in progress when the run was saved counts; None asks how the last
                process ended.
            force: Take it from a living replica.
            forgiving: Whether to load it although loading it has crashed the process.

        Raises:
            RunNotFoundError: It was deleted.
            RunElsewhereError: Another replica has it.
            RunBlockedError: This code cannot go on with it.
            RunsError: What `as_runs_error` makes of a failing store.
        """
        key = record.key
        crashed = LoadCrashes() if forgiving else LoadCrashes.of(record)
        if record.status == Status.BLOCKED and crashed.guilty(served, self._clock.now()):
            raise RunBlockedError(crashed.reason, run_id=key.run_id)
        try:
            claim = await self._store.claim(key, force=force)
            if claim is None:
                raise RunNotFoundError(key.run_id)
            try:
                if force:
                    await self._store.cluster.outwait()
                run = await self._restored(served, record, claim, crashed, count_lost)
            except BaseException:  # whatever it is: another replica that can go on with the run may have it
                self._store.release(claim)
                raise
        except StoreError as error:
            raise as_runs_error(error) from error
        run.make_durable()
        run.catch_up()
        broker, record = run.broker, run.record
        if record.status == Status.BLOCKED or crashed.count:
            broker.touch_head()  # so that its record says so, also when the run has nothing to do
        # At once: a commit must not begin before the run is in the pool.
        broker.work.touch_all()
        run.lost = max((delivery.lost for delivery in broker.deliveries.values()), default=0)
        self._metrics.loaded += 1
        return run

    async def _restored(
        self, served: Served, record: RunRecord, claim: Claim, crashed: LoadCrashes, count_lost: CountLost | None
    ) -> LiveRun:
        if self._store.cluster.shared:  # before the claim its owner may have committed
            record = await self._store.get(record.key) or record
            if record.status in TERMINAL:
                raise RunLeftError
        run = self._host(served, record, claim)
        try:
            if crashed.guilty(served, self._clock.now()):
                raise StoreCorruptError(crashed.reason)
            await self._fill(run, keep if served.own else count_lost or self._count_lost(record))
        except (ContextSerdeError, StoreCorruptError) as error:
            await self._block(record, claim, str(error))
            raise RunBlockedError(f"The run cannot go on: {error}", run_id=record.key.run_id) from error
        return run

    def _count_lost(self, record: RunRecord) -> CountLost:
        """Return how the executions that the last process left in progress count; `trials` has the reasons."""
        last, survived = self._notes.last, SURVIVED in record.info
        if last.crashed and last.on_trial is not None:
            return one_more if record.key == last.on_trial else keep
        if last.killer_is_outside:
            return keep
        return suspect if last.crashed and survived and not last.itself else one_more

    async def _fill(self, run: LiveRun, count_lost: CountLost) -> None:
        """Restore the broker and the answered requests of a run."""
        stored = await self._store.load(run.key)
        if stored is None:
            raise StoreCorruptError("its snapshots are missing")
        if failpoints.ACTIVE:
            failpoints.hit("restore.before")
        version = run.record.info.get("version", "")
        parts = await self._restorer.fold(stored)
        await self._restorer.fill(run.key, run.served, run.broker, parts, stored.at, version, count_lost=count_lost)
        if failpoints.ACTIVE:
            failpoints.hit("restore.after")
        if requests := await self._store.requests(run.key):
            run.commits.answers.load(requests)

    async def _block(self, record: RunRecord, claim: Claim, reason: str) -> None:
        """Mark a run that this code cannot go on with."""
        logger.warning("run %s is blocked: %s", record.key.run_id, reason)
        if record.status == Status.BLOCKED:
            return
        info = {**record.info, BLOCKED_REASON: reason}
        blocked = replace(record, status=Status.BLOCKED, updated_at=self._clock.now(), info=info)
        await self._store.commit(Commit(blocked, claim, encode_delta({}), False))
        self._metrics.workflow(record.workflow).moved(record.status, Status.BLOCKED, ended=False)

    async def note_crash(self, registry: Registry) -> None:
        """Count the crash of the last process against the run that it was loading, if any. Raises StoreError."""
        key = self._notes.last.loading
        record = None if key is None else await self._store.get(key)
        if key is None or record is None or record.status in TERMINAL:
            return
        served = registry.get(record.workflow)
        if served is None or (claim := await self._store.claim(key)) is None:
            return
        crashed = LoadCrashes.of(record).again(served, self._clock.now())
        times = f"{crashed.count} time{'' if crashed.count == 1 else 's'}"
        logger.error("run %s: loading it crashed the process (%s)", key.run_id, times)
        counted = replace(record, info={**record.info, LOAD_CRASHES: asdict(crashed)})
        await self._store.commit(Commit(counted, claim, encode_delta({}), False))
