"""Move the runs of a data directory into PostgreSQL: `stepwire move`.

The order makes it safe to kill at any time. First the directory is marked, so that no server goes on with its runs.
Then everything is written in one transaction. Then the mark says that the move is done. A move that was interrupted is
begun again: runs that are there already are the proof that the transaction was committed.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final
from urllib.parse import urlsplit, urlunsplit

from stepwire.server import failpoints
from stepwire.server.store.errors import StoreError
from stepwire.server.store.postgres.importing import Import
from stepwire.server.store.sqlite.export import DamagedRun, Export, StoredRun

__all__ = ["Move", "NotMovableError", "abandon", "move", "without_password"]

BATCH: Final = 200
"""Runs that are read and written at a time."""
SNAPSHOT_KEY: Final = "snapshot key"
"""The name of the key that signs snapshots among a database's secrets."""
_NUL: Final = "\\u0000"


class NotMovableError(StoreError):
    """Some runs cannot be moved, and nothing was; `reasons` has a line for each."""

    def __init__(self, reasons: Sequence[str]) -> None:
        super().__init__(f"{len(reasons)} run{'s' * (len(reasons) != 1)} cannot be moved")
        self.reasons = list(reasons)


@dataclass(kw_only=True)
class Move:
    """What a move did.

    Attributes:
        total: The runs in the directory.
        moved: The runs that were written.
        present: The runs that an earlier move had written.
        left: What was left out, a line for each run.
        same_key: Whether the database signs snapshots with the key of the directory now.
    """

    total: int = 0
    moved: int = 0
    present: int = 0
    left: list[str] = field(default_factory=list)
    same_key: bool = True


async def move(
    directory: Path,
    dsn: str,
    *,
    leave: bool = False,
    snapshot_key: bytes | None = None,
    progress: Callable[[int, int], object] = lambda done, total: None,
) -> Move:
    """Move every run of a data directory into a database, with logs, snapshots, answered requests and pauses.

    Args:
        directory: The data directory; no server may use it.
        dsn: The database; no replica may use it.
        leave: Leave out runs that cannot be moved, instead of moving nothing.
        snapshot_key: What signs the snapshots of the directory's server.
        progress: Called with the runs that were looked at, and with all.

    Raises:
        NotMovableError: Some runs are damaged, or the database has others with their ids. Nothing was moved.
        StoreLockedError: A server uses the directory, or replicas use the database.
        StoreError: One of them cannot be used.
    """
    target = without_password(dsn)
    result = Move()
    with Export(directory) as source:
        if (before := source.moved) is not None and before.target != target:
            raise StoreError(f"the runs of {directory} went to {before.target}, or were on their way")
        result.total = source.count()
        async with Import(dsn) as database:
            if before is None:
                source.mark(target, done=False)
            _point("move.marked")
            try:
                result.left = await _write(source, database, result, progress)
                if result.left and not leave:
                    raise NotMovableError(result.left)
                await database.add_rest(source.pauses(), source.pruned_starts(), source.gaps())
                if snapshot_key is not None:
                    result.same_key = await database.share_secret(SNAPSHOT_KEY, snapshot_key)
            except BaseException:  # the transaction is taken back
                if before is None:
                    source.unmark()
                raise
            _point("move.written")
            await database.finish()
        _point("move.committed")
        source.mark(target, done=True)
    return result


async def _write(source: Export, database: Import, result: Move, progress: Callable[[int, int], object]) -> list[str]:
    """Write all runs; return why some of them cannot be."""
    refused: list[str] = []
    after, seen = 0, 0
    while found := source.runs(after, BATCH):
        after, seen = found[-1].handle, seen + len(found)
        whole: list[StoredRun] = []
        for run in found:
            if isinstance(run, DamagedRun):
                refused.append(run.what)
            elif _NUL in run.row.labels:
                refused.append(f"a label of run {run.row.run_id} has a zero character, which PostgreSQL cannot keep")
            else:
                whole.append(run)
        same, in_the_way = await database.present(whole)
        refused += in_the_way.values()
        new = [run for run in whole if run.record.key not in same and run.record.key not in in_the_way]
        if new:
            await database.add(source, new)
        result.moved += len(new)
        result.present += len(same)
        progress(seen, result.total)
    return refused


def _point(name: str) -> None:
    if failpoints.ACTIVE:
        failpoints.hit(name)


async def abandon(directory: Path, dsn: str) -> None:
    """Give up a move that was interrupted: the directory's server may start again.

    Raises:
        StoreError: The database has runs of the directory, so the move was made; or no move was begun.
    """
    target = without_password(dsn)
    with Export(directory) as source:
        before = source.moved
        if before is None:
            raise StoreError(f"no move of {directory} was begun")
        if before.target != target:
            raise StoreError(f"the move of {directory} went to {before.target}: name that database")
        async with Import(dsn) as database:
            after = 0
            while found := source.runs(after, BATCH):
                after = found[-1].handle
                same, _ = await database.present([run for run in found if isinstance(run, StoredRun)])
                if same:
                    raise StoreError(f"the runs of {directory} are in {target}: finish the move instead")
        source.unmark()


def without_password(dsn: str) -> str:
    """Return the address of a database without the password in it, to show it and to keep it."""
    parts = urlsplit(dsn)
    user, _, host = parts.netloc.rpartition("@")
    netloc = f"{user.partition(':')[0]}@{host}" if user else host
    return urlunsplit((parts.scheme, netloc, parts.path, "", ""))
