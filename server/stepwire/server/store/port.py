"""The port to durable storage of runs.

Everything above speaks to a `RunStore`; nothing above assumes one process. A run's snapshot is a
set of *parts* (key to JSON value). Each commit writes the parts that changed as one *delta*; now
and then a commit writes all parts, a *full* one, so that loading reads the last full commit and the
deltas after it. The log of a run is kept in *chunks* that the layers above encode once; the store
never looks into a delta or a chunk.

Times are seconds since the epoch, UTC, as floats.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple, Protocol


class RunKey(NamedTuple):
    """Name a run: its namespace and its id."""

    namespace: str
    run_id: str


class Status:
    """The statuses of a run, as stored (the names of the contract without their prefix)."""

    QUEUED = "QUEUED"
    RUNNING = "RUNNING"
    WAITING = "WAITING"
    BLOCKED = "BLOCKED"
    COMPLETED = "COMPLETED"
    FAILED = "FAILED"
    CANCELLED = "CANCELLED"
    TIMED_OUT = "TIMED_OUT"


TERMINAL = frozenset({Status.COMPLETED, Status.FAILED, Status.CANCELLED, Status.TIMED_OUT})
"""The statuses that end a run."""


@dataclass(slots=True, kw_only=True)
class RunRecord:
    """What is known of a run without loading it.

    `first_available` is the store's own: later than the first commit only `trim` changes it.
    `info` holds what only people and clients read (outcome, open questions, origin, …) as a
    JSON-able dict; `wake_at` is when the run must be in memory next: 0.0 for at once (it has work),
    None for not before outside input.
    """

    key: RunKey
    workflow: str
    status: str
    created_at: float
    updated_at: float
    ended_at: float | None = None
    wake_at: float | None = 0.0
    last_sequence: int = 0
    first_available: int = 1
    labels: dict[str, str] = field(default_factory=dict)
    start_request_id: str = ""
    start_digest: str = ""
    info: dict[str, Any] = field(default_factory=dict)


class Chunk(NamedTuple):
    """A contiguous range of the log, encoded: at most 256 entries or about 1 MiB.

    `public` and `internal` hold the entries of each kind (None when there are none); a reader of
    both merges them.
    """

    first: int
    last: int
    public: bytes | None
    internal: bytes | None

    @property
    def size(self) -> int:
        """Return how many bytes it has."""
        return len(self.public or b"") + len(self.internal or b"")


ENTRIES_BYTES = 512 * 1024
"""`entries` gives no further chunk once it has as many bytes: what a slow reader holds is bounded."""


def within(chunks: Iterable[Chunk]) -> list[Chunk]:
    """Return the first of these chunks: at least one, and no further ones once they have ENTRIES_BYTES bytes."""
    found: list[Chunk] = []
    size = 0
    for chunk in chunks:
        found.append(chunk)
        size += chunk.size
        if size >= ENTRIES_BYTES:
            break
    return found


class RequestRecord(NamedTuple):
    """The first answer to a request_id.

    `digest` is of the parsed request, `response` a JSON-able dict.
    """

    request_id: str
    digest: str
    response: dict[str, Any]
    at: float


class Claim(NamedTuple):
    """The right to commit to a run; a later claim's `token` is higher and fences this one off."""

    key: RunKey
    token: int
    handle: int


@dataclass(slots=True)
class Commit:
    """What a run did since its last commit; written in one transaction or not at all.

    `claim` is None for the first commit of a run: it creates the run and claims it. `delta` is the
    changed parts, or all parts when `full`. `record` is the run's record after the commit.
    """

    record: RunRecord
    claim: Claim | None
    delta: bytes
    full: bool
    chunks: Sequence[Chunk] = ()
    requests: Sequence[RequestRecord] = ()


class StoredSnapshot(NamedTuple):
    """A snapshot as stored: fold `deltas` over `full`.

    `at` is when the last of them was committed: the `updated_at` of its record.
    """

    sequence: int
    at: float
    full: bytes
    deltas: list[bytes]


