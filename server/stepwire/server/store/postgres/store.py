"""The store in PostgreSQL: for replicas that share it, and for one server beside a database that is there anyway."""

from __future__ import annotations

import asyncio
import json
import logging
import random
import time
from collections.abc import Callable, Collection, Sequence
from pathlib import Path
from time import monotonic

import asyncpg

from stepwire.server import failpoints
from stepwire.server.store.aging import Aging
from stepwire.server.store.damage import Damage
from stepwire.server.store.errors import (
    OwnedElsewhereError,
    QuotaExceededError,
    RunExistsError,
    StartRequestExistsError,
    StoreError,
    StoreUnavailableError,
)
from stepwire.server.store.limits import REQUEST_AGE
from stepwire.server.store.port import CommitListener, DeletionListener
from stepwire.server.store.postgres import claiming, list_queries, removal, run_queries, work_queries
from stepwire.server.store.postgres.commit_statements import Row
from stepwire.server.store.postgres.connections import (
    LOST,
    PATIENCE,
    WriteConnection,
    not_accepted,
    refused,
    unreachable,
)
from stepwire.server.store.postgres.meeting import Meeting
from stepwire.server.store.postgres.membership import LEASE, Membership
from stepwire.server.store.postgres.migration import migrate
from stepwire.server.store.postgres.promises import weaknesses
from stepwire.server.store.postgres.reach import Reach
from stepwire.server.store.postgres.schema import CHANNEL
from stepwire.server.store.postgres.statements import Statements
from stepwire.server.store.postgres.upkeep import Upkeep
from stepwire.server.store.postgres.writer import Writer
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
from stepwire.server.store.thinning import unneeded_commits
from stepwire.server.telemetry.metrics import StoreMetrics

log = logging.getLogger(__name__)


