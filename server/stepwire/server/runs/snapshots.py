"""Read what the store keeps of runs: their snapshots, without loading a run and without a write."""

from __future__ import annotations

from typing import Any

from stepwire.server.principal import Principal
from stepwire.server.registry import Served
from stepwire.server.runs.errors import (
    RunBlockedError,
    RunNotFoundError,
    SequenceOutOfRangeError,
    SnapshotNotFoundError,
    as_runs_error,
)
from stepwire.server.runs.hosting.loading.load_crashes import LoadCrashes
from stepwire.server.runs.hosting.pool import RunPool
from stepwire.server.runs.requests import SnapshotData
from stepwire.server.store import RunKey, RunRecord, SnapshotInfo, StoreError
from stepwire.workflow.hosting import Context, ContextSerdeError, run_of

__all__ = ["RunSnapshots"]


class RunSnapshots:
    """Read the snapshots of runs. Raises `RunsError`s."""

    def __init__(self, pool: RunPool) -> None:
        self._pool = pool

    async def infos(self, caller: Principal, run_id: str, before: int | None, limit: int) -> list[SnapshotInfo]:
        """List the kept snapshots of a run, newest first, those below sequence `before`."""
        record = await self._pool.records.get(caller, run_id)
        store = self._pool.store
        try:
            found = await store.snapshots(record.key, before, limit)
            if not found and await store.get(record.key) is None:
                raise RunNotFoundError(run_id)
        except StoreError as error:
            raise as_runs_error(error) from error
        # What a fork began with is at 0, and 0 asks for the latest; its origin has it.
        return [info for info in found if info.sequence > 0]

    async def get(self, caller: Principal, run_id: str, sequence: int) -> SnapshotData:
        """Return the last committed snapshot of a run (0), or the one at `sequence`."""
        return await self.of(await self._pool.records.get(caller, run_id), sequence)

    async def of(self, record: RunRecord, sequence: int = 0) -> SnapshotData:
        """Return the last committed snapshot of the run of a record (0), or the one at `sequence`."""
        _check_sequence(record, sequence)
        store = self._pool.store
        try:
            stored = await store.load(record.key, sequence or None)
            # The run may have been deleted, or its log trimmed, after its record was read.
            found = await store.get(record.key) if stored is None else record
        except StoreError as error:
            raise as_runs_error(error) from error
        if stored is None:
            if found is None:
                raise RunNotFoundError(record.key.run_id)
            _check_sequence(found, sequence)
            raise SnapshotNotFoundError(await self._not_kept(record, sequence), sequence=sequence)
        version = record.info.get("version", "")
        parts = await self._pool.restorer.fold(stored)
        return SnapshotData(record.workflow, version, record.key.run_id, stored.sequence, stored.at, parts)

    async def _not_kept(self, record: RunRecord, sequence: int) -> str:
        """Say that no snapshot is kept at a sequence, and where the nearest one before it is."""
        try:
            found = await self._pool.store.snapshots(record.key, sequence, 1)
        except StoreError as error:
            raise as_runs_error(error) from error
        near = found[0].sequence if found else 0
        told = f"the nearest one before it is at {near}" if near else "none before it, either"
        return f"No snapshot is kept at sequence {sequence}; {told}"

    async def last_context(self, record: RunRecord) -> Context[Any]:
        """Build a context from the last committed snapshot of a run, without loading the run.

        Nothing is claimed or written, so it works on a full disk, and while another process has the run.

        Raises RunNotFoundError when the run was deleted, RunBlockedError when this code cannot read the snapshot, and
        RunElsewhereError when another replica serves the code that wrote it.
        """
        await self.check_code(record)
        served = self._pool.registry.get(record.workflow)
        if served is None:
            raise RunBlockedError("The run's workflow is not served here", workflow=record.workflow)
        crashed = LoadCrashes.of(record)
        if crashed.guilty(served, self._pool.clock.now()):
            raise RunBlockedError(f"The run cannot be read: {crashed.reason}", run_id=record.key.run_id)
        snapshot = await self.of(record)
        return await self.context_of(served, snapshot, record.key)

    async def check_code(self, record: RunRecord) -> None:
        """Raise RunElsewhereError if another replica serves the code that wrote a run, and this one does not."""
        if self._pool.cluster.shared:
            await self._pool.routes.check(record, self._pool.registry.get(record.workflow), draining=False)

    async def context_of(self, served: Served, snapshot: SnapshotData, key: RunKey | None = None) -> Context[Any]:
        """Build a context that belongs to no run, to look into a snapshot. RunBlockedError when this code cannot.

        Args:
            served: The workflow.
            snapshot: The snapshot.
            key: The run to blame if this crashes the process.
        """
        context: Context[Any] = Context(served.workflow)
        broker = run_of(context).broker
        try:
            await self._pool.restorer.fill(
                key, served, broker, snapshot.parts, snapshot.at, snapshot.version, fork=True
            )
        except ContextSerdeError as error:
            raise RunBlockedError(f"The snapshot does not fit the code that is served: {error}") from error
        return context


def _check_sequence(record: RunRecord, sequence: int) -> None:
    if not 0 <= sequence <= record.last_sequence or 0 < sequence < record.first_available:
        raise SequenceOutOfRangeError(
            "The run's log does not hold this sequence", record.first_available, record.last_sequence
        )
