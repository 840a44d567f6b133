"""Fill brokers from stored snapshots: a large one in slices, so that it does not starve the event loop."""

from __future__ import annotations

import asyncio
import contextlib
import copy
from collections.abc import Generator, Iterator
from typing import Any, Final

from stepwire.server.registry import Served
from stepwire.server.runs.hosting.commits.delta import Parts, fold_in_slices
from stepwire.server.runs.hosting.loading.crash_notes import CrashNotes
from stepwire.server.store import RunKey, StoredSnapshot
from stepwire.workflow.hosting import Broker, CountLost, Snapshot, SnapshotError, one_more, restore_in_slices

__all__ = ["SUSPECT", "Restorer", "forget", "keep", "restore_parts", "suspect"]

SUSPECT: Final = 2
"""Lost executions from which on a run goes on alone."""


class Restorer:
    """Fold and restore snapshots.

    Args:
        notes: Notes, during each slice, which run is restored: its types are the author's, and may crash the process.
    """

    def __init__(self, notes: CrashNotes) -> None:
        self._notes = notes
        self._large = asyncio.Lock()
        """Held while a large snapshot is worked on. The slices of several at once would add up."""

    async def fold(self, stored: StoredSnapshot) -> Parts:
        """Return the parts of a stored snapshot. StoreCorruptError if it is damaged."""
        parts: Parts = {}
        await self._run(fold_in_slices(stored, parts), None)
        return parts

    async def fill(
        self,
        key: RunKey | None,
        served: Served,
        broker: Broker,
        parts: Parts,
        at: float,
        version: str,
        *,
        fork: bool = False,
        count_lost: CountLost = one_more,
        fresh: bool = False,
        retry_of: str = "",
    ) -> None:
        """Fill a broker from the parts of a snapshot. Raises SnapshotError and its kinds.

        Args:
            key: The run to blame if this crashes the process; None if its snapshot came from a client.
            served: The workflow, whose `migrate` may change parts that another version wrote.
            broker: A new broker.
            parts: The parts of the snapshot.
            at: When the snapshot was committed.
            version: The version of the workflow that wrote it.
            fork: Whether this is a new run: its clocks go by the time that was left.
            count_lost: Gives how many executions of a delivery that was in progress count as lost, from how many did.
            fresh: Whether a new run has its whole retry budgets and its whole time limit again.
            retry_of: The run that a new run retries.
        """
        slices = _restoring(
            served, broker, parts, at, version, fork=fork, count_lost=count_lost, fresh=fresh, retry_of=retry_of
        )
        await self._run(slices, key)

    async def _run(self, slices: Iterator[None], key: RunKey | None) -> None:
        """Make one slice, and if there are more, those one at a time."""
        if self._slice(slices, key):
            async with self._large:
                while self._slice(slices, key):  # noqa: ASYNC110 - nothing is polled: each turn makes a slice
                    await asyncio.sleep(0)

    def _slice(self, slices: Iterator[None], key: RunKey | None) -> bool:
        with contextlib.nullcontext() if key is None else self._notes.loading(key):
            return next(slices, self) is None


def restore_parts(served: Served, broker: Broker, parts: Parts, at: float, version: str) -> None:
    """Fill a broker that belongs to no run at once, to see whether the parts fit; errors as `Restorer.fill`."""
    for _ in _restoring(served, broker, parts, at, version, fork=True, count_lost=one_more):
        pass


def _restoring(
    served: Served, broker: Broker, parts: Parts, at: float, version: str, **options: Any
) -> Generator[None]:
    changed = version != served.version
    if changed and (migrate := getattr(served.workflow, "migrate", None)) is not None:
        snapshot = Snapshot(copy.deepcopy(parts), version)
        try:
            parts = migrate(snapshot) or snapshot
            if not isinstance(parts, dict):
                raise TypeError("not a snapshot")
        except Exception as error:  # the author's code may raise anything
            raise SnapshotError(f"migrate() raised {type(error).__name__}") from error
    yield from restore_in_slices(broker, parts, served.names, saved_at=at, validate=changed, **options)


def forget(lost: int) -> int:
    """Blame a delivery for no crash, also not for earlier ones."""
    return 0


def suspect(lost: int) -> int:
    """Suspect a delivery that has survived its trial of this crash, but blame it for none."""
    return max(lost, min(lost + 1, SUSPECT))


def keep(lost: int) -> int:
    """Do not blame a delivery for this crash."""
    return lost
