"""Assemble commits: what one run changed since its last commit, as the store takes it.

A commit holds the changed parts of the snapshot (a delta, or all parts when it is full), the new log entries as
chunks, the run's record and the requests that were answered.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from itertools import chain, islice

from stepwire.server import failpoints
from stepwire.server.runs.hosting.commits.committed_run import CommittedRun
from stepwire.server.runs.hosting.commits.delta import encode_delta
from stepwire.server.runs.hosting.commits.record import next_pending, next_record
from stepwire.server.runs.hosting.commits.run_terms import RunTerms
from stepwire.server.runs.log.chunks import MAX_ENTRIES, EntryCodec, chunks_of
from stepwire.server.store import Chunk, Claim, Commit, RequestRecord, code_of
from stepwire.workflow.hosting import (
    Bounds,
    Broker,
    Changes,
    Journal,
    LogEntry,
    all_parts,
    encode_ahead,
    parts,
    registry_encoder,
    take_changes,
)

LARGE = 2000
"""Parts or log entries from which on a commit is encoded in slices."""
_SMALL_PART = 64
"""Bytes that a part has at least, to tell before it is encoded whether a commit will be full."""
_SLICE = 200
"""Parts that are encoded before other work gets its turn."""
FULL_EVERY_BYTES = 64 * 1024
"""The next commit is full when the deltas since the last full one exceed this and four times that one's size."""


class CommitBuilder:
    """Build the commits of one run, and decide which of them are full."""

    __slots__ = ("_ahead", "_codec", "_deltas", "_full_size", "_own", "_state_bytes", "_terms")

    def __init__(self, codec: EntryCodec, bounds: Bounds) -> None:
        self._codec = codec
        self._state_bytes = bounds.state_bytes
        self._deltas = 0
        """Bytes of the deltas since the last full commit."""
        self._full_size = 0
        """Bytes of the last full commit."""
        self._own = False
        """Whether this code has written the run."""
        self._ahead: _Ahead | None = None
        self._terms = RunTerms()

    def prepare(self, broker: Broker) -> bool:
        """Encode some of a large commit; return whether to call again before `build`, with other work between."""
        journal = broker.journal
        assert journal is not None
        if self._ahead is None:
            changed = len(journal.dirty)
            everything = len(broker.deliveries) >= LARGE and self._is_full(changed * _SMALL_PART)
            if not everything and changed < LARGE and len(journal.entries) < LARGE:
                return False
            self._ahead = _Ahead(broker, journal, self._codec, everything=everything)
        return self._ahead.encode_some()

    def build(
        self,
        run: CommittedRun,
        claim: Claim | None,
        requests: Sequence[RequestRecord],
        *,
        paused_seconds: float,
        traceback: str,
    ) -> Commit:
        """Take what changed since the last call, and return it as a commit.

        The first commit (`claim` is None) encodes everything, so it is full. The run may fail meanwhile, when its state
        was damaged in place or has grown too large; the commit holds that end too.

        Args:
            run: The run.
            claim: The run's claim; None for its first commit.
            requests: The requests that were answered since.
            paused_seconds: For how long its workflow was paused until now.
            traceback: What the record may tell of the place of a failure.
        """
        served, broker, last = run.served, run.broker, run.record
        ended = broker.outcome is not None
        if failpoints.ACTIVE:
            failpoints.hit("snapshot.before")
        full = claim is None
        assert broker.journal is not None
        ahead = broker.journal.ahead or {}
        changes = take_changes(broker, everything=full)
        damaged = broker.outcome is not None and not ended
        if damaged:
            changes = _joined(changes, take_changes(broker))
        size = _size(changes)
        if not ended and not damaged and size > self._state_bytes and not self._state_fits(broker, changes.parts):
            damaged = True
            kept = {key: part for key, part in changes.parts.items() if parts.state_name(key) is None}
            changes = _joined(changes._replace(parts=kept), take_changes(broker))
        # A damaged value cannot be encoded for a full commit: the value last committed stays.
        written = changes
        # What other code wrote, `migrate` and aliases have read: from now on it stands there as this code writes it.
        rewrites = not self._own and not full and code_of(last.info) != served.told
        self._own = True
        if not full and not damaged and (rewrites or self._is_full(size)):
            all_of_it = all_parts(broker, registry_encoder(served.names), known={**ahead, **changes.parts})
            full = ended or self._state_fits(broker, all_of_it)
            if not full:
                changes = _joined(changes, take_changes(broker))
            written = Changes(all_of_it, [], []) if full else changes
        delta = encode_delta(written.parts, written.deleted)
        if full:
            self._full_size, self._deltas = len(delta), 0
        else:
            self._deltas += len(delta)
        pending, questions = next_pending(last, served, broker, changes)
        record = next_record(
            last,
            served,
            broker,
            changes,
            pending,
            questions,
            self._terms,
            new=claim is None,
            queued=run.queued,
            pause=run.pause,
            paused_seconds=paused_seconds,
            survived=run.survived,
            traceback=traceback,
        )
        chunks = self._chunks(changes.entries)
        commit = Commit(record, claim, delta, full, chunks, requests, questions)
        if failpoints.ACTIVE:
            failpoints.hit("snapshot.after")
        return commit

    def _is_full(self, size: int) -> bool:
        """Return whether a delta of this many bytes is one too many, so that the commit writes everything."""
        return self._deltas + size > max(FULL_EVERY_BYTES, 4 * self._full_size)

    def _chunks(self, entries: list[LogEntry]) -> list[Chunk]:
        ahead, self._ahead = self._ahead, None
        if ahead is None:
            return chunks_of(entries, self._codec)
        return ahead.chunks + chunks_of(entries[ahead.entries :], self._codec)

    def _state_fits(self, broker: Broker, all_of_it: Mapping[str, bytes]) -> bool:
        """Return whether the whole state is within its bound; fail the run if not. The hooks bound single values."""
        size = sum(len(all_of_it.get(parts.state(name), b"")) for name in broker.store.saved())
        if size > self._state_bytes:
            most = f"the state of a run may have at most {self._state_bytes} bytes as JSON (max_state_bytes)"
            broker.exceed(f"{most}; it has {size}")
        return size <= self._state_bytes