class PostgresStore:
    """Keep runs in a PostgreSQL database; a `RunStore`.

    Every statement is a transaction of its own. What loses its connection is tried again for `PATIENCE` seconds.
    """

    def __init__(
        self,
        dsn: str,
        metrics: StoreMetrics | None = None,
        clock: Callable[[], float] = time.time,
        *,
        lease: float = LEASE,
        on_clock: Callable[[float], None] = lambda now: None,
    ) -> None:
        """Use a database.

        Args:
            dsn: Where it is, as libpq takes it: postgres://USER@HOST[,HOST]/DATABASE?target_session_attrs=…
            metrics: Counts what the store does.
            clock: Returns seconds since the epoch, UTC. It must be the clock of the records.
            lease: Seconds without a beat after which a replica is taken for dead.
            on_clock: Called with the database's time, now and then.
        """
        self._dsn = dsn
        self._aging = Aging(clock)
        self._reach = reach = Reach()
        self._statements = statements = Statements(dsn, reach)
        self._read, self._list, self._change = statements.read, statements.list, statements.change
        self._writer = Writer(dsn, self._explain, reach, metrics)
        self.cluster = Membership(
            dsn, self._read, self._change, self._freed, self._writer.version_of, reach, lease, on_clock
        )
        self._writer.owner = lambda: self.cluster.me or None
        self._released: list[Claim] = []
        self._releasing: asyncio.Task[None] | None = None
        self._going: list[DeletionListener] = []
        self._gone: list[DeletionListener] = []
        self.damage = Damage()
        self._upkeep = Upkeep(self._list, self._change, self._aging)

    async def open(self) -> None:
        """Connect, and make or migrate the tables. Waits for a database that is not there yet.

        Raises:
            StoreUnavailableError: It cannot be reached.
            StoreError: It is of a newer version, refuses the credential, or is not encoded in UTF-8.
        """
        deadline = monotonic() + PATIENCE
        while True:
            try:
                await migrate(self._dsn)
                await self._statements.open()
                break
            except (asyncpg.InvalidAuthorizationSpecificationError, asyncpg.InvalidCatalogNameError) as error:
                raise not_accepted(error) from error
            except LOST as error:
                if monotonic() > deadline:
                    raise unreachable(error, self._dsn) from error
                await asyncio.sleep(random.uniform(0.1, 0.5))
            except asyncpg.PostgresError as error:
                raise refused(error) from error
        self._writer.start()
        self._writer.listeners.insert(0, self._upkeep.count_requests)
        await self._upkeep.find_gaps()
        for weakness in await weaknesses(self._read):
            log.warning("PostgreSQL: %s (docs/cluster.md)", weakness)
        self._upkeep.sweep()

    async def close(self) -> None:
        """Finish the commits in flight, sign off, and disconnect."""
        await self.cluster.leave()
        await self._upkeep.stop()
        await self._writer.stop()
        await self._statements.close()

    @property
    def failure(self) -> StoreError | None:
        """Return why the last write failed; None while writing works."""
        return self._reach.failure

    def on_failure(self, callback: Callable[[], None]) -> None:
        """Have `callback` called when writing begins to fail, and when it works again."""
        self._reach.on_change = callback

    async def probe(self) -> None:
        """Write something that changes nothing, to see whether writing works."""
        await self._writer.probe()

    def listen(self, listener: CommitListener) -> None:
        """Have `listener` called with each durable commit."""
        self._writer.listeners.append(listener)

    def commit(self, commit: Commit) -> asyncio.Future[Claim]:
        """Write a commit in the next group."""
        return self._writer.commit(commit)

    async def claim(self, key: RunKey, *, force: bool = False) -> Claim | None:
        """Claim a run with a new token."""
        if failpoints.ACTIVE:
            failpoints.hit("claim.before")
        meeting = Meeting(self.cluster)
        while True:
            try:
                found = await claiming.claim(self._change, key, self.cluster.me or None, force=force)
                break
            except OwnedElsewhereError as error:
                if await meeting.over([error.replica]):
                    if self.cluster.me and not self.cluster.knows(error.replica):
                        raise StoreUnavailableError("the owner of the run was not seen to beat yet") from error
                    raise
        if found is None:
            return None
        self.cluster.claimed(key, found.taken_from)
        self._writer.claimed(found.claim, found.version, found.sequence)
        if failpoints.ACTIVE:
            failpoints.hit("claim.after")
        return found.claim

    def release(self, claim: Claim) -> None:
        """Give up the ownership of a run, with the others of this moment."""
        self._writer.forget([claim.handle])
        if not self.cluster.me:
            return
        self._released.append(claim)
        if self._releasing is None:
            self._releasing = self._upkeep.spawn(self._release, "release")

    async def _release(self) -> None:
        try:
            while self._released:
                released, self._released = self._released, []
                if failpoints.ACTIVE:
                    failpoints.hit("release.before")
                try:
                    await claiming.release(self._change, released, self.cluster.me)
                except StoreError:  # else nobody would take them up while this replica lives
                    self._released += released
                    await asyncio.sleep(1.0)
        finally:
            self._releasing = None

    async def _freed(self) -> None:
        """Wait until the runs that were released are free."""
        while self._releasing is not None:
            await asyncio.wait([self._releasing])

    async def get(self, key: RunKey) -> RunRecord | None:
        """Return the record of a run."""
        return await self.damage.noted(key, run_queries.get(self._read, key))

    async def records(self, keys: Collection[RunKey]) -> dict[RunKey, RunRecord]:
        """Return the records of runs."""
        return await run_queries.records(self._read, keys)

    async def terms_of(self, key: RunKey, name: str) -> list[str]:
        """Return the values of the terms of a name of a run."""
        return await list_queries.terms_of(self._list, key, name)

    async def find_start(self, namespace: str, request_id: str) -> RunRecord | PrunedStart | None:
        """Return the run that a StartRun with this request_id started."""
        return await run_queries.find_start(self._read, namespace, request_id)

    async def load(self, key: RunKey, sequence: int | None = None) -> StoredSnapshot | None:
        """Return the latest snapshot, or the one at exactly this sequence."""
        return await run_queries.load(self._read, key, sequence)

    async def entries(self, key: RunKey, after: int, limit: int = 16) -> list[Chunk]:
        """Return chunks of the log from the one that holds `after + 1`."""
        return await run_queries.entries(self._read, key, after, limit)

    async def requests(self, key: RunKey) -> list[RequestRecord]:
        """Return the answered requests that are kept of a run, oldest first."""
        return await run_queries.requests(self._read, key, self._aging.ago(REQUEST_AGE))

    async def snapshots(self, key: RunKey, before: int | None, limit: int) -> list[SnapshotInfo]:
        """List the kept snapshots below sequence `before`, newest first."""
        return await run_queries.snapshots(self._read, key, before, limit)

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
        cluster = self.cluster
        size, rank = (cluster.size, cluster.rank) if share else (1, 0)
        return await work_queries.due(self._read, now, limit, workflows, after, cluster.me, size, rank)

    async def ended(
        self, after: tuple[float, int], limit: int, *, before: float | None = None, longer_than: int = 0
    ) -> list[EndedRun]:
        """Return ended runs in the order in which they ended."""
        return await work_queries.ended(self._list, after, limit, before, longer_than)

    async def next_wake(self, after: float, *, workflows: Sequence[str]) -> float | None:
        """Return the earliest time after `after` to wake a run."""
        return await work_queries.next_wake(self._read, after, workflows)

    async def namespaces(self) -> list[str]:
        """Return the namespaces that have runs."""
        return [row[0] for row in await self._list("SELECT DISTINCT namespace FROM runs ORDER BY 1")]

    async def delete(self, key: RunKey) -> bool:
        """Delete a run. It is gone at once; its space is freed later."""
        self._tell(self._going, [key])
        pk = await removal.delete(self._change, key)
        if pk is not None:
            self._writer.forget([pk])
            self._tell(self._gone, [key])
            await self.cluster.announce("deleted", [key])
            self._upkeep.sweep()
        return pk is not None

    def on_delete(self, going: DeletionListener, gone: DeletionListener) -> None:
        """Have listeners called before runs are deleted and after."""
        self._going.append(going)
        self._gone.append(gone)

    def ago(self, age: float) -> float:
        """Return the time since which `age` seconds have passed."""
        return self._aging.ago(age)

    async def pauses(self) -> Sequence[WorkflowPause]:
        """Return the pauses of all workflows that are or were paused."""
        return await work_queries.pauses(self._list)

    async def save_pause(self, pause: WorkflowPause) -> None:
        """Keep the pauses of a workflow."""
        await work_queries.save_pause(self._change, pause)
        news = json.dumps(["paused", self.cluster.me, pause.namespace, pause.workflow])
        await self._change("SELECT pg_notify($1, $2)", CHANNEL, news)

    async def counts(self) -> dict[tuple[str, str], int]:
        """Count runs by (workflow, status)."""
        rows = await self._list("SELECT workflow, status, count(*) FROM runs GROUP BY 1, 2")
        return {(row[0], row[1]): row[2] for row in rows}

    async def backup(self, target: Path) -> None:
        """Refuse: a database is backed up by its own tools."""
        raise StoreError("PostgreSQL is backed up by its own tools: pg_dump, pg_basebackup")

    async def prune(
        self,
        workflow: str | None = None,
        ended_before: float | None = None,
        keep_last: int | None = None,
        limit: int = 1000,
    ) -> int:
        """Delete ended runs that meet every condition given."""
        runs = await work_queries.prunable(self._list, workflow, ended_before, keep_last, limit)
        count = 0
        for start in range(0, len(runs), removal.DELETED_AT_ONCE):
            some = runs[start : start + removal.DELETED_AT_ONCE]
            keys = [key for key, _ in some]
            self._tell(self._going, keys)
            gone = await removal.prune(self._change, [pk for _, pk in some], self._aging.ago(REQUEST_AGE))
            count += len(gone)
            self._writer.forget(gone)
            self._tell(self._gone, keys)
            await self.cluster.announce("deleted", keys)
        if count:
            self._upkeep.sweep()
        return count

    async def thin_snapshots(self, key: RunKey, keep: Sequence[int] | None = None) -> int:
        """Drop the commits that no snapshot worth keeping needs."""
        run, places = await run_queries.commit_places(self._list, key)
        return await removal.thin(self._change, run, unneeded_commits(places, keep or ()))

    async def long_logs(self, workflow: str, entries: int, limit: int, *, after: int = 0) -> list[LongRun]:
        """Return runs of a workflow with a long log."""
        return await work_queries.long_logs(self._list, workflow, entries, limit, after)

    async def trim(self, key: RunKey, first: int) -> int | None:
        """Drop the log before the chunk that holds sequence `first`, and the snapshots at what is dropped."""
        more = True
        while more:
            begins, more = await removal.trim(self._change, key, first)
        if begins is not None:
            await self.cluster.announce("trimmed", [key], begins)
        return begins

    async def list(self, query: RunQuery) -> list[RunRecord]:
        """Return the records that match, newest first."""
        return await list_queries.list_runs(self._list, query, self.damage)

    async def secret(self, name: str, new: bytes) -> bytes:
        """Return the secret of this name that all users of the database share; the first use keeps `new`."""
        await self._change("INSERT INTO secrets VALUES ($1, $2) ON CONFLICT DO NOTHING", name, new)
        (row,) = await self._read("SELECT value FROM secrets WHERE name = $1", name)
        return bytes(row[0])

    async def _explain(self, connection: WriteConnection, row: Row) -> StoreError:
        """Return why a new run was not written."""
        request_id = row.row.start_request_id
        if request_id and (found := await run_queries.find_start(connection.fetch, row.row.namespace, request_id)):
            return StartRequestExistsError(found)
        if row.quota is not None and not await run_queries.exists(connection.fetch, row.commit.record.key):
            return QuotaExceededError(row.quota.most)
        return RunExistsError(f"run {row.row.run_id} exists")

    def _tell(self, listeners: Sequence[DeletionListener], keys: Sequence[RunKey]) -> None:
        for listener in listeners:
            listener(keys)
