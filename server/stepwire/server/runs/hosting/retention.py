"""Retention: delete ended runs, old snapshots and old log entries, in the background and in small steps."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Protocol

from stepwire.server.registry import Registry
from stepwire.server.runs.log.chunks import MAX_ENTRIES
from stepwire.server.store import RunKey, RunStore, StoreCorruptError, StoreError, level_of

logger = logging.getLogger("stepwire.retention")

_BATCH = 200
"""Runs that one request to the store deletes, thins or trims."""
_LOOK_BACK = 24 * 3600.0
"""Seconds: runs that ended longer before the start of this process were thinned by an earlier one."""

THIN_ABOVE_ENTRIES = 16
"""Runs with a shorter log keep every snapshot: thinning would free little."""


class Kept(Protocol):
    """The runs that the rules apply to: a store, and what memory knows of its runs."""

    @property
    def registry(self) -> Registry:
        """The served workflows."""

    @property
    def store(self) -> RunStore:
        """Where runs are kept."""

    def trimmed(self, key: RunKey, first: int) -> None:
        """Note that the log of a run now begins at sequence `first`."""


@dataclass(frozen=True, kw_only=True)
class Keep:
    """What is kept of a workflow's runs. None keeps everything.

    Attributes:
        age: Seconds since its end after which a run is deleted.
        runs: How many ended runs of each namespace are kept, the newest ones. A run is deleted when either says so.
        entries: How many entries of its log every run keeps at least, the newest ones.
    """

    age: float | None = None
    runs: int | None = None
    entries: int | None = None


@dataclass(kw_only=True)
class Retention:
    """Apply the rules of what is kept.

    Attributes:
        default: The rule of workflows that have none of their own.
        workflows: Rules by the name of the workflow.
        interval: Seconds between two looks.
        thin_after: A living run keeps a snapshot of every commit. This many seconds after its end it keeps those of
            its full commits, and the last one.
    """

    default: Keep = field(default_factory=Keep)
    workflows: Mapping[str, Keep] = field(default_factory=dict)
    interval: float = 60.0
    thin_after: float = 3600.0
    _place: tuple[float, int] | None = field(default=None, repr=False)
    """The last run that was thinned, in the order of their ends."""

    async def keep(self, runs: Kept) -> None:
        """Apply the rules every `interval` seconds; of replicas, the one of rank 0 does."""
        while True:
            try:
                if runs.store.cluster.rank == 0:
                    await self.apply(runs)
            except StoreError as error:
                logger.log(level_of(error), "retention: %s", error)
            await asyncio.sleep(self.interval)

    async def apply(self, runs: Kept) -> int:
        """Apply the rules once; return how many runs were deleted."""
        store = runs.store
        await self._thin(store)
        gone = 0
        for name in runs.registry.names():
            rule = self.workflows.get(name, self.default)
            if rule.age is not None:
                gone += await self._prune(store, name, store.ago(rule.age), None)
            if rule.runs is not None:
                gone += await self._prune(store, name, None, rule.runs)
            if rule.entries is not None:
                await self._trim(runs, name, rule.entries)
        if gone:
            logger.info("retention: %d ended run%s deleted", gone, "" if gone == 1 else "s")
        return gone

    async def _thin(self, store: RunStore) -> None:
        """Thin the snapshots of the runs that are due, in the order of their ends."""
        now = store.ago(0.0)
        due = now - self.thin_after
        place = self._place or (now - _LOOK_BACK, 0)
        while runs := await store.ended(place, _BATCH, before=due, longer_than=THIN_ABOVE_ENTRIES):
            for run in runs:
                await store.thin_snapshots(run.key)
                place = self._place = (run.ended_at, run.handle)
        self._place = max(place, (due, 0))

    async def _trim(self, runs: Kept, name: str, entries: int) -> None:
        """Trim the logs that are too long by more than one chunk: the store drops whole chunks."""
        place = 0
        while found := await runs.store.long_logs(name, entries + MAX_ENTRIES, _BATCH, after=place):
            for run in found:
                try:
                    first = await runs.store.trim(run.key, run.last_sequence - entries + 1)
                except StoreCorruptError as error:  # one damaged log must not keep the others
                    logger.warning("retention: a log is not trimmed: %s", error)
                else:
                    if first is not None:
                        runs.trimmed(run.key, first)
            place = found[-1].handle

    async def _prune(self, store: RunStore, name: str, ended_before: float | None, keep_last: int | None) -> int:
        """Delete in batches, so that commits never wait long."""
        gone = 0
        while True:
            step = await store.prune(workflow=name, ended_before=ended_before, keep_last=keep_last, limit=_BATCH)
            gone += step
            if step < _BATCH:
                return gone