class DueRun(NamedTuple):
    """A run that must be in memory; (wake_at, handle) is its place in the order."""

    key: RunKey
    wake_at: float
    handle: int


class EndedRun(NamedTuple):
    """A run that has ended; (ended_at, handle) is its place in the order."""

    key: RunKey
    ended_at: float
    handle: int


LONG_LOG = 1000
"""Entries that a log has at least before `long_logs` finds it."""


class LongRun(NamedTuple):
    """A run with a long log; `handle` is its place in the order."""

    key: RunKey
    first_available: int
    last_sequence: int
    handle: int


class SnapshotInfo(NamedTuple):
    """A snapshot that can be loaded; `size` is in bytes on disk of its own commit."""

    sequence: int
    at: float
    size: int


@dataclass(slots=True, kw_only=True)
class RunQuery:
    """Select runs of a namespace, newest first (created_at, then run_id, both descending).

    `before` is the (created_at, run_id) of the last run of the page before; `created_after` and
    `created_before` are exclusive; a run must have all of `labels`, and be
    of one of `workflows` unless that is None.
    """

    namespace: str
    workflow: str = ""
    statuses: Sequence[str] = ()
    labels: dict[str, str] = field(default_factory=dict)
    created_after: float | None = None
    created_before: float | None = None
    before: tuple[float, str] | None = None
    workflows: Sequence[str] | None = None
    limit: int = 100


class StoreError(Exception):
    """Base of the errors of a store."""


class RunExistsError(StoreError):
    """The run_id of a first commit is taken."""


class StartRequestExistsError(StoreError):
    """The start_request_id of a first commit was used; `record` is the run that it started."""

    def __init__(self, record: RunRecord) -> None:
        super().__init__("the request_id was used to start another run")
        self.record = record


class StaleClaimError(StoreError):
    """Someone else has claimed the run since, or it was deleted: drop it."""


class StoreUnavailableError(StoreError):
    """The store cannot write or read now; `full` when space ran out.

    Nothing of the commit was kept.
    """

    def __init__(self, message: str, *, full: bool = False) -> None:
        super().__init__(message)
        self.full = full


class StoreCorruptError(StoreError):
    """What the store holds is damaged; it is refused rather than read wrongly."""


class StoreLockedError(StoreError):
    """Another process holds the store; the message says which."""


CommitListener = Callable[[Commit], None]
"""Called on the event loop with each durable commit, before its future resolves."""


