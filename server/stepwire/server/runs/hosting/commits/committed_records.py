"""The records of runs, as committed: from memory where they are there, else from the store."""

from __future__ import annotations

import asyncio
from collections import OrderedDict
from collections.abc import Iterable, MutableMapping
from typing import Final

from stepwire.server.principal import Principal
from stepwire.server.runs.errors import RunNotFoundError, as_runs_error
from stepwire.server.runs.hosting.live_run import LiveRun
from stepwire.server.runs.log.feed import Feed, Feeds
from stepwire.server.store import TERMINAL, Commit, RunKey, RunRecord, RunStore, StoreError

__all__ = ["CommittedRecords"]

_ENDED_KEPT: Final = 1024
"""Records of ended runs kept in memory: callers ask for a run as soon as it has ended."""


class CommittedRecords:
    """Find the records of runs. Raises `RunsError`s."""

    def __init__(self, store: RunStore, live: MutableMapping[RunKey, LiveRun]) -> None:
        """Find records.

        Args:
            store: Where runs are kept.
            live: The runs in memory. One that has ended leaves it when it is about to be deleted.
        """
        self._store = store
        self._cluster = store.cluster
        self._shared = store.cluster.shared
        self._live = live
        self.feeds = Feeds(store, self.find)
        """The logs of runs that have readers."""
        self._looked_at: dict[RunKey, Feed] = {}
        """Runs that were looked up in this turn of the event loop, with feeds that see what is committed since."""
        self._ended: OrderedDict[RunKey, RunRecord] = OrderedDict()
        self._deleting: set[RunKey] = set()
        """Ended runs that are about to be deleted: the store alone says whether they are there."""

    def open(self) -> None:
        """Hear of deletions from now on."""
        self._store.on_delete(self._going, self._deleted)

    async def find(self, key: RunKey) -> RunRecord | None:
        """Return the record of a run, as committed; None when there is no such run."""
        run = self._live.get(key)
        if run is not None and run.commits.created:
            if self._shared and not self._cluster.fresh:
                await self._hold()
                return await self.find(key)
            return run.record
        if (ended := self._ended.get(key)) is not None:
            return ended
        if (known := self.known(key)) is not None:
            return known
        try:
            return await self._store.get(key)
        except StoreError as error:
            raise as_runs_error(error) from error

    async def look_up(self, key: RunKey) -> RunRecord | None:
        """Do as `find`, and read the store no second time when the same call needs the run once more.

        What is looked up, loaded or followed in this turn of the event loop takes the same record. A feed is open
        meanwhile, so that a commit between is not missed.
        """
        if self._shared:
            return await self.find(key)  # its record may change at any moment
        if (run := self._live.get(key)) is not None and run.commits.created:
            return run.record
        try:
            feed = await self.feeds.open(key)
        except RunNotFoundError:
            return None
        self._looked_at[key] = feed
        asyncio.get_running_loop().call_soon(self._turn_over, key, feed)
        return feed.record

    def _turn_over(self, key: RunKey, feed: Feed) -> None:
        self.feeds.close(key, feed)
        if self._looked_at.get(key) is feed:
            del self._looked_at[key]

    def at_hand(self, key: RunKey) -> RunRecord | None:
        """Return the record of a run that is in memory, or that has readers here and no other replica; else None."""
        if (run := self._live.get(key)) is not None:
            return run.record
        feed = None if self._shared else self.feeds.of(key)
        return None if feed is None or feed.deleted else feed.record

    def known(self, key: RunKey) -> RunRecord | None:
        """Return the record of a run that was looked up in this turn of the event loop."""
        feed = self._looked_at.get(key)
        return None if feed is None or feed.deleted else feed.record

    async def _hold(self) -> None:
        """Wait until it is sure that no other replica has taken a run of this one."""
        try:
            await self._cluster.hold()
        except StoreError as error:
            raise as_runs_error(error) from error

    async def get(self, caller: Principal, run_id: str) -> RunRecord:
        """Return the record of a run that the caller may see. Raises RunNotFoundError."""
        record = await self.look_up(caller.key(run_id))
        if record is None or not caller.scopes.sees(record.workflow):
            raise RunNotFoundError(run_id)
        return record

    async def check_seen(self, caller: Principal, run_id: str) -> None:
        """Raise RunNotFoundError for a run of a workflow that the caller may not see."""
        if caller.scopes.restricted:
            await self.get(caller, run_id)

    def keep(self, record: RunRecord) -> None:
        """Keep the record of a run that has ended for a while."""
        if record.key not in self._deleting and not self._shared:
            self._ended[record.key] = record
        if len(self._ended) > _ENDED_KEPT:
            self._ended.popitem(last=False)

    def trimmed(self, key: RunKey, first: int) -> None:
        """Note that the log of an ended run now begins at sequence `first`."""
        if (ended := self._ended.get(key)) is not None:
            ended.first_available = first

    def amended(self, commit: Commit) -> None:
        """Note that the record of an ended run was changed by a commit of its own."""
        record = commit.record
        if record.key in self._ended:
            self._ended[record.key] = record
        if (run := self._live.get(record.key)) is not None and run.record.status in TERMINAL:
            run.record = record
        self.feeds.committed(commit)

    def _going(self, keys: Iterable[RunKey]) -> None:
        """Forget ended runs that are about to be deleted, so that the store alone says what there is."""
        for key in keys:
            self._deleting.add(key)
            self._ended.pop(key, None)
            if (run := self._live.get(key)) is not None and run.record.status in TERMINAL:
                del self._live[key]  # its end is durable; it would have left in a moment

    def _deleted(self, keys: Iterable[RunKey]) -> None:
        """End the readers of runs that were deleted."""
        for key in keys:
            self._deleting.discard(key)
            self.feeds.deleted(key)
