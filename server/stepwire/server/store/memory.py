"""The store in memory, for tests and runs that need not outlive the process."""

from __future__ import annotations

import asyncio
import time
from bisect import bisect_left, bisect_right
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import NamedTuple

from stepwire.server.store.futures import notify, resolve
from stepwire.server.store.port import (
    LONG_LOG,
    TERMINAL,
    Chunk,
    Claim,
    Commit,
    CommitListener,
    DueRun,
    EndedRun,
    LongRun,
    RequestRecord,
    RunExistsError,
    RunKey,
    RunQuery,
    RunRecord,
    SnapshotInfo,
    StaleClaimError,
    StartRequestExistsError,
    Status,
    StoredSnapshot,
    StoreError,
    StoreUnavailableError,
    within,
)
from stepwire.server.store.retention import KEPT_REQUESTS, Step, kept_requests, unneeded
from stepwire.server.store.rows import (
    RecordRow,
    decode_record,
    decode_requests,
    encode_record,
    encode_request,
)

_ASLEEP = TERMINAL | {Status.BLOCKED}


class _Delta(NamedTuple):
    id: int
    sequence: int
    at: float
    full: bool
    data: bytes


@dataclass(slots=True)
class _Run:
    """A run; `row` is its record, encoded so that no one can change it from outside."""

    handle: int
    token: int
    row: RecordRow
    deltas: list[_Delta] = field(default_factory=list)
    chunks: list[Chunk] = field(default_factory=list)
    requests: list[str] = field(default_factory=list)

    @property
    def record(self) -> RunRecord:
        return decode_record(self.row)

    @property
    def first_kept(self) -> int:
        """The first sequence whose snapshot is kept; what a fork began with is at 0."""
        return self.row.first_available if self.row.first_available > 1 else 0

    @property
    def wake_at(self) -> float | None:
        return None if self.row.status in _ASLEEP else self.row.wake_at


