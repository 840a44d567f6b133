"""Retention: ended runs, old snapshots and old log entries go, in the background and in small steps."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

from stepwire.server.registry import Registry
from stepwire.server.runs.log.chunks import MAX_ENTRIES
from stepwire.server.store import RunKey, RunStore, StoreCorruptError, StoreError
from stepwire.workflow.hosting import CLOCK

logger = logging.getLogger("stepwire.retention")

_BATCH = 200
_LOOK_BACK = 24 * 3600.0
"""Seconds before a start within which runs that ended may still have to be thinned."""

Trimmed = Callable[[RunKey, int], None]
"""Told of a run whose log begins at this sequence now."""

THIN_ABOVE_ENTRIES = 16
"""Runs with a shorter log keep every snapshot: there is little to win."""


@dataclass(frozen=True, kw_only=True)
class Keep:
    """What is kept of a workflow's runs; None keeps all.

    `age` is in seconds since the end; `runs` counts the newest of each namespace. An ended run goes when either says
    so. Of its log every run keeps the newest `entries` at least.
    """

    age: float | None = None
    runs: int | None = None
    entries: int | None = None


@dataclass(kw_only=True)
class Retention:
    """What is kept: `default`, and other rules by the name of the workflow. Looked at every `interval` seconds.

    A living run keeps a snapshot of every commit; `thin_after` seconds after its end it keeps the last and the full
    ones.
    """

    default: Keep = field(default_factory=Keep)
    workflows: Mapping[str, Keep] = field(default_factory=dict)
    interval: float = 60.0
    thin_after: float = 3600.0
    _place: tuple[float, int] | None = field(default=None, repr=False)
    """Up to where ended runs were thinned, in the order of their ends."""

    async def keep(self, registry: Registry, store: RunStore, deleted: Callable[[], None], trimmed: Trimmed) -> None:
        """Apply the rules for ever; `deleted` is called each time, when runs may have gone."""
        while True:
            try:
                await self.apply(registry, store, trimmed)
            except StoreError as error:
                logger.warning("retention: %s", error)
            finally:
                deleted()  # also when only some went before the store failed
            await asyncio.sleep(self.interval)

    async def apply(self, registry: Registry, store: RunStore, trimmed: Trimmed) -> int:
        """Apply the rules once; return how many runs went. `trimmed` is called for each log that begins later now."""
        await self._thin(store)
        gone = 0
        for name in registry.names():
            rule = self.workflows.get(name, self.default)
            if rule.age is not None:
                gone += await self._prune(store, name, CLOCK.now() - rule.age, None)
            if rule.runs is not None:
                gone += await self._prune(store, name, None, rule.runs)
            if rule.entries is not None:
                await self._trim(store, name, rule.entries, trimmed)
        if gone:
            logger.info("retention: %d ended run%s deleted", gone, "" if gone == 1 else "s")
        return gone

    async def _thin(self, store: RunStore) -> None:
        """Thin the snapshots of the runs that are due. The store knows which: nothing is remembered of each."""
        now = CLOCK.now()
        due = now - self.thin_after
        place = self._place or (now - _LOOK_BACK, 0)
        while runs := await store.ended(place, _BATCH, before=due, longer_than=THIN_ABOVE_ENTRIES):
            for run in runs:
                await store.thin_snapshots(run.key)
                place = self._place = (run.ended_at, run.handle)
        self._place = max(place, (due, 0))

    async def _trim(self, store: RunStore, name: str, entries: int, trimmed: Trimmed) -> None:
        """Trim the logs that are longer than they may be by more than one chunk: only whole ones go."""
        place = 0
        while runs := await store.long_logs(name, entries + MAX_ENTRIES, _BATCH, after=place):
            for run in runs:
                try:
                    first = await store.trim(run.key, run.last_sequence - entries + 1)
                except StoreCorruptError as error:  # must not keep the others
                    logger.warning("retention: a log is not trimmed: %s", error)
                else:
                    if first is not None:
                        trimmed(run.key, first)
            place = runs[-1].handle

    async def _prune(self, store: RunStore, name: str, ended_before: float | None, keep_last: int | None) -> int:
        """Delete in batches, so that commits never wait long."""
        gone = 0
        while True:
            step = await store.prune(workflow=name, ended_before=ended_before, keep_last=keep_last, limit=_BATCH)
            gone += step
            if step < _BATCH:
                return gone
