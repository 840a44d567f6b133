"""Take in what other replicas do to the runs of a pool: claims, deletions, trims, places, pauses, and one's own death.

Where no other process can use the store, nothing of this is ever called.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Iterator
from typing import Protocol

from stepwire.server.runs.hosting.live_run import LiveRun
from stepwire.server.runs.hosting.loading.waking import WakeList
from stepwire.server.runs.hosting.pauses import WorkflowPauses
from stepwire.server.runs.hosting.replicas.routes import Routes
from stepwire.server.runs.hosting.slots.concurrency import RunSlots
from stepwire.server.runs.hosting.slots.shared_slots import SharedSlots
from stepwire.server.runs.log.feed import Feeds
from stepwire.server.store import Cluster, News, RunKey, StaleClaimError, StoreError, TakenForDeadError, level_of
from stepwire.workflow.hosting import start_task

__all__ = ["PeerNews"]

logger = logging.getLogger("stepwire.runs")


class Pool(Protocol):
    """What the news concern."""

    cluster: Cluster
    routes: Routes
    feeds: Feeds
    wakes: WakeList
    slots: RunSlots | SharedSlots
    pauses: WorkflowPauses

    def __iter__(self) -> Iterator[LiveRun]: ...
    def in_memory(self, key: RunKey) -> LiveRun | None:
        """Return a run if it is in memory."""

    def trimmed(self, key: RunKey, first: int) -> None:
        """Note that the log of a run now begins at sequence `first`."""

    def hold(self, namespace: str, workflow: str) -> None:
        """Have the runs in memory act on it that their workflow was paused or resumed."""


class PeerNews:
    """Act on the news of other replicas, for one pool."""

    def __init__(self, pool: Pool) -> None:
        self._pool = pool
        self._checking: dict[RunKey, asyncio.Task[None]] = {}
        """Runs that another replica may have taken by force."""
        self._reading: set[asyncio.Task[None]] = set()
        self._acts: dict[str, Callable[[News], None]] = {
            "deleted": self._deleted,
            "trimmed": self._trimmed,
            "claimed": self._claimed,
            "placed": self._placed,
            "paused": self._paused,
            "missed": self._missed,
            "undone": self._undone,
        }

    def open(self) -> None:
        """Listen from now on."""
        self._pool.cluster.on_death(self._taken_for_dead)
        self._pool.cluster.on_news(self._heard)

    def _heard(self, news: News) -> None:
        if (act := self._acts.get(news.kind)) is not None:  # a later version may tell more
            act(news)

    def _taken_for_dead(self) -> None:
        """Drop all runs: other replicas may have them."""
        self._pool.routes.clear()
        runs = list(self._pool)
        for run in runs:
            run.commits.abandon(TakenForDeadError())
        if runs:
            logger.warning("%d runs left memory, for the other replicas may have them", len(runs))

    def _deleted(self, news: News) -> None:
        self._pool.routes.forget(news.key)
        self._pool.feeds.deleted(news.key)

    def _undone(self, news: News) -> None:
        self._pool.feeds.undone(news.key, news.first)

    def _trimmed(self, news: News) -> None:
        self._pool.trimmed(news.key, news.first)

    def _claimed(self, news: News) -> None:
        key = news.key
        self._pool.routes.forget(key)
        self._pool.wakes.forget(key)
        if self._pool.in_memory(key) is not None and key not in self._checking:
            self._checking[key] = start_task(self._check_owned(key), name="stepwire-owned")

    async def _check_owned(self, key: RunKey) -> None:
        """Drop a run if another replica has taken it by force."""
        try:
            elsewhere = await self._pool.cluster.owners([key])
        except StoreError:
            return  # its next commit is refused
        finally:
            self._checking.pop(key, None)
        if elsewhere and (run := self._pool.in_memory(key)) is not None:
            run.commits.abandon(StaleClaimError("another replica has taken the run"))

    def _placed(self, news: News) -> None:
        if isinstance(self._pool.slots, SharedSlots):
            self._pool.slots.look(news.key)

    def _paused(self, news: News) -> None:
        task = start_task(self._look_at_pauses(), name="stepwire-pauses")
        self._reading.add(task)
        task.add_done_callback(self._reading.discard)

    async def _look_at_pauses(self) -> None:
        """Find out which workflows another replica has paused or resumed, and act on it."""
        try:
            changed = await self._pool.pauses.refresh()
        except StoreError as error:
            logger.log(level_of(error), "cannot read which workflows are paused: %s", error)
            return
        for namespace, workflow in changed:
            self._pool.hold(namespace, workflow)
        self._pool.wakes.look_now()

    def _missed(self, news: News) -> None:
        """Look at everything that news may have been lost of; `rpc/peers` looks at the feeds."""
        self._pool.routes.clear()
        if isinstance(self._pool.slots, SharedSlots):
            self._pool.slots.look()
        self._paused(news)
