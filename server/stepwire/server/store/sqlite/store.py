"""The store in one SQLite file: the embedded default."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Callable, Collection, Sequence
from functools import partial
from pathlib import Path

from stepwire.server.store.aging import Aging, Gap
from stepwire.server.store.cluster import Cluster, Solo
from stepwire.server.store.damage import Damage
from stepwire.server.store.errors import StoreError
from stepwire.server.store.limits import REQUEST_AGE
from stepwire.server.store.port import CommitListener, DeletionListener
from stepwire.server.store.records import (
    Chunk,
    Claim,
    Commit,
    DueRun,
    EndedRun,
    LongRun,
    PrunedStart,
    RequestRecord,
    RunKey,
    RunQuery,
    RunRecord,
    SnapshotInfo,
    StoredSnapshot,
    WorkflowPause,
)
from stepwire.server.store.sqlite import claiming, list_queries, removal, run_queries, work_queries
from stepwire.server.store.sqlite.backup import backup
from stepwire.server.store.sqlite.batch_writer import BatchWriter
from stepwire.server.store.sqlite.connections import connect_writer
from stepwire.server.store.sqlite.directory_lock import DirectoryLock
from stepwire.server.store.sqlite.export import refuse_if_moved
from stepwire.server.store.sqlite.full_disk import FullDiskWriter
from stepwire.server.store.sqlite.gaps import keep_gap, read_gaps
from stepwire.server.store.sqlite.reader_pool import ReaderPool
from stepwire.server.store.sqlite.schema import DATABASE
from stepwire.server.store.sqlite.space import ReservedSpace
from stepwire.server.store.sqlite.writer import Writer
from stepwire.server.store.thinning import unneeded_commits
from stepwire.server.telemetry.metrics import StoreMetrics
from stepwire.workflow.hosting import start_task

log = logging.getLogger(__name__)

DELETED_AT_ONCE = 50
"""Runs, or commits of a run, that one job deletes: other commits wait meanwhile."""


class SqliteStore:
    """Keep runs in `<data_dir>/stepwire.db`; a `RunStore`.

    One thread writes, with group commit; others read. The directory is locked for one process.
    """

    def __init__(
        self,
        data_dir: Path,
        metrics: StoreMetrics | None = None,
        clock: Callable[[], float] = time.time,
    ) -> None:
        """Use a directory, which `open` makes if necessary.

        Args:
            data_dir: The directory.
            metrics: Counts what the store does.
            clock: Returns seconds since the epoch, UTC. It must be the clock of the records.
        """
        self.path = data_dir / DATABASE
        self._lock = DirectoryLock(data_dir)
        self._aging = Aging(clock)
        batches = BatchWriter(partial(connect_writer, self.path), self._aging)
        self._writer = Writer(FullDiskWriter(batches, ReservedSpace(data_dir)), metrics)
        # Loads must not wait for lists, nor for readers of long logs.
        self._loads = ReaderPool(self.path, "loads")
        self._replays = ReaderPool(self.path, "replays")
        self._lists = ReaderPool(self.path, "lists")
        self._going: list[DeletionListener] = []
        self._gone: list[DeletionListener] = []
        self.damage = Damage()
        self._sweeper: asyncio.Task[None] | None = None
        self.cluster: Cluster = Solo()

    async def open(self) -> None:
        """Lock the directory and open the database, making or migrating it.

        Raises:
            StoreLockedError: Another process has the directory; raised at once.
            StoreCorruptError: The database is damaged.
            StoreError: The database is of a newer version or not a store, or its runs were moved elsewhere.
        """
        self._lock.acquire()
        try:
            await self._writer.start()
        except BaseException:  # also a cancelled start: the next one needs the lock
            self._lock.release()
            raise
        for pool in self._pools:
            pool.open()
        try:
            await self._lists.run(refuse_if_moved, self.path.parent)
            await self._find_gaps()
        except BaseException:  # as above
            await self.close()
            raise
        self._sweep()  # what an earlier process left of deleted runs

    async def close(self) -> None:
        """Finish the commits in flight, close the database and unlock the directory."""
        if self._sweeper is not None:
            self._sweeper.cancel()
            await asyncio.wait([self._sweeper])
            self._sweeper = None
        for pool in self._pools:  # first: the last connection to close removes the write-ahead log, if it may write
            await pool.close()
        await self._writer.stop()
        self._lock.release()

    @property
    def failure(self) -> StoreError | None:
        """Return why the last transaction failed; None while writing works."""
        return self._writer.failure

    def on_failure(self, callback: Callable[[], None]) -> None:
        """Have `callback` called when writing begins to fail, and when it works again."""
        self._writer.on_failure = callback

    async def probe(self) -> None:
        """Write something that changes nothing, to see whether writing works."""
        await self._writer.run(claiming.probe)

    def listen(self, listener: CommitListener) -> None:
        """Have `listener` called with each durable commit."""
        self._writer.listeners.append(listener)

    def commit(self, commit: Commit) -> asyncio.Future[Claim]:
        """Write a commit in the next transaction."""
        return self._writer.commit(commit)

    async def claim(self, key: RunKey, *, force: bool = False) -> Claim | None:
        """Claim a run with a new token."""
        return await self._writer.run(partial(claiming.claim, key=key))

    def release(self, claim: Claim) -> None:
        """Do nothing: no other process can want the run."""

    async def get(self, key: RunKey) -> RunRecord | None:
        """Return the record of a run."""
        return await self.damage.noted(key, self._loads.run(run_queries.get, key))

    async def records(self, keys: Collection[RunKey]) -> dict[RunKey, RunRecord]:
        """Return the records of runs."""
        return await self._lists.run(run_queries.records, list(keys))

    async def terms_of(self, key: RunKey, name: str) -> list[str]:
        """Return the values of the terms of a name of a run."""
        return await self._lists.run(list_queries.terms_of, key, name)

    async def find_start(self, namespace: str, request_id: str) -> RunRecord | PrunedStart | None:
        """Return the run that a StartRun with this request_id started."""
        return await self._loads.run(list_queries.find_start, namespace, request_id)

    async def load(self, key: RunKey, sequence: int | None = None) -> StoredSnapshot | None:
        """Return the latest snapshot, or the one at exactly this sequence."""
        return await self._loads.run(run_queries.load, key, sequence)

    async def entries(self, key: RunKey, after: int, limit: int = 16) -> list[Chunk]:
        """Return chunks of the log from the one that holds `after + 1`."""
        return await self._replays.run(run_queries.entries, key, after, limit)

    async def requests(self, key: RunKey) -> list[RequestRecord]:
        """Return the answered requests that are kept of a run, oldest first."""
        return await self._loads.run(run_queries.requests, key, self._aging.ago(REQUEST_AGE))

    async def snapshots(self, key: RunKey, before: int | None, limit: int) -> list[SnapshotInfo]:
        """List the kept snapshots below sequence `before`, newest first."""
        return await self._replays.run(run_queries.snapshots, key, before, limit)

    async def due(
        self,
        now: float,
        limit: int,
        *,
        workflows: Sequence[str],
        after: tuple[float, int] = (-1.0, 0),
        share: bool = False,
    ) -> list[DueRun]:
        """Return unfinished, unblocked runs to wake, the most overdue first."""
        return await self._loads.run(work_queries.due, now, limit, list(workflows), after)

    async def ended(
        self, after: tuple[float, int], limit: int, *, before: float | None = None, longer_than: int = 0
    ) -> list[EndedRun]:
        """Return ended runs in the order in which they ended."""
        return await self._lists.run(work_queries.ended, after, limit, before, longer_than)

    async def next_wake(self, after: float, *, workflows: Sequence[str]) -> float | None:
        """Return the earliest time after `after` to wake a run."""
        return await self._loads.run(work_queries.next_wake, after, list(workflows))

    async def namespaces(self) -> list[str]:
        """Return the namespaces that have runs."""
        return await self._lists.run(work_queries.namespaces)

    async def delete(self, key: RunKey) -> bool:
        """Delete a run. It is gone at once; its space is freed between later commits."""
        self._tell(self._going, [key])
        deleted = await self._writer.run(partial(removal.delete, key=key), makes_space=True)
        if deleted:
            self._tell(self._gone, [key])
            self._sweep()
        return deleted

    def on_delete(self, going: DeletionListener, gone: DeletionListener) -> None:
        """Have listeners called before runs are deleted and after."""
        self._going.append(going)
        self._gone.append(gone)

    def ago(self, age: float) -> float:
        """Return the time since which `age` seconds have passed."""
        return self._aging.ago(age)

    async def pauses(self) -> Sequence[WorkflowPause]:
        """Return the pauses of all workflows that are or were paused."""
        return await self._lists.run(work_queries.pauses)

    async def save_pause(self, pause: WorkflowPause) -> None:
        """Keep the pauses of a workflow."""
        await self._writer.run(partial(work_queries.save_pause, pause=pause))

    async def counts(self) -> dict[tuple[str, str], int]:
        """Count runs by (workflow, status)."""
        return await self._lists.run(work_queries.counts)

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
        runs = await self._lists.run(list_queries.prunable, workflow, ended_before, keep_last, limit)
        count = 0
        for start in range(0, len(runs), DELETED_AT_ONCE):
            some = runs[start : start + DELETED_AT_ONCE]
            keys = [key for key, _ in some]
            oldest = self._aging.ago(REQUEST_AGE)
            self._tell(self._going, keys)
            prune = partial(removal.prune, runs=[pk for _, pk in some], oldest_start=oldest)
            count += await self._writer.run(prune, makes_space=True)
            self._tell(self._gone, keys)
        if count:
            self._sweep()
        return count

    async def thin_snapshots(self, key: RunKey, keep: Sequence[int] | None = None) -> int:
        """Drop the commits that no snapshot worth keeping needs."""
        run, places = await self._lists.run(run_queries.commit_places, key)
        count = 0
        some: list[int] = []
        for ids in unneeded_commits(places, keep or ()):
            some += ids
            if len(some) >= DELETED_AT_ONCE:
                count += await self._drop(run, some)
                some = []
        return count + (await self._drop(run, some) if some else 0)

    async def long_logs(self, workflow: str, entries: int, limit: int, *, after: int = 0) -> list[LongRun]:
        """Return runs of a workflow with a long log."""
        return await self._lists.run(work_queries.long_logs, workflow, entries, limit, after)

    async def trim(self, key: RunKey, first: int) -> int | None:
        """Drop the log before the chunk that holds sequence `first`, and the snapshots at what is dropped."""
        more = True
        while more:
            begins, more = await self._writer.run(partial(removal.trim, key=key, first=first), makes_space=True)
        return begins

    async def _drop(self, run: int, ids: Sequence[int]) -> int:
        return await self._writer.run(partial(removal.drop_commits, run=run, ids=ids), makes_space=True)

    async def list(self, query: RunQuery) -> list[RunRecord]:
        """Return the records that match, newest first."""
        damaged: list[RunKey] = []
        found = await self._lists.run(list_queries.list_runs, query, damaged)
        self.damage.found(damaged)
        return found

    @property
    def _pools(self) -> tuple[ReaderPool, ...]:
        return self._loads, self._replays, self._lists

    async def _find_gaps(self) -> None:
        """Find out whether the clock may have been set since the last commit."""
        gaps, new = await self._lists.run(read_gaps, self._aging.now())
        if new is not None:
            gaps.append(new)
            log.warning(
                "the last commit is %.1f days old by the clock: retention does not count this time, for the clock"
                " may have been set",
                (new.end - new.start) / 86400,
            )
            try:
                await self._writer.run(partial(keep_gap, gap=new))
            except StoreError as error:
                log.warning("the next start will count this time: %s", error)
        self._aging.skip(gaps)

    async def note_use(self) -> None:
        """Note that the time up to now did pass: the next opening takes none of it for a gap."""
        now = self._aging.now()
        await self._writer.run(partial(keep_gap, gap=Gap(now, now)))

    def _tell(self, listeners: Sequence[DeletionListener], keys: Sequence[RunKey]) -> None:
        for listener in listeners:
            listener(keys)

    def _sweep(self) -> None:
        """Have the rows of deleted runs removed, a little at a time."""

        async def remove() -> None:
            try:
                while await self._writer.run(removal.sweep, makes_space=True):
                    pass
            except StoreError as error:
                # The next deletion or start goes on with it.
                log.warning("deleted runs still take space: %s", error)

        if self._sweeper is None or self._sweeper.done():
            self._sweeper = start_task(remove(), name="stepwire-store-sweeper")