class MemoryStore:
    """Keep runs in dicts; a `RunStore` that forgets all of them when the process ends."""

    def __init__(self) -> None:
        self._runs: dict[RunKey, _Run] = {}
        self._starts: dict[tuple[str, str], _Run] = {}
        self._listeners: list[CommitListener] = []
        self._last_id = 0
        self._open = False

    async def open(self) -> None:
        """Begin to take commits."""
        self._open = True

    async def close(self) -> None:
        """Take no more commits. What is kept stays until the store itself goes."""
        self._open = False
        await asyncio.sleep(0)  # the futures of commits under way resolve

    @property
    def failure(self) -> StoreError | None:
        """Give None: writing to memory works."""
        return None

    def on_failure(self, callback: Callable[[], None]) -> None:
        """Never call back."""

    async def probe(self) -> None:
        """Find that writing works."""

    def listen(self, listener: CommitListener) -> None:
        """Have `listener` called with each commit."""
        self._listeners.append(listener)

    def commit(self, commit: Commit) -> asyncio.Future[Claim]:
        """Keep a commit; its future resolves when the loop comes round."""
        loop = asyncio.get_running_loop()
        future: asyncio.Future[Claim] = loop.create_future()
        try:
            claim = self._apply(commit)
        except StoreError as error:
            loop.call_soon(resolve, future, error)
        else:
            loop.call_soon(self._deliver, loop, commit, future, claim)
        return future

    async def claim(self, key: RunKey) -> Claim | None:
        """Claim a run with a new token."""
        run = self._runs.get(key)
        if run is None:
            return None
        run.token += 1
        return Claim(key, run.token, run.handle)

    async def get(self, key: RunKey) -> RunRecord | None:
        """Give the record of a run."""
        run = self._runs.get(key)
        return run.record if run else None

    async def find_start(self, namespace: str, request_id: str) -> RunRecord | None:
        """Give the run that a StartRun with this request_id started."""
        run = self._starts.get((namespace, request_id))
        return run.record if run else None

    async def load(self, key: RunKey, sequence: int | None = None) -> StoredSnapshot | None:
        """Give the latest snapshot, or the latest one with exactly this sequence."""
        run = self._runs.get(key)
        if run is None:
            return None
        end = len(run.deltas)
        if sequence is not None:
            end = bisect_right(run.deltas, sequence, key=lambda delta: delta.sequence)
        if not end or (sequence is not None and run.deltas[end - 1].sequence != sequence):
            return None
        if sequence is not None and sequence < run.first_kept:
            return None
        last = run.deltas[end - 1]
        start = next(n for n in range(end - 1, -1, -1) if run.deltas[n].full)
        data = [delta.data for delta in run.deltas[start:end]]
        return StoredSnapshot(last.sequence, last.at, data[0], data[1:])

    async def entries(self, key: RunKey, after: int, limit: int = 16) -> list[Chunk]:
        """Give chunks of the log from the one that holds `after + 1`."""
        run = self._runs.get(key)
        if run is None:
            return []
        start = bisect_right(run.chunks, after, key=lambda chunk: chunk.last)
        return within(run.chunks[start : start + limit])

    async def requests(self, key: RunKey) -> list[RequestRecord]:
        """Give the answered requests that are kept of a run, oldest first."""
        run = self._runs.get(key)
        requests = decode_requests(f"[{','.join(run.requests)}]") if run else []
        return kept_requests(requests, time.time())

    async def snapshots(self, key: RunKey, before: int | None, limit: int) -> list[SnapshotInfo]:
        """List the kept snapshots below sequence `before`, newest first."""
        run = self._runs.get(key)
        found: list[SnapshotInfo] = []
        for delta in reversed(run.deltas if run else ()):
            if len(found) >= limit:
                break
            if before is not None and delta.sequence >= before:
                continue
            if run is not None and delta.sequence < run.first_kept:
                break
            if not found or found[-1].sequence != delta.sequence:
                found.append(SnapshotInfo(delta.sequence, delta.at, len(delta.data)))
        return found

    async def due(
        self, now: float, limit: int, *, workflows: Sequence[str], after: tuple[float, int] = (-1.0, 0)
    ) -> list[DueRun]:
        """Give unfinished, unblocked runs to wake, the most overdue first."""
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
        """Give ended runs, those that ended first first."""
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
        """Give the earliest time after `after` to wake a run."""
        times = (run.wake_at for run in self._runs.values() if run.row.workflow in workflows)
        return min((at for at in times if at is not None and at > after), default=None)

    async def namespaces(self) -> list[str]:
        """Give the namespaces that have runs."""
        return sorted({key.namespace for key in self._runs})

    async def delete(self, key: RunKey) -> bool:
        """Delete a run and everything of it."""
        run = self._runs.pop(key, None)
        if run is None:
            return False
        self._starts.pop((key.namespace, run.row.start_request_id), None)
        return True

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
            if not kept and (ended_before is None or ended_at < ended_before):
                going.append(key)
        going = going[::-1][:limit]
        for key in going:
            await self.delete(key)
        return len(going)

    async def thin_snapshots(self, key: RunKey, keep: Sequence[int] | None = None) -> int:
        """Drop the commits that no snapshot worth keeping needs."""
        run = self._runs.get(key)
        if run is None:
            return 0
        steps = [Step(delta.id, delta.sequence, delta.full) for delta in run.deltas]
        dropped = {id_ for ids in unneeded(steps, keep or ()) for id_ in ids}
        run.deltas = [delta for delta in run.deltas if delta.id not in dropped]
        return len(dropped)

    async def long_logs(self, workflow: str, entries: int, limit: int, *, after: int = 0) -> list[LongRun]:
        """Give runs of a workflow with a long log."""
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
        if run is None:
            return None
        gone = bisect_left(run.chunks, first, 0, max(0, len(run.chunks) - 1), key=lambda chunk: chunk.last)
        if gone:
            first = run.chunks[gone].first
            del run.chunks[:gone]
            run.row = run.row._replace(first_available=first)
            kept = bisect_left(run.deltas, first, 0, len(run.deltas) - 1, key=lambda delta: delta.sequence)
            # The last full one up to there leads to the first snapshot that is kept.
            del run.deltas[: next(n for n in range(kept, -1, -1) if run.deltas[n].full)]
        return run.row.first_available

    async def list(self, query: RunQuery) -> list[RunRecord]:
        """Give the records that match, newest first."""
        found = [
            record
            for key, run in self._runs.items()
            if key.namespace == query.namespace and _matches(record := run.record, query)
        ]
        found.sort(key=lambda record: (record.created_at, record.key.run_id), reverse=True)
        return found[: query.limit]

    def _apply(self, commit: Commit) -> Claim:
        if not self._open:
            raise StoreUnavailableError("the store is not open")
        record, claim = commit.record, commit.claim
        key = record.key
        try:
            row = encode_record(record)
            requests = [encode_request(request) for request in commit.requests]
        except (TypeError, ValueError) as error:
            raise StoreError(f"the commit of run {key.run_id} is not JSON-able") from error
        run = self._runs.get(key)
        self._last_id += 1
        if claim is None:
            start = (key.namespace, record.start_request_id)
            if record.start_request_id and start in self._starts:
                raise StartRequestExistsError(self._starts[start].record)
            if run is not None:
                raise RunExistsError(f"run {key.run_id} exists")
            run = self._runs[key] = _Run(self._last_id, 1, row)
            if record.start_request_id:
                self._starts[start] = run
        elif run is None or (run.handle, run.token) != (claim.handle, claim.token):
            raise StaleClaimError(f"run {key.run_id} was claimed by another or deleted")
        else:
            # What a run began with stays, and where its log begins, whatever a later record says.
            run.row = row._replace(
                workflow=run.row.workflow,
                created_at=run.row.created_at,
                start_request_id=run.row.start_request_id,
                start_digest=run.row.start_digest,
                first_available=run.row.first_available,
            )
        sequence, at = record.last_sequence, record.updated_at
        run.deltas.append(_Delta(self._last_id, sequence, at, commit.full, commit.delta))
        run.chunks += commit.chunks
        run.requests += requests
        if len(run.requests) > 2 * KEPT_REQUESTS:
            del run.requests[:-KEPT_REQUESTS]
        return Claim(key, run.token, run.handle)

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
    )
