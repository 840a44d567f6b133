"""Change the record of a run by a commit of its own: of one that has ended, or that cannot be loaded."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Final, NamedTuple

from stepwire.server.runs.errors import StoreDownError
from stepwire.server.store import Claim, Commit, RunKey, RunRecord, RunStore, StaleClaimError

__all__ = ["Amended", "amend"]

_CLAIMS: Final = 16
"""How often a run is claimed while other calls claim it at the same time."""

Change = Callable[[RunRecord, Claim], Awaitable[Commit | None]]
"""Makes the commit that changes a record; None leaves the record as it is."""


class Amended(NamedTuple):
    """What became of a record.

    Attributes:
        record: The record as it is now; None if there is no such run.
        commit: The commit that has changed it; None if it stays as it was.
    """

    record: RunRecord | None
    commit: Commit | None = None


async def amend(store: RunStore, key: RunKey, change: Change) -> Amended:
    """Claim a run, commit what changes its record, and begin again if another call claims it meanwhile.

    Args:
        store: Where the run is kept.
        key: The run.
        change: Makes the commit, from the record as it is once the run is claimed. Without one the run is given up.

    Raises:
        StoreDownError: Other calls claimed the run again and again.
        StoreError: The store failed.
    """
    for _ in range(_CLAIMS):
        claim = await store.claim(key)
        record = await store.get(key)  # only now: another call may have changed it
        if claim is None or record is None:
            return Amended(None)
        commit = await change(record, claim)
        if commit is None:
            store.release(claim)
            return Amended(record)
        try:
            await store.commit(commit)
        except StaleClaimError:
            continue
        return Amended(commit.record, commit)
    raise StoreDownError("Others claim the run at the same time; repeat the call")