class _Ahead:
    """Encode a large commit in slices before it is built.

    What changes meanwhile is encoded again, and what comes is left to `build`, so the slices come to an end.
    """

    def __init__(self, broker: Broker, journal: Journal, codec: EntryCodec, *, everything: bool) -> None:
        self.chunks: list[Chunk] = []
        self.entries = 0
        """Entries of the log that the chunks hold."""
        self._broker = broker
        self._journal = journal
        self._codec = codec
        self._parts = chain(list(journal.dirty), self._others() if everything else ())
        self._last_entry = len(journal.entries) - MAX_ENTRIES

    def _others(self) -> Iterator[str]:
        """Give the parts of the deliveries that have not changed since the last commit."""
        for number in list(self._broker.deliveries):
            if (key := parts.delivery(number)) not in self._journal.dirty:
                yield key

    def encode_some(self) -> bool:
        """Encode one slice; return whether more are left."""
        some = list(islice(self._parts, _SLICE))
        if some:
            encode_ahead(self._broker, some)
        more_entries = self.entries < self._last_entry
        if more_entries:
            end = self.entries + MAX_ENTRIES
            self.chunks += chunks_of(self._journal.entries[self.entries : end], self._codec)
            self.entries = end
        return bool(some) or more_entries


def _size(changes: Changes) -> int:
    """Return about how many bytes changes have as a delta."""
    return sum(map(len, changes.parts.values())) + 16 * (len(changes.parts) + len(changes.deleted))


def _joined(first: Changes, second: Changes) -> Changes:
    """Return the changes of two takes as one; the second wins."""
    gone = set(second.deleted)
    parts = {key: value for key, value in {**first.parts, **second.parts}.items() if key not in gone}
    deleted = [key for key in first.deleted if key not in second.parts] + second.deleted
    return Changes(parts, deleted, first.entries + second.entries)
