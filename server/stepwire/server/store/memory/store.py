"""The store in memory: a `RunStore` over dicts."""

from __future__ import annotations

import asyncio
import time
from collections import Counter
from collections.abc import Callable, Collection, Sequence
from pathlib import Path

from stepwire.server.store.aging import Aging
from stepwire.server.store.cluster import Cluster, Solo
from stepwire.server.store.completion import notify, resolve
from stepwire.server.store.damage import Damage
from stepwire.server.store.encoding import encode_commit, encode_request
from stepwire.server.store.errors import (
    RunExistsError,
    StaleClaimError,
    StartRequestExistsError,
    StoreError,
    StoreUnavailableError,
)
from stepwire.server.store.limits import LIST_BYTES, LONG_LOG, REQUEST_AGE
from stepwire.server.store.memory.kept_run import KeptRun
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
from stepwire.server.store.terms import CLOSE, TELL, term_parts, terms_from

_UNDONE = {TELL, CLOSE}


class MemoryStore:
    """Keep runs in dicts; a `RunStore` that forgets all of them when the process ends."""

    def __init__(self, clock: Callable[[], float] = time.time) -> None:
        self._runs: dict[RunKey, KeptRun] = {}
        self._starts: dict[tuple[str, str], KeptRun] = {}
        self._pauses: dict[tuple[str, str], WorkflowPause] = {}
        self._pruned: dict[tuple[str, str], PrunedStart] = {}
        self._listeners: list[CommitListener] = []
        self._going: list[DeletionListener] = []
        self._gone: list[DeletionListener] = []
        self.damage = Damage()
        self._aging = Aging(clock)
        self._last_id = 0
        self._open = False
        self.cluster: Cluster = Solo()

    async def open(self) -> None:
        """Accept commits from now on."""
        self._open = True

    async def close(self) -> None:
        """Refuse further commits. The runs stay in memory as long as the store object."""
        self._open = False
        await asyncio.sleep(0)  # let the futures of the last commits resolve

    @property
    def failure(self) -> StoreError | None:
        """Return None: writing to memory always works."""
        return None

    def on_failure(self, callback: Callable[[], None]) -> None:
        """Never call back."""

    async def probe(self) -> None:
        """Return: writing to memory always works."""

    def listen(self, listener: CommitListener) -> None:
        """Have `listener` called with each commit."""
        self._listeners.append(listener)

    def commit(self, commit: Commit) -> asyncio.Future[Claim]:
        """Keep a commit; its future resolves in the next turn of the loop."""
        loop = asyncio.get_running_loop()
        future: asyncio.Future[Claim] = loop.create_future()
        try:
            claim = self._apply(commit)
        except StoreError as error:
            loop.call_soon(resolve, future, error)
        else:
            loop.call_soon(self._deliver, loop, commit, future, claim)
        return future

    async def claim(self, key: RunKey, *, force: bool = False) -> Claim | None:
        """Claim a run with a new token."""
        run = self._runs.get(key)
        if run is None:
            return None
        run.token += 1
        return Claim(key, run.token, run.handle)

    def release(self, claim: Claim) -> None:
        """Do nothing: no other process can want the run."""

    async def get(self, key: RunKey) -> RunRecord | None:
        """Return the record of a run."""
        run = self._runs.get(key)
        return run.record if run else None

    async def records(self, keys: Collection[RunKey]) -> dict[RunKey, RunRecord]:
        """Return the records of runs."""
        return {key: run.record for key in keys if (run := self._runs.get(key)) is not None}

    async def terms_of(self, key: RunKey, name: str) -> list[str]:
        """Return the values of the terms of a name of a run."""
        record = await self.get(key)
        parts = [] if record is None else map(term_parts, record.terms)
        return [value for found, value in parts if found == name]

    async def find_start(self, namespace: str, request_id: str) -> RunRecord | PrunedStart | None:
        """Return the run that a StartRun with this request_id started."""
        return self._find_start((namespace, request_id))

    async def load(self, key: RunKey, sequence: int | None = None) -> StoredSnapshot | None:
        """Return the latest snapshot, or the one at exactly this sequence."""
        run = self._runs.get(key)
        return run.load(sequence) if run else None

    async def entries(self, key: RunKey, after: int, limit: int = 16) -> list[Chunk]:
        """Return chunks of the log from the one that holds `after + 1`."""
        run = self._runs.get(key)
        return run.entries(after, limit) if run else []

    async def requests(self, key: RunKey) -> list[RequestRecord]:
        """Return the answered requests that are kept of a run, oldest first."""
        run = self._runs.get(key)
        return run.requests(self._aging.ago(REQUEST_AGE)) if run else []

    async def snapshots(self, key: RunKey, before: int | None, limit: int) -> list[SnapshotInfo]:
        """List the kept snapshots below sequence `before`, newest first."""
        run = self._runs.get(key)
        return run.snapshots(before, limit) if run else []

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
        found = [
            (run.wake_at, run.handle, key)
            for key, run in self._runs.items()
            if run.wake_at is not None
            and run.wake_at <= now
            and run.row.workflow in workflows
            and (run.wake_at, run.handle) > after
        ]
        return [DueRun(key, wake_at, handle) for wake_at, handle, key in sorted(found)[:limit]]

    async def ended(
        self, after: tuple[float, int], limit: int, *, before: float | None = None, longer_than: int = 0
    ) -> list[EndedRun]:
        """Return ended runs in the order in which they ended."""
        found = [
            (run.row.ended_at, run.handle, key)
            for key, run in self._runs.items()
            if run.row.ended_at is not None
            and run.row.last_sequence > longer_than
            and (before is None or run.row.ended_at < before)
            and (run.row.ended_at, run.handle) > after
        ]
        return [EndedRun(key, ended_at, handle) for ended_at, handle, key in sorted(found)[:limit]]

    async def next_wake(self, after: float, *, workflows: Sequence[str]) -> float | None:
        """Return the earliest time after `after` to wake a run."""
        times = (run.wake_at for run in self._runs.values() if run.row.workflow in workflows)
        return min((at for at in times if at is not None and at > after), default=None)

    async def namespaces(self) -> list[str]:
        """Return the namespaces that have runs."""
        return sorted({key.namespace for key in self._runs})

    async def delete(self, key: RunKey) -> bool:
        """Delete a run and everything of it."""
        if key not in self._runs:
            return False
        self._drop([key])
        return True

    def on_delete(self, going: DeletionListener, gone: DeletionListener) -> None:
        """Have listeners called before runs are deleted and after."""
        self._going.append(going)
        self._gone.append(gone)

    def ago(self, age: float) -> float:
        """Return the time since which `age` seconds have passed."""
        return self._aging.ago(age)

    async def pauses(self) -> Sequence[WorkflowPause]:
        """Return the pauses of all workflows that are or were paused."""
        return tuple(self._pauses.values())

    async def save_pause(self, pause: WorkflowPause) -> None:
        """Keep the pauses of a workflow."""
        self._pauses[pause.namespace, pause.workflow] = pause

    async def counts(self) -> dict[tuple[str, str], int]:
        """Count runs by (workflow, status)."""
        return dict(Counter((run.row.workflow, run.row.status) for run in self._runs.values()))

    async def backup(self, target: Path) -> None:
        """Refuse: there is nothing on disk to copy."""
        raise StoreError("a store in memory cannot be backed up")

    async def prune(
        self,
        workflow: str | None = None,
        ended_before: float | None = None,
        keep_last: int | None = None,
        limit: int = 1000,
    ) -> int:
        """Delete ended runs that meet every condition given."""
        ended = [
            (run.row.ended_at, run.handle, key, run.row.workflow)
            for key, run in self._runs.items()
            if run.row.ended_at is not None and workflow in (None, run.row.workflow)
        ]
        ended.sort()
        places: Counter[tuple[str, str]] = Counter()
        going: list[RunKey] = []
        for ended_at, _, key, of_workflow in reversed(ended):
            places[key.namespace, of_workflow] += 1
            kept = keep_last is not None and places[key.namespace, of_workflow] <= keep_last
            kept |= not _UNDONE.isdisjoint(terms_from(self._runs[key].row.terms))
            if not kept and (ended_before is None or ended_at < ended_before):
                going.append(key)
        going = going[::-1][:limit]
        self._keep_starts(going)
        self._drop(going)
        return len(going)

    async def thin_snapshots(self, key: RunKey, keep: Sequence[int] | None = None) -> int:
        """Drop the commits that no snapshot worth keeping needs."""
        run = self._runs.get(key)
        return run.thin(keep or ()) if run else 0

    async def long_logs(self, workflow: str, entries: int, limit: int, *, after: int = 0) -> list[LongRun]:
        """Return runs of a workflow with a long log."""
        found = [
            (run.handle, key, run.row.first_available, run.row.last_sequence)
            for key, run in self._runs.items()
            if run.row.workflow == workflow
            and run.row.last_sequence - run.row.first_available >= max(entries, LONG_LOG)
            and run.handle > after
        ]
        return [LongRun(key, first, last, handle) for handle, key, first, last in sorted(found)[:limit]]

    async def trim(self, key: RunKey, first: int) -> int | None:
        """Drop the log before the chunk that holds sequence `first`, and the snapshots at what is dropped."""
        run = self._runs.get(key)
        return run.trim(first) if run else None

    async def list(self, query: RunQuery) -> list[RunRecord]:
        """Return the records that match, newest first."""
        found = [
            record
            for key, run in self._runs.items()
            if key.namespace == query.namespace and _matches(record := run.record, query)
        ]
        found.sort(key=lambda record: (record.created_at, record.key.run_id), reverse=True)
        page: list[RunRecord] = []
        size = 0
        for record in found[: query.limit]:
            page.append(record)
            size += len(self._runs[record.key].row.info)
            if size >= LIST_BYTES:
                break
        return page

    def _apply(self, commit: Commit) -> Claim:
        if not self._open:
            raise StoreUnavailableError("the store is not open")
        record, claim = commit.record, commit.claim
        key = record.key
        row, pending, _ = encode_commit(commit)
        try:
            requests = [encode_request(request) for request in commit.requests]
        except (TypeError, ValueError) as error:
            raise StoreError(f"the commit of run {key.run_id} is not JSON-able") from error
        run = self._runs.get(key)
        self._last_id += 1
        if claim is None:
            start = (key.namespace, record.start_request_id)
            if record.start_request_id and (known := self._find_start(start)) is not None:
                raise StartRequestExistsError(known)
            if run is not None:
                raise RunExistsError(f"run {key.run_id} exists")
            run = self._runs[key] = KeptRun(self._last_id, 1, row)
            if record.start_request_id:
                self._starts[start] = run
        elif run is None or (run.handle, run.token) != (claim.handle, claim.token):
            raise StaleClaimError(f"run {key.run_id} was claimed by another or deleted")
        else:
            run.replace_record(row)
        run.append(commit, self._last_id, requests, pending)
        return Claim(key, run.token, run.handle)

    def _find_start(self, start: tuple[str, str]) -> RunRecord | PrunedStart | None:
        run = self._starts.get(start)
        return run.record if run else self._pruned.get(start)

    def _keep_starts(self, keys: Sequence[RunKey]) -> None:
        """Keep what began runs that are about to be pruned, and drop what was kept long enough."""
        oldest = self._aging.ago(REQUEST_AGE)
        for row in (self._runs[key].row for key in keys):
            if row.start_request_id and row.created_at > oldest:
                start = PrunedStart(RunKey(row.namespace, row.run_id), row.start_digest, row.created_at)
                self._pruned[row.namespace, row.start_request_id] = start
        self._pruned = {start: kept for start, kept in self._pruned.items() if kept.created_at > oldest}

    def _drop(self, keys: Sequence[RunKey]) -> None:
        for listener in self._going:
            listener(keys)
        for key in keys:
            run = self._runs.pop(key)
            self._starts.pop((key.namespace, run.row.start_request_id), None)
        for listener in self._gone:
            listener(keys)

    def _deliver(
        self,
        loop: asyncio.AbstractEventLoop,
        commit: Commit,
        future: asyncio.Future[Claim],
        claim: Claim,
    ) -> None:
        notify(loop, self._listeners, commit)
        resolve(future, claim)


def _matches(record: RunRecord, query: RunQuery) -> bool:
    position = (record.created_at, record.key.run_id)
    return (
        (not query.workflow or record.workflow == query.workflow)
        and (query.workflows is None or record.workflow in query.workflows)
        and (not query.statuses or record.status in query.statuses)
        and (query.created_after is None or record.created_at > query.created_after)
        and (query.created_before is None or record.created_at < query.created_before)
        and (query.before is None or position < tuple(query.before))
        and all(record.labels.get(label) == value for label, value in query.labels.items())
        and all(each in record.terms for each in query.terms)
        and record.key.run_id.startswith(query.run_id_prefix)
        and (query.ended_after is None or (record.ended_at is not None and record.ended_at > query.ended_after))
        and (query.ended_before is None or (record.ended_at is not None and record.ended_at < query.ended_before))
    )
