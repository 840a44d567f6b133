"""The port to durable storage of runs: what each store does, whatever it keeps them in.

Everything above speaks to a `RunStore`, and nothing above assumes that it is the only process that
uses the storage. A run's snapshot is a set of *parts* (key to JSON value). Each commit writes the
parts that changed as one *delta*; now and then a commit writes all parts, a *full* one, so that
loading reads the last full commit and the deltas after it. The log of a run is kept in *chunks*
that the layers above encode once. A store never looks into a delta or a chunk.

Times are seconds since the epoch, UTC, as floats.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Collection, Sequence
from pathlib import Path
from typing import Protocol

from stepwire.server.store.cluster import Cluster
from stepwire.server.store.damage import Damage
from stepwire.server.store.errors import StoreError
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

CommitListener = Callable[[Commit], None]
"""Called on the event loop with each durable commit, before its future resolves."""


DeletionListener = Callable[[Sequence[RunKey]], None]


class RunReading(Protocol):
    """Read the unfinished runs of a store: every RunStore can, and readings that never write."""

    async def namespaces(self) -> list[str]:
        """Return the namespaces that have runs."""

    async def counts(self) -> dict[tuple[str, str], int]:
        """Count runs by (workflow, status)."""

    async def load(self, key: RunKey, sequence: int | None = None) -> StoredSnapshot | None:
        """Return the latest snapshot, or the one at exactly this sequence."""

    async def list(self, query: RunQuery) -> Sequence[RunRecord]:
        """Return the records that match, newest first."""


class RunStore(Protocol):
    """Keep runs: records, snapshots, logs and answered requests.

    All methods are called on one event loop. A read sees every commit whose future has resolved,
    and never needs to write. What is damaged raises StoreCorruptError; it is never left out.

    Attributes:
        damage: Tells of the records that `get` and `list` find damaged.
    """

    damage: Damage

    @property
    def cluster(self) -> Cluster:
        """The processes that share the storage."""

    async def open(self) -> None:
        """Take hold of the storage.

        Raises:
            StoreLockedError: Another process holds it.
            StoreCorruptError: It is damaged.
            StoreError: It is of a newer version, or was not made by Stepwire.
        """

    async def close(self) -> None:
        """Finish the commits in flight and let go of the storage."""

    @property
    def failure(self) -> StoreError | None:
        """Return why the last transaction failed; None while writing works. Any thread may ask."""

    def on_failure(self, callback: Callable[[], None]) -> None:
        """Have `callback` called on the event loop when writing begins to fail, and when it works again."""

    async def probe(self) -> None:
        """Write something that changes nothing, to see whether writing works.

        Raises:
            StoreError: It does not.
        """

    def listen(self, listener: CommitListener) -> None:
        """Have `listener` called with each durable commit."""

    def commit(self, commit: Commit) -> asyncio.Future[Claim]:
        """Write a commit; the future resolves to its claim once it is durable.

        A run has at most one commit in flight. A failed commit never harms another.

        Raises:
            RunExistsError: From the future of a first commit.
            StartRequestExistsError: From the future of a first commit.
            QuotaExceededError: From the future of a first commit with a quota, where other replicas start runs, too.
            StaleClaimError: From the future of a later commit.
            CommitTooLargeError: From the future: the commit has more than MAX_COMMIT_BYTES, or would not
                fit on the disk if that were empty.
            StoreUnavailableError: From the future; nothing of the commit was kept. If it is `full`, the
                commit needs more space than there is now; smaller ones may go on.
        """

    async def claim(self, key: RunKey, *, force: bool = False) -> Claim | None:
        """Claim a run with a new token, fencing off earlier claims; return None when there is no such run.

        The claim makes this process the owner of the run, until it ends or is released. `force` takes it from a
        living owner, which is safe: what the owner commits from then on is refused.

        Raises:
            OwnedElsewhereError: Another living replica owns the run.
        """

    def release(self, claim: Claim) -> None:
        """Give up the ownership of a run that left memory, soon: any process may claim it then.

        A claim that was fenced off changes nothing. Call it once the last commit of the run is durable.
        """

    async def get(self, key: RunKey) -> RunRecord | None:
        """Return the record of a run."""

    async def records(self, keys: Collection[RunKey]) -> dict[RunKey, RunRecord]:
        """Return the records of runs; one that there is not, or whose record is damaged, is left out."""

    async def terms_of(self, key: RunKey, name: str) -> Sequence[str]:
        """Return the values of the terms of a name by which lists find a run, also if its record is damaged."""

    async def find_start(self, namespace: str, request_id: str) -> RunRecord | PrunedStart | None:
        """Return the run that a StartRun with this request_id started.

        After the run was pruned, a PrunedStart is returned until REQUEST_AGE after the start. Deleting
        the run with `delete` frees the request_id at once.
        """

    async def load(self, key: RunKey, sequence: int | None = None) -> StoredSnapshot | None:
        """Return the latest snapshot, or the one at exactly this sequence; None when it is not kept.

        The snapshot at a sequence is that of the first commit whose log ends there, and never changes.
        Later commits without new entries, as by SetState or a retry, are only in the latest snapshot.
        """

    async def entries(self, key: RunKey, after: int, limit: int = 16) -> list[Chunk]:
        """Return up to `limit` chunks, in order, from the one that holds sequence `after + 1`.

        Returns at least one if there is one, and no further ones once they have ENTRIES_BYTES bytes.
        """

    async def requests(self, key: RunKey) -> list[RequestRecord]:
        """Return the answered requests of a run that are kept, oldest first.

        The last KEPT_REQUESTS are kept; of these, requests older than REQUEST_AGE only while they
        are among the last KEPT_OLD_REQUESTS.
        """

    async def snapshots(self, key: RunKey, before: int | None, limit: int) -> list[SnapshotInfo]:
        """List the kept snapshots below sequence `before`, newest first, one for each sequence."""

    async def due(
        self,
        now: float,
        limit: int,
        *,
        workflows: Sequence[str],
        after: tuple[float, int] = (-1.0, 0),
        share: bool = False,
    ) -> list[DueRun]:
        """Return unfinished, unblocked runs that must be in memory, the most overdue first.

        Of replicas, only runs without a living owner, and only those of a version that this replica serves, or that
        none of the living ones does.

        Args:
            now: Runs whose `wake_at` is at most this.
            limit: The most runs to return.
            workflows: Only runs of these.
            after: The (wake_at, handle) of the last run of the page before.
            share: Only this replica's share of them: the runs are spread over all replicas.
        """

    async def ended(
        self,
        after: tuple[float, int],
        limit: int,
        *,
        before: float | None = None,
        longer_than: int = 0,
    ) -> list[EndedRun]:
        """Return ended runs in the order in which they ended.

        Args:
            after: The (ended_at, handle) of the last run of the page before.
            limit: The most runs to return.
            before: Only runs that ended before this time.
            longer_than: Only runs with more log entries than this.
        """

    async def next_wake(self, after: float, *, workflows: Sequence[str]) -> float | None:
        """Return the earliest `wake_at` > after of the unfinished, unblocked runs of these workflows.

        Of replicas, only of runs without a living owner.
        """

    async def namespaces(self) -> list[str]:
        """Return the namespaces that have runs."""

    async def delete(self, key: RunKey) -> bool:
        """Delete a run and everything of it; return False when there is none.

        From then on no method finds anything of the run.
        """

    def on_delete(self, going: DeletionListener, gone: DeletionListener) -> None:
        """Have listeners called on the event loop for runs that `delete` or `prune` deletes.

        Args:
            going: Called before: whoever caches runs must forget them now, or its answers and those of
                the store would differ for a moment.
            gone: Called once the deletion is durable.
        """

    def ago(self, age: float) -> float:
        """Return the time since which `age` seconds have passed, for retention.

        Not counted are the gaps between the last commit and an opening of the store a day later or
        more: the clock may have been set forward, and what looks old may be minutes old.
        """

    async def pauses(self) -> Sequence[WorkflowPause]:
        """Return the pauses of all workflows that are or were paused."""

    async def save_pause(self, pause: WorkflowPause) -> None:
        """Keep the pauses of a workflow, in the place of what was kept before."""

    async def counts(self) -> dict[tuple[str, str], int]:
        """Count runs by (workflow, status)."""

    async def backup(self, target: Path) -> None:
        """Write a consistent copy to the file `target` while runs go on, replacing what is there.

        The copy holds every commit whose future had resolved. `target` appears complete or not at
        all.

        Raises:
            StoreUnavailableError: The file cannot be written.
            StoreError: This store keeps nothing on disk.
        """

    async def prune(
        self,
        workflow: str | None = None,
        ended_before: float | None = None,
        keep_last: int | None = None,
        limit: int = 1000,
    ) -> int:
        """Delete ended runs in the order in which they ended, in small batches between commits; return how many.

        A run is deleted only when it meets every condition that is not None. Without conditions any
        ended run is deleted. A run with the term TELL or CLOSE is kept, whatever the conditions.

        Args:
            workflow: The run is of this workflow.
            ended_before: The run ended before this time.
            keep_last: So many runs of the same namespace and workflow ended after it.
            limit: The most runs to delete.
        """

    async def thin_snapshots(self, key: RunKey, keep: Sequence[int] | None = None) -> int:
        """Drop snapshots that an ended run hardly needs; return how many commits were dropped.

        The latest snapshot stays loadable, and so do those that are full commits, those in `keep`,
        and those on the way to these. `load` of any other returns None, and `snapshots` leaves
        it out.
        """

    async def long_logs(self, workflow: str, entries: int, limit: int, *, after: int = 0) -> list[LongRun]:
        """Return runs of a workflow whose logs hold more than `entries` entries, and more than LONG_LOG.

        `after` is the handle of the last run of the page before.
        """

    async def trim(self, key: RunKey, first: int) -> int | None:
        """Drop the log before the chunk that holds sequence `first`; return where the log begins then.

        Returns None when there is no such run. The last chunk always stays. Snapshots at sequences
        that the log no longer has go too; all others load as before. Chunks go in small batches
        between commits, the oldest first, and the record's `first_available` is true after each.
        """

    # Last, because it hides the builtin from the annotations that follow it.
    async def list(self, query: RunQuery) -> list[RunRecord]:
        """Return the records that match, newest first.

        Returns at least one if there is one, and no further ones once their `info` has LIST_BYTES
        characters. So only an empty answer says that there are no more.
        """
