"""The store in one SQLite file: the embedded default."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path

from stepwire.server.store.port import (
    Chunk,
    Claim,
    Commit,
    CommitListener,
    DueRun,
    EndedRun,
    LongRun,
    RequestRecord,
    RunKey,
    RunQuery,
    RunRecord,
    SnapshotInfo,
    StoredSnapshot,
    StoreError,
    StoreUnavailableError,
)
from stepwire.server.store.retention import unneeded
from stepwire.server.store.sqlite import lists as _lists
from stepwire.server.store.sqlite import maintenance as _maintenance
from stepwire.server.store.sqlite import reader as _reader
from stepwire.server.store.sqlite.backup import backup
from stepwire.server.store.sqlite.lock import DirectoryLock
from stepwire.server.store.sqlite.reader import Readers
from stepwire.server.store.sqlite.schema import DATABASE, connect_writer
from stepwire.server.store.sqlite.writer import Writer
from stepwire.server.telemetry.metrics import StoreMetrics

log = logging.getLogger(__name__)

DELETED_AT_ONCE = 50
"""Runs, or commits of a run, that one job deletes, so that commits between jobs wait little."""


class SqliteStore:
    """Keep runs in `<data_dir>/stepwire.db`; a `RunStore`.

    One thread writes, with group commit; two read. The directory is locked for one process.
    """

    def __init__(self, data_dir: Path, metrics: StoreMetrics | None = None) -> None:
        self.path = data_dir / DATABASE
        self._lock = DirectoryLock(data_dir)
        self._writer = Writer(partial(connect_writer, self.path), metrics)
        self._readers: Readers | None = None
        self._sweeper: asyncio.Task[None] | None = None

    async def open(self) -> None:
        """Lock the directory and open the database, making or migrating it.

        Raises StoreLockedError at once when another process has it, StoreCorruptError, and
        StoreError when the database is of a newer version or not a store.
        """
        self._lock.acquire()
        try:
            await self._writer.start()
        except BaseException:
            self._lock.release()
            raise
        self._readers = Readers(self.path)
        self._sweep()  # what an earlier process had left of deleted runs

    async def close(self) -> None:
        """Finish the commits under way, close the database and let go of the directory."""
        if self._sweeper is not None:
            self._sweeper.cancel()
            await asyncio.wait([self._sweeper])
            self._sweeper = None
        await self._writer.stop()
        if self._readers is not None:
            await self._readers.close()
        self._lock.release()

    @property
    def failure(self) -> StoreError | None:
        """Why the last transaction failed; None while writing works."""
        return self._writer.failure

    def on_failure(self, callback: Callable[[], None]) -> None:
        """Have `callback` called when writing begins to fail, and when it works again."""
        self._writer.on_failure = callback

    async def probe(self) -> None:
        """Write something that changes nothing. StoreError."""
        await self._writer.run(_maintenance.probe)

    def listen(self, listener: CommitListener) -> None:
        """Have `listener` called with each durable commit."""
        self._writer.listeners.append(listener)

    def commit(self, commit: Commit) -> asyncio.Future[Claim]:
        """Write a commit in the next transaction."""
        return self._writer.commit(commit)

    async def claim(self, key: RunKey) -> Claim | None:
        """Claim a run with a new token."""
        return await self._writer.run(partial(_maintenance.claim, key=key))

    async def get(self, key: RunKey) -> RunRecord | None:
        """Give the record of a run."""
        return await self._reading.run(_reader.get, key)

    async def find_start(self, namespace: str, request_id: str) -> RunRecord | None:
        """Give the run that a StartRun with this request_id started."""
        return await self._reading.run(_lists.find_start, namespace, request_id)

    async def load(self, key: RunKey, sequence: int | None = None) -> StoredSnapshot | None:
        """Give the latest snapshot, or the latest one with exactly this sequence."""
        return await self._reading.run(_reader.load, key, sequence)

    async def entries(self, key: RunKey, after: int, limit: int = 16) -> list[Chunk]:
        """Give chunks of the log from the one that holds `after + 1`."""
        return await self._reading.run(_reader.entries, key, after, limit)

    async def requests(self, key: RunKey) -> list[RequestRecord]:
        """Give the answered requests that are kept of a run, oldest first."""
        return await self._reading.run(_reader.requests, key)

    async def snapshots(self, key: RunKey, before: int | None, limit: int) -> list[SnapshotInfo]:
        """List the kept snapshots below sequence `before`, newest first."""
        return await self._reading.run(_reader.snapshots, key, before, limit)

    async def due(
        self, now: float, limit: int, *, workflows: Sequence[str], after: tuple[float, int] = (-1.0, 0)
    ) -> list[DueRun]:
        """Give unfinished, unblocked runs to wake, the most overdue first."""
        return await self._reading.run(_reader.due, now, limit, list(workflows), after)

    async def ended(
        self, after: tuple[float, int], limit: int, *, before: float | None = None, longer_than: int = 0
    ) -> list[EndedRun]:
        """Give ended runs, those that ended first first."""
        return await self._reading.run(_reader.ended, after, limit, before, longer_than)

    async def next_wake(self, after: float, *, workflows: Sequence[str]) -> float | None:
        """Give the earliest time after `after` to wake a run."""
        return await self._reading.run(_reader.next_wake, after, list(workflows))

    async def namespaces(self) -> list[str]:
        """Give the namespaces that have runs."""
        return await self._reading.run(_reader.namespaces)

    async def delete(self, key: RunKey) -> bool:
        """Delete a run. It is gone at once; the space it took is freed between commits."""
        deleted = await self._writer.run(partial(_maintenance.delete, key=key))
        if deleted:
            self._sweep()
        return deleted

    async def counts(self) -> dict[tuple[str, str], int]:
        """Count runs by (workflow, status)."""
        return await self._reading.run(_reader.counts)

    async def backup(self, target: Path) -> None:
        """Copy the database to `target`, which a new data directory takes as `stepwire.db`."""
        await asyncio.to_thread(backup, self.path, target)

    async def prune(
        self,
        workflow: str | None = None,
        ended_before: float | None = None,
        keep_last: int | None = None,
        limit: int = 1000,
    ) -> int:
        """Delete ended runs that meet every condition given."""
        runs = await self._reading.run(_lists.prunable, workflow, ended_before, keep_last, limit)
        count = 0
        for start in range(0, len(runs), DELETED_AT_ONCE):
            some = runs[start : start + DELETED_AT_ONCE]
            count += await self._writer.run(partial(_maintenance.doom, runs=some))
        if count:
            self._sweep()
        return count

    async def thin_snapshots(self, key: RunKey, keep: Sequence[int] | None = None) -> int:
        """Drop the commits that no snapshot worth keeping needs."""
        run, steps = await self._reading.run(_reader.steps, key)
        count = 0
        some: list[int] = []
        for ids in unneeded(steps, keep or ()):
            some += ids
            if len(some) >= DELETED_AT_ONCE:
                count += await self._drop(run, some)
                some = []
        return count + (await self._drop(run, some) if some else 0)

    async def long_logs(self, workflow: str, entries: int, limit: int, *, after: int = 0) -> list[LongRun]:
        """Give runs of a workflow with a long log."""
        return await self._reading.run(_reader.long_logs, workflow, entries, limit, after)

    async def trim(self, key: RunKey, first: int) -> int | None:
        """Drop the log before the chunk that holds sequence `first`, and the snapshots at what is dropped."""
        more = True
        while more:
            begins, more = await self._writer.run(partial(_maintenance.trim, key=key, first=first))
        return begins

    async def _drop(self, run: int, ids: Sequence[int]) -> int:
        return await self._writer.run(partial(_maintenance.drop_commits, run=run, ids=ids))

    async def list(self, query: RunQuery) -> list[RunRecord]:
        """Give the records that match, newest first."""
        return await self._reading.run(_lists.list_runs, query)

    @property
    def _reading(self) -> Readers:
        if self._readers is None:
            raise StoreUnavailableError("the store is not open")
        return self._readers

    def _sweep(self) -> None:
        """Remove what is left of deleted runs, a little at a time."""

        async def remove() -> None:
            try:
                while await self._writer.run(_maintenance.sweep):
                    pass
            except StoreError as error:
                # The next deletion, or the next start, goes on with it.
                log.warning("deleted runs still take space: %s", error)

        if self._sweeper is None or self._sweeper.done():
            self._sweeper = asyncio.create_task(remove(), name="stepwire-store-sweeper")
