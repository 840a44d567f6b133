"""Keep the pool going: take runs up at the start, wake and release them, apply retention, drain at the stop."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import sys
from collections.abc import Callable, Coroutine, Iterable
from typing import Any, Protocol

from stepwire.server.runs.errors import (
    LimitError,
    RunElsewhereError,
    RunNotFoundError,
    RunsError,
    StoreDownError,
)
from stepwire.server.runs.hosting.commits.record import RunPause
from stepwire.server.runs.hosting.live_run import LiveRun
from stepwire.server.runs.hosting.loading.new_code import Misfits
from stepwire.server.runs.hosting.loading.waking import RETRY_SECONDS
from stepwire.server.runs.hosting.pool import RunPool
from stepwire.server.runs.hosting.replicas.hand_over import hand_over
from stepwire.server.runs.hosting.retention import Retention
from stepwire.server.store import TERMINAL, RunKey, RunQuery, Status, StoreError, StoreUnavailableError, level_of
from stepwire.workflow.hosting import start_task

__all__ = ["PoolKeeper"]

logger = logging.getLogger("stepwire.runs")

_LOAD_AT_ONCE = 64
"""Runs loaded or released in one go; other work gets its turn between."""
_NOT_OURS = (RunNotFoundError, RunElsewhereError)
"""What a load raises for runs that were deleted meanwhile, or that another replica has."""
_REST_SECONDS = 1.0
"""How long a replica leaves the shares of the others to them."""
_COUNT_SECONDS = 15.0
_DUE_AT_ONCE = 1024
"""Due runs that one look into the store reads."""
_LAST_LOAD_SECONDS = 0.5
"""How long loads that are under way when the server stops may still take."""
_LAST_COMMIT_SECONDS = 2.0
"""Beyond the grace: how long the last commits may take when the server stops."""


class FamilyKeeping(Protocol):
    """Keeps parents and children in touch."""

    async def keep(self) -> None:
        """Make up for what a crash prevented, now and whenever there may be something."""

    def stop(self) -> None:
        """Start, tell and cancel nothing any more."""


class PoolKeeper:
    """Own the background tasks of a pool, from `open` to `drain`."""

    def __init__(
        self,
        pool: RunPool,
        *,
        idle_after: float = 60.0,
        retention: Retention | None = None,
        family: FamilyKeeping | None = None,
    ) -> None:
        """Make a keeper.

        Args:
            pool: The runs in memory.
            idle_after: Seconds that a run may only wait before it leaves memory.
            retention: What is kept of ended runs, and of logs.
            family: Keeps parents and children in touch, once the runs that have work are loaded.
        """
        self._family = family
        self.retention = retention or Retention()
        self._pool = pool
        self._idle_after = idle_after
        self._tasks: set[asyncio.Task[Any]] = set()
        self._rest_at: float | None = None
        """When to look for runs that are another replica's share and were not taken."""
        self.taken_up = asyncio.Event()
        """Set once the runs that had work at the start are loaded."""

    async def open(self) -> None:
        """Make the pool ready, without loading a run: the server can listen from then on."""
        pool = self._pool
        await pool.open()
        pool.cluster.on_change(pool.wakes.look_now)
        await self._count()

    async def _count(self) -> None:
        """Count the unfinished runs by workflow and status: of replicas, the one of rank 0 does."""
        pool = self._pool
        pool.metrics.counts_all = pool.cluster.rank == 0
        counts = await pool.store.counts() if pool.metrics.counts_all else {}
        for metrics in pool.metrics.workflows.values():
            metrics.unfinished.clear()
        for (workflow, status), count in counts.items():
            if status not in TERMINAL:
                pool.metrics.workflow(workflow).unfinished[status] = count

    async def _keep_counting(self) -> None:
        """Count again and again, as what other replicas do changes the counts, and at once when it is one's turn."""
        time = asyncio.get_running_loop().time
        counted_at = time()
        while True:
            await asyncio.sleep(1.0)
            turns = self._pool.metrics.counts_all != (self._pool.cluster.rank == 0)
            if turns or time() - counted_at >= _COUNT_SECONDS:
                counted_at = time()
                try:
                    await self._count()
                except StoreError as error:
                    logger.log(level_of(error), "cannot count the runs: %s", error)

    def start(self) -> None:
        """Take up every unfinished run that has work, and keep the pool from then on, in the background."""
        self._spawn(self._keep_waking(), "wake")
        self._spawn(self._keep_releasing(), "release")
        self._spawn(self.retention.keep(self._pool), "retention")
        if self._pool.cluster.shared:
            self._spawn(self._keep_counting(), "counts")
            self._spawn(self._pool.holdings.keep(), "holdings")

    def _spawn(self, work: Coroutine[Any, Any, None], name: str) -> None:
        task = start_task(work, name=f"stepwire-{name}")
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    def stop(self) -> None:
        """End the background tasks."""
        if self._family is not None:
            self._family.stop()
        for task in list(self._tasks):
            task.cancel()

    # -- waking -------------------------------------------------------------------------------------------------------

    async def _take_up(self) -> None:
        """At the start: try the blocked runs, and load every run that has work or whose deadline has passed."""
        await self._unblock()
        taken = await self._load_due((-1.0, 0))
        self._pool.trials.open()
        if taken:
            logger.info("took up %d unfinished run%s", taken, "" if taken == 1 else "s")

    async def _unblock(self) -> None:
        """Try runs that were blocked under other code."""
        store = self._pool.store
        for name in self._pool.names:
            for namespace in await store.namespaces():
                query = RunQuery(namespace=namespace, workflow=name, statuses=(Status.BLOCKED,), limit=1000)
                while records := await store.list(query):
                    await self._load_all(record.key for record in records)
                    query.before = (records[-1].created_at, records[-1].key.run_id)

    async def load_due(self) -> int:
        """Load the runs whose deadline has passed, because the clock was set forward; return how many."""
        return await self._load_due((0.0, sys.maxsize))

    async def _load_due(self, place: tuple[float, int], *, share: bool = False) -> int:
        """Load the runs that are due, those behind a place in the order; return how many were not in memory."""
        taken = 0
        pool = self._pool
        names = pool.names
        now = pool.clock.now
        while due := await pool.store.due(now(), _DUE_AT_ONCE, workflows=names, after=place, share=share):
            place = (due[-1].wake_at, due[-1].handle)
            taken += await self._load_all(run.key for run in due)
        return taken

    async def _load_all(self, keys: Iterable[RunKey]) -> int:
        taken = 0
        pool = self._pool
        todo = [key for key in keys if pool.in_memory(key) is None]
        for start in range(0, len(todo), _LOAD_AT_ONCE):
            batch = todo[start : start + _LOAD_AT_ONCE]
            results = await asyncio.gather(*map(pool.loads.load, batch), return_exceptions=True)
            for key, result in zip(batch, results, strict=True):
                if isinstance(result, LiveRun):
                    taken += 1
                elif isinstance(result, StoreDownError | LimitError):
                    pool.wakes.add_lost(key)
                elif isinstance(result, BaseException) and not isinstance(result, _NOT_OURS):
                    logger.warning("run %s was not taken up: %s", key.run_id, result)
        return taken

    async def _keep_waking(self) -> None:
        """Load the runs that have work, then those whose deadline comes or that a failed commit dropped."""
        pool = self._pool
        while True:
            pool.wakes.begin()
            try:
                if not self.taken_up.is_set():
                    await self._take_up()
                    self.taken_up.set()
                    self._spawn(Misfits(pool).keep(), "new-code")
                    if self._family is not None:
                        self._spawn(self._family.keep(), "family")
                await self._load_resumed()
                due = await pool.store.next_wake(pool.clock.now(), workflows=pool.names)
                if self._rest_at is not None:
                    due = self._rest_at if due is None else min(due, self._rest_at)
                await pool.wakes.wait(due)
                await self._load_all(pool.wakes.take_lost())
                if pool.cluster.shared:
                    await self._load_shared()
                else:
                    await self._load_due((0.0, sys.maxsize))
            except StoreError as error:
                logger.log(level_of(error), "cannot look for runs that are due: %s", error)
                await asyncio.sleep(RETRY_SECONDS)

    async def _load_shared(self) -> None:
        """Load this replica's share of the runs without an owner; a second later whatever the others left."""
        now = self._pool.clock.now()
        if self._rest_at is None:
            await self._load_due((-1.0, 0), share=True)
            if self._pool.cluster.size > 1:
                self._rest_at = now + _REST_SECONDS
        elif now >= self._rest_at:
            self._rest_at = None
            await self._load_due((-1.0, 0))
        else:
            await self._load_due((-1.0, 0), share=True)

    def wake_resumed(self) -> None:
        """Load the runs of workflows that were resumed, soon: they have work that no due time tells of."""
        self._pool.wakes.look_now()

    async def _load_resumed(self) -> None:
        pool = self._pool
        for pause in pool.pauses.waking():
            if pool.registry.get(pause.workflow) is None:
                continue  # until it is served again
            statuses = (Status.RUNNING, Status.PAUSED)
            query = RunQuery(namespace=pause.namespace, workflow=pause.workflow, statuses=statuses, limit=_DUE_AT_ONCE)
            while records := await pool.store.list(query):
                await self._load_all(record.key for record in records if RunPause.of(record) is None)
                query.before = (records[-1].created_at, records[-1].key.run_id)
            await pool.pauses.woken(pause)

    # -- releasing ----------------------------------------------------------------------------------------------------

    async def _keep_releasing(self) -> None:
        """Release runs that have only waited for `idle_after` seconds."""
        time = asyncio.get_running_loop().time
        while True:
            await asyncio.sleep(max(0.05, self._idle_after / 4))
            runs = list(self._pool)
            for start in range(0, len(runs), _LOAD_AT_ONCE):
                self._pool.release(runs[start : start + _LOAD_AT_ONCE], time(), self._idle_after)
                await asyncio.sleep(0)  # releasing 100,000 runs at once would starve the callers

    # -- draining -----------------------------------------------------------------------------------------------------

    async def drain(
        self,
        grace: float,
        hastened: asyncio.Event | None = None,
        unused: Callable[[], bool] = lambda: False,
    ) -> bool:
        """Refuse new work, give running steps `grace` seconds, then freeze every run and commit.

        `hastened` cuts the grace when it is set. Where other replicas take the runs over, this one goes on answering
        until the grace ends, or `unused` tells that nobody calls it any more.
        Return False when the store does not commit in time; the callers that wait for it get StoreDownError.
        """
        self._pool.draining = True
        self.stop()
        time = asyncio.get_running_loop().time
        deadline = time() + grace
        if any(not peer.draining for peer in self._pool.cluster.peers):
            return await hand_over(self._pool, deadline, hastened or asyncio.Event(), unused)
        if await self._give_grace(deadline, hastened or asyncio.Event()):
            deadline = time()
        await self._pool.loads.done(_LAST_LOAD_SECONDS)
        runs = list(self._pool)
        for run in runs:
            run.freeze()
        try:
            async with asyncio.timeout_at(deadline + _LAST_COMMIT_SECONDS):
                await asyncio.gather(*(run.commits.wait() for run in runs), return_exceptions=True)
        except TimeoutError:
            logger.error("the store does not commit: changes that were not acknowledged are lost")
            for run in runs:
                if not run.commits.clean:
                    run.commits.abandon(StoreUnavailableError("the store did not commit in time"))
            return False
        self._pool.notes.close()
        return True

    async def _give_grace(self, deadline: float, hastened: asyncio.Event) -> bool:
        """Let running steps go on until the deadline; return True when `hastened` cut that."""
        time = asyncio.get_running_loop().time
        cut = start_task(hastened.wait())
        try:
            while time() < deadline and not cut.done() and (busy := [run for run in self._pool if run.busy]):
                commits = start_task(self._next_commits(busy), name="stepwire-grace")
                await asyncio.wait((commits, cut), timeout=deadline - time(), return_when=asyncio.FIRST_COMPLETED)
                commits.cancel()
            return cut.done()
        finally:
            cut.cancel()

    async def _next_commits(self, runs: Iterable[LiveRun]) -> None:
        """Wait for the next commit of each run."""
        await asyncio.gather(*map(self._next_commit, runs), return_exceptions=True)

    async def _next_commit(self, run: LiveRun) -> None:
        """Wait for the run's next commit; its steps finish by committing."""
        if not run.commits.created:
            with contextlib.suppress(RunsError):  # the run is dropped then, and not waited for again
                await run.commits.wait()
            return
        feeds = self._pool.feeds
        feed = await feeds.open(run.key)
        try:
            await feed.changed()
        finally:
            feeds.close(run.key, feed)
