"""One run in memory: its record, commits, log and answered requests."""

from __future__ import annotations

import json
from bisect import bisect_left, bisect_right
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import NamedTuple

from stepwire.server.store.encoding import RecordRow, decode_record, decode_requests
from stepwire.server.store.limits import KEPT_REQUESTS, first_chunks
from stepwire.server.store.records import (
    TERMINAL,
    Chunk,
    Commit,
    RequestRecord,
    RunRecord,
    SnapshotInfo,
    Status,
    StoredSnapshot,
)
from stepwire.server.store.thinning import CommitPlace, kept_requests, unneeded_commits

_ASLEEP = TERMINAL | {Status.BLOCKED}


class _Delta(NamedTuple):
    id: int
    sequence: int
    at: float
    full: bool
    first: bool
    """Whether it is the first at its sequence."""
    data: bytes


@dataclass(slots=True)
class KeptRun:
    """A run. `row` is its record in encoded form, so that no caller can change it."""

    handle: int
    token: int
    row: RecordRow
    deltas: list[_Delta] = field(default_factory=list)
    chunks: list[Chunk] = field(default_factory=list)
    answered: list[str] = field(default_factory=list)
    pending: dict[int, str] = field(default_factory=dict)

    @property
    def record(self) -> RunRecord:
        """Return a copy of the record."""
        return decode_record(self.row, {number: json.loads(self.pending[number]) for number in sorted(self.pending)})

    @property
    def wake_at(self) -> float | None:
        """Return when it must be in memory next; None when it has ended or is blocked, too."""
        return None if self.row.status in _ASLEEP else self.row.wake_at

    @property
    def _first_kept(self) -> int:
        """Return the first sequence whose snapshot is kept. The start of a fork is at 0."""
        return self.row.first_available if self.row.first_available > 1 else 0

    def replace_record(self, row: RecordRow) -> None:
        """Take a later record. How the run began and where its log begins stay as they are."""
        self.row = row._replace(
            workflow=self.row.workflow,
            created_at=self.row.created_at,
            start_request_id=self.row.start_request_id,
            start_digest=self.row.start_digest,
            first_available=self.row.first_available,
        )

    def append(
        self,
        commit: Commit,
        commit_id: int,
        requests: Sequence[str],
        pending: Mapping[int, str | None],
    ) -> None:
        """Add a commit.

        Args:
            commit: The commit.
            commit_id: Greater than those before.
            requests: Its answered requests, encoded.
            pending: Its changes of the open questions, encoded.
        """
        for number, question in pending.items():
            if question is None:
                self.pending.pop(number, None)
            else:
                self.pending[number] = question
        if commit.record.ended_at is not None:
            self.pending.clear()
        sequence = commit.record.last_sequence
        first = not self.deltas or self.deltas[-1].sequence != sequence
        self.deltas.append(_Delta(commit_id, sequence, commit.record.updated_at, commit.full, first, commit.delta))
        self.chunks += commit.chunks
        self.answered += requests
        if len(self.answered) > 2 * KEPT_REQUESTS:
            del self.answered[:-KEPT_REQUESTS]

    def load(self, sequence: int | None) -> StoredSnapshot | None:
        """Return the latest snapshot, or the one at exactly this sequence."""
        place = len(self.deltas) - 1
        if sequence is not None:
            place = bisect_left(self.deltas, sequence, key=lambda delta: delta.sequence)
            if place == len(self.deltas) or self.deltas[place].sequence != sequence:
                return None
            if not self.deltas[place].first or sequence < self._first_kept:
                return None
        last = self.deltas[place]
        data = [delta.data for delta in self.deltas[self._full_before(place) : place + 1]]
        return StoredSnapshot(last.sequence, last.at, data[0], data[1:])

    def snapshots(self, before: int | None, limit: int) -> list[SnapshotInfo]:
        """List the kept snapshots below sequence `before`, newest first."""
        found: list[SnapshotInfo] = []
        for delta in reversed(self.deltas):
            if len(found) >= limit or delta.sequence < self._first_kept:
                break
            if delta.first and (before is None or delta.sequence < before):
                found.append(SnapshotInfo(delta.sequence, delta.at, len(delta.data)))
        return found

    def entries(self, after: int, limit: int) -> list[Chunk]:
        """Return chunks of the log from the one that holds `after + 1`."""
        start = bisect_right(self.chunks, after, key=lambda chunk: chunk.last)
        return first_chunks(self.chunks[start : start + limit])

    def requests(self, oldest: float) -> list[RequestRecord]:
        """Return the answered requests that are kept, oldest first; see `kept_requests`."""
        return kept_requests(decode_requests(f"[{','.join(self.answered)}]"), oldest)

    def thin(self, keep: Sequence[int]) -> int:
        """Drop the commits that no snapshot worth keeping needs; return how many."""
        places = [CommitPlace(delta.id, delta.sequence, delta.full, delta.first) for delta in self.deltas]
        dropped = {commit_id for ids in unneeded_commits(places, keep) for commit_id in ids}
        self.deltas = [delta for delta in self.deltas if delta.id not in dropped]
        return len(dropped)

    def trim(self, first: int) -> int:
        """Drop the log before the chunk that holds sequence `first`, and the snapshots at what is dropped."""
        gone = bisect_left(self.chunks, first, 0, max(0, len(self.chunks) - 1), key=lambda chunk: chunk.last)
        if gone:
            first = self.chunks[gone].first
            del self.chunks[:gone]
            self.row = self.row._replace(first_available=first)
            kept = bisect_left(self.deltas, first, 0, len(self.deltas) - 1, key=lambda delta: delta.sequence)
            del self.deltas[: self._full_before(kept)]
        return self.row.first_available

    def _full_before(self, place: int) -> int:
        """Return the place of the last full commit up to this one."""
        return next(n for n in range(place, -1, -1) if self.deltas[n].full)