class RunStore(Protocol):
    """Keep runs: records, snapshots, logs and answered requests.

    All methods are called on one event loop. Methods that read see every commit whose future has
    resolved.
    """

    async def open(self) -> None:
        """Take hold of the storage. Raises StoreLockedError, StoreCorruptError."""

    async def close(self) -> None:
        """Finish the commits under way and let go of the storage."""

    @property
    def failure(self) -> StoreError | None:
        """Why the last transaction failed; None while writing works. From any thread."""

    def on_failure(self, callback: Callable[[], None]) -> None:
        """Have `callback` called on the event loop when writing begins to fail, and when it works again."""

    async def probe(self) -> None:
        """Write something that changes nothing, to see whether writing works. StoreError."""

    def listen(self, listener: CommitListener) -> None:
        """Have `listener` called with each durable commit."""

    def commit(self, commit: Commit) -> asyncio.Future[Claim]:
        """Write a commit; the future resolves to its claim once it is durable.

        The future fails with RunExistsError or StartRequestExistsError (first commits),
        StaleClaimError, or StoreUnavailableError; a failure of one commit never harms another. A
        run has one commit in flight at most.
        """

    async def claim(self, key: RunKey) -> Claim | None:
        """Claim a run with a new token, fencing off earlier claims; None when there is no run."""

    async def get(self, key: RunKey) -> RunRecord | None:
        """Give the record of a run."""

    async def find_start(self, namespace: str, request_id: str) -> RunRecord | None:
        """Give the run that a StartRun with this request_id started."""

    async def load(self, key: RunKey, sequence: int | None = None) -> StoredSnapshot | None:
        """Give the latest snapshot, or the latest one with exactly this sequence.

        None when it is not kept.
        What is damaged raises StoreCorruptError, here and in `entries`; it is never left out.
        """

    async def entries(self, key: RunKey, after: int, limit: int = 16) -> list[Chunk]:
        """Give up to `limit` chunks, in order, from the one that holds sequence `after + 1`.

        At least one, and no further ones once they have ENTRIES_BYTES bytes.
        """

    async def requests(self, key: RunKey) -> list[RequestRecord]:
        """Give the answered requests that are kept of a run, oldest first.

        Kept are the last 10,000; of these, those older than 24 hours only while among the last
        1,000.
        """

    async def snapshots(self, key: RunKey, before: int | None, limit: int) -> list[SnapshotInfo]:
        """List the kept snapshots below sequence `before`, newest first, one for each sequence."""

    async def due(
        self, now: float, limit: int, *, workflows: Sequence[str], after: tuple[float, int] = (-1.0, 0)
    ) -> list[DueRun]:
        """Give unfinished, unblocked runs of these workflows with a `wake_at` <= now, the most overdue first.

        `after` is the (wake_at, handle) of the last one of the page before.
        """

    async def ended(
        self, after: tuple[float, int], limit: int, *, before: float | None = None, longer_than: int = 0
    ) -> list[EndedRun]:
        """Give ended runs behind a place in the order, those that ended first first.

        `before` leaves out those that ended then or later, `longer_than` those with no more log entries.
        """

    async def next_wake(self, after: float, *, workflows: Sequence[str]) -> float | None:
        """Give the earliest `wake_at` > after of the unfinished, unblocked runs of these workflows."""

    async def namespaces(self) -> list[str]:
        """Give the namespaces that have runs."""

    async def delete(self, key: RunKey) -> bool:
        """Delete a run and everything of it; False when there is none."""

    async def counts(self) -> dict[tuple[str, str], int]:
        """Count runs by (workflow, status)."""

    async def backup(self, target: Path) -> None:
        """Write a consistent copy to the file `target` while runs go on, replacing what is there.

        The copy holds every commit whose future had resolved. `target` appears complete or not at
        all. Raises StoreUnavailableError when it cannot be written, StoreError when this store
        keeps nothing on disk.
        """

    async def prune(
        self,
        workflow: str | None = None,
        ended_before: float | None = None,
        keep_last: int | None = None,
        limit: int = 1000,
    ) -> int:
        """Delete ended runs, those that ended first first, at most `limit`; give how many.

        A run goes only when every condition given holds: it is of `workflow`, it ended before
        `ended_before`, and it is not among the `keep_last` of its namespace and workflow that ended
        last. Without conditions any ended run goes. Runs go in small batches between commits.
        """

    async def thin_snapshots(self, key: RunKey, keep: Sequence[int] | None = None) -> int:
        """Drop snapshots that an ended run hardly needs; give how many commits were dropped.

        The snapshots at the sequences of full commits, at the last sequence and at those in `keep`
        stay loadable, and so do those on the way to them; `load` of any other answers None and
        `snapshots` leaves it out.
        """

    async def long_logs(self, workflow: str, entries: int, limit: int, *, after: int = 0) -> list[LongRun]:
        """Give runs of a workflow whose logs hold more than `entries` entries, and LONG_LOG, behind a handle."""

    async def trim(self, key: RunKey, first: int) -> int | None:
        """Drop the log before the chunk that holds sequence `first`; its last chunk always stays.

        Gives the record's new `first_available`, None when there is no run. Snapshots at sequences
        before that go too: `load` answers None and `snapshots` leaves them out; all others load as
        before. Chunks go in small batches between commits, the oldest first; after each the record
        says what there is.
        """

    # Last, because it hides the builtin from the annotations that follow it.
    async def list(self, query: RunQuery) -> list[RunRecord]:
        """Give the records that match, newest first."""
