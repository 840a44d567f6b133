"""Keep the runs that a replica holds the same as those that the storage says are its own.

A replica that owns a run which it does not hold would leave it lying for as long as it lives. And what it holds without
owning it is out of date. Neither comes about while the storage keeps what it acknowledged; a standby that was promoted
without the last commits does not.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Iterator
from typing import Final, Protocol

from stepwire.server.runs.hosting.live_run import LiveRun
from stepwire.server.runs.log.feed import Feeds
from stepwire.server.store import TERMINAL, Claim, Cluster, RunKey, RunStore, StaleClaimError, StoreError, level_of

__all__ = ["Holdings"]

logger = logging.getLogger("stepwire.runs")

_LOOK_SECONDS: Final = 10.0
"""Seconds between two looks."""
_AGAIN_SECONDS: Final = 2.0
"""Seconds until the next look when there are runs that this one does not hold: they may be coming or going."""

_UNDONE: Final = (
    "the database has lost acknowledged commits %s: was a standby promoted that had not received them? These runs go on"
    " from what the database has (docs/cluster.md)"
)


class Pool(Protocol):
    """The runs that are held."""

    store: RunStore
    cluster: Cluster
    feeds: Feeds

    def __iter__(self) -> Iterator[LiveRun]: ...
    def in_memory(self, key: RunKey) -> LiveRun | None:
        """Return a run if it is in memory."""

    def is_loading(self, key: RunKey) -> bool:
        """Tell whether a run is being loaded."""


class Holdings:
    """Compare the two, for one pool."""

    def __init__(self, pool: Pool) -> None:
        self._pool = pool
        self._strays: set[Claim] = set()
        """What the last look found that is not held."""

    def open(self) -> None:
        """Look whenever the storage was lost and is found again."""
        self._pool.cluster.on_return(self._returned)

    async def _returned(self) -> None:
        """Look before anything is answered from memory again."""
        if any(True for _ in self._pool):
            await self.check(anew=True)

    async def keep(self) -> None:
        """Look again and again."""
        while True:
            await asyncio.sleep(_AGAIN_SECONDS if self._strays else _LOOK_SECONDS)
            try:
                await self.check()
            except StoreError as error:
                logger.log(level_of(error), "cannot compare the runs in memory with those in the store: %s", error)

    async def check(self, *, anew: bool = False) -> None:
        """Drop what is not this replica's, and give up what is and is not held. Raises StoreError.

        Args:
            anew: Ask over a new connection.
        """
        pool, cluster = self._pool, self._pool.cluster
        me = cluster.me
        held = {claim.handle: (run, claim) for run in pool if (claim := run.commits.claim) is not None}
        found = await cluster.compare([claim for _, claim in held.values()], anew=anew)
        if not me or cluster.me != me:
            return  # taken for dead meanwhile: all runs are dropped
        ends = {}
        for handle, end in found.undone.items():
            run, claim = held[handle]
            if self._holds(run, claim):
                ends[run.key] = end
        if ends:
            runs = "of 1 run" if len(ends) == 1 else f"of {len(ends)} runs"
            logger.error(_UNDONE, runs)
            await cluster.undone(ends)  # before one of these runs goes on
        for handle in found.lost:
            run, claim = held[handle]
            if self._holds(run, claim):
                run.commits.abandon(StaleClaimError("the run is not this replica's any more"))
        for key, end in ends.items():
            pool.feeds.undone(key, end)
        strays = {
            claim for claim in found.strays if pool.in_memory(claim.key) is None and not pool.is_loading(claim.key)
        }
        if given_up := strays & self._strays:
            runs = "1 run that was" if len(given_up) == 1 else f"{len(given_up)} runs that were"
            logger.warning("gave up %s this replica's and not in its memory", runs)
            for claim in given_up:
                pool.store.release(claim)
            await cluster.released()
        self._strays = strays - given_up

    def _holds(self, run: LiveRun, claim: Claim) -> bool:
        """Tell whether a run is held now as it was when the store was asked."""
        present = self._pool.in_memory(run.key) is run and not run.gone
        return present and run.commits.claim == claim and run.record.status not in TERMINAL
