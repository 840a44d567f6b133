"""What goes into a store and comes out of it: plain data, without behaviour.

Times are seconds since the epoch, UTC, as floats.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple


class RunKey(NamedTuple):
    """Name a run: its namespace and its id."""

    namespace: str
    run_id: str


class Status:
    """The statuses of a run, as stored (the names of the contract without their prefix)."""

    QUEUED = "QUEUED"
    RUNNING = "RUNNING"
    WAITING = "WAITING"
    PAUSED = "PAUSED"
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

    Attributes:
        wake_at: When the run must be in memory next: 0.0 for at once (it has work), None for not
            before input from outside.
        first_available: The first sequence that the log still has. A first commit sets it; after
            that only `RunStore.trim` changes it.
        info: What only people and clients read (outcome, origin, …), JSON-able.
        pending: The open questions by number, ascending, JSON-able. The store keeps each by itself and
            does not take them from here, but from `Commit.pending`.
        terms: What lists find the run by; see `terms`.
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
    pending: dict[int, dict[str, Any]] = field(default_factory=dict)
    terms: tuple[str, ...] = ()


def code_of(info: Mapping[str, Any]) -> str:
    """Return what tells the code that wrote a run last from any other, from the run's `info`.

    That is the version of its workflow, and the digest of the code where the version is another text. Replicas say of
    the code that they serve the same (`Peer.versions`).
    """
    return " ".join(filter(None, (info.get("version", ""), info.get("code", ""))))


class WorkflowPause(NamedTuple):
    """The pauses of a workflow in a namespace.

    Attributes:
        namespace: The namespace.
        workflow: The workflow.
        since: When it was paused; None while it is not.
        by: The caller that paused it last.
        reason: Why, for people.
        total: For how many seconds it was paused before, in all.
        waking: Whether it was resumed, and its runs are being taken up.
    """

    namespace: str
    workflow: str
    since: float | None
    by: str
    reason: str
    total: float
    waking: bool


class PrunedStart(NamedTuple):
    """What is kept of a StartRun with a request_id after its run was pruned, for REQUEST_AGE since the start."""

    key: RunKey
    start_digest: str
    created_at: float


class Chunk(NamedTuple):
    """A contiguous range of the log, encoded: at most 256 entries or about 1 MiB.

    `public` and `internal` hold the entries of each kind; None when there are none of that kind. A
    reader of both merges them by sequence.
    """

    first: int
    last: int
    public: bytes | None
    internal: bytes | None

    @property
    def size(self) -> int:
        """Return the bytes of both kinds of entries."""
        return len(self.public or b"") + len(self.internal or b"")


class RequestRecord(NamedTuple):
    """The first answer to a request_id.

    `digest` is the fingerprint of the parsed request; `response` is JSON-able.
    """

    request_id: str
    digest: str
    response: dict[str, Any]
    at: float


class Claim(NamedTuple):
    """The right to commit to a run.

    Each claim of a run has a higher `token` than the one before and fences it off. `handle` is the
    store's own name of the run.
    """

    key: RunKey
    token: int
    handle: int


@dataclass(slots=True, eq=False)
class Allowance:
    """Runs of one caller that a replica may start without having them counted, until the storage takes it back.

    Attributes:
        id: Its name in the storage.
        runs: How many more runs may be started by it.
        revoked: Whether the storage was found to have taken it back.
    """

    id: int
    runs: int
    revoked: bool = False


class Quota(NamedTuple):
    """What a first commit is held against: it is refused if its caller would have more unfinished runs than `most`.

    Attributes:
        most: How many runs a caller may have.
        allowance: By what the run may be started without a count; None: the storage counts.
    """

    most: int
    allowance: Allowance | None


@dataclass(slots=True)
class Commit:
    """What a run did since its last commit; written in one transaction or not at all.

    Attributes:
        record: The run's record after the commit.
        claim: The claim under which it is written. None for the first commit of a run, which
            creates the run and claims it.
        delta: The parts of the snapshot that changed; all parts when `full`.
        full: Whether a load may begin at this commit.
        chunks: The new entries of the log.
        requests: The requests that this commit answers.
        pending: The questions that were asked or changed, by number, and None for those that were
            answered or withdrawn. So a commit costs what changed, however many questions are open. A
            record that has ended has none, whatever this says.
        quota: How many runs its caller may have, if the storage is to see to it; of a first commit.
    """

    record: RunRecord
    claim: Claim | None
    delta: bytes
    full: bool
    chunks: Sequence[Chunk] = ()
    requests: Sequence[RequestRecord] = ()
    pending: Mapping[int, dict[str, Any] | None] = field(default_factory=dict)
    quota: Quota | None = None


class StoredSnapshot(NamedTuple):
    """A snapshot as stored: fold `deltas` over `full`.

    `at` is the `updated_at` of the last commit in it.
    """

    sequence: int
    at: float
    full: bytes
    deltas: list[bytes]


class SnapshotInfo(NamedTuple):
    """A snapshot that can be loaded. `size` is the bytes on disk of its own commit."""

    sequence: int
    at: float
    size: int


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


class LongRun(NamedTuple):
    """A run with a long log; `handle` is its place in the order."""

    key: RunKey
    first_available: int
    last_sequence: int
    handle: int


@dataclass(slots=True, kw_only=True)
class RunQuery:
    """Select runs of a namespace, newest first (created_at, then run_id, both descending).

    Attributes:
        workflow: The workflow's name; empty for any.
        statuses: Any of these; empty for all.
        labels: The run must have all of them.
        created_after: Exclusive.
        created_before: Exclusive.
        before: The (created_at, run_id) of the last run of the page before.
        workflows: The run must be of one of these; None for any.
        limit: The most runs to return.
        terms: The run must have all of these; see `terms`.
        run_id_prefix: What the run's id begins with; empty for anything.
        ended_after: Exclusive. The run has ended.
        ended_before: Exclusive. The run has ended.
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
    terms: Sequence[str] = ()
    run_id_prefix: str = ""
    ended_after: float | None = None
    ended_before: float | None = None

    @property
    def prefix_end(self) -> str:
        """The least text that is above every id with the prefix, in the order of code points: ids are ASCII."""
        return f"{self.run_id_prefix}\x7f"
