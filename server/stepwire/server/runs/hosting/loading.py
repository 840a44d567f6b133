"""Load a run from the store: claim it, fold its snapshot, restore it; or block it when this code cannot go on.

The one path from the store into memory, after a crash, a restart, a release or a failed commit alike.
"""

from __future__ import annotations

import logging
from collections.abc import Callable
from dataclasses import replace

from stepwire.server import failpoints
from stepwire.server.registry import Served
from stepwire.server.runs.errors import RunBlockedError, RunNotFoundError, as_runs_error
from stepwire.server.runs.hosting.delta import Parts, encode_delta, fold
from stepwire.server.runs.hosting.live_run import LiveRun
from stepwire.server.store import (
    Claim,
    Commit,
    RunRecord,
    RunStore,
    Status,
    StoreCorruptError,
    StoreError,
)
from stepwire.server.telemetry.metrics import Metrics
from stepwire.workflow.hosting import CLOCK, Broker, ContextSerdeError, SnapshotError, restore

__all__ = ["RunLoader", "restore_parts"]

logger = logging.getLogger("stepwire.runs")

Host = Callable[[Served, RunRecord, Claim], LiveRun]
"""Make the run that is loaded."""


class RunLoader:
    """Load runs."""

    def __init__(self, store: RunStore, metrics: Metrics, host: Host) -> None:
        self._store = store
        self._tallies = metrics
        self._host = host

    async def load(self, served: Served, record: RunRecord) -> LiveRun:
        """Return the run, restored and durable, but not going yet.

        Raises RunNotFoundError when it was deleted, RunBlockedError when this code cannot go on with it, and what
        `as_runs_error` makes of a failing store.
        """
        key = record.key
        try:
            claim = await self._store.claim(key)
            if claim is None:
                raise RunNotFoundError(key.run_id)
            run = self._host(served, record, claim)
            try:
                await self._fill(run)
            except (ContextSerdeError, StoreCorruptError) as error:
                await self._block(record, claim, str(error))
                raise RunBlockedError(f"The run cannot go on: {error}") from error
        except StoreError as error:
            raise as_runs_error(error) from error
        run.make_durable()
        if record.status == Status.BLOCKED:
            run.broker.touch_head()  # so that its record says so, also when the run has nothing to do
        for delivery in run.broker.deliveries.values():
            run.broker.work.touch(delivery)
        self._tallies.loaded += 1
        return run

    async def _fill(self, run: LiveRun) -> None:
        """Restore the broker and the answered requests of a run."""
        stored = await self._store.load(run.key)
        if stored is None:
            raise StoreCorruptError("its snapshots are missing")
        if failpoints.ACTIVE:
            failpoints.hit("restore.before")
        version = run.record.info.get("version", "")
        restore_parts(run.served, run.broker, fold(stored), stored.at, version, fork=False)
        if failpoints.ACTIVE:
            failpoints.hit("restore.after")
        run.answers.load(await self._store.requests(run.key))

    async def _block(self, record: RunRecord, claim: Claim, reason: str) -> None:
        """Mark a run that this code cannot go on with."""
        logger.warning("run %s is blocked: %s", record.key.run_id, reason)
        if record.status == Status.BLOCKED:
            return
        info = {**record.info, "blocked_reason": reason}
        blocked = replace(record, status=Status.BLOCKED, updated_at=CLOCK.now(), info=info)
        await self._store.commit(Commit(blocked, claim, encode_delta({}), False))
        self._tallies.workflow(record.workflow).moved(record.status, Status.BLOCKED, ended=False)


def restore_parts(served: Served, broker: Broker, parts: Parts, at: float, version: str, *, fork: bool) -> None:
    """Fill a broker from the parts of a snapshot. Raises SnapshotError and its kinds.

    Args:
        served: The workflow, whose `migrate` may change parts that another version wrote.
        broker: A new broker.
        parts: The parts of the snapshot.
        at: When the snapshot was committed.
        version: The version of the workflow that wrote it.
        fork: Whether this is a new run: its clocks go by the time that was left.
    """
    if version != served.version and (migrate := getattr(served.workflow, "migrate", None)) is not None:
        try:
            parts = migrate(parts)
        except Exception as error:  # the author's code may raise anything
            raise SnapshotError(f"migrate() raised {type(error).__name__}") from error
    restore(broker, parts, served.names, saved_at=at, fork=fork, validate=version != served.version)
