"""What the store in PostgreSQL does by itself: prune answered requests, free space, find out if the clock was set."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable
from contextvars import Context
from functools import partial
from typing import Final

from stepwire.server.store.aging import GAP_SECONDS, Aging, Gap
from stepwire.server.store.errors import StoreError, level_of
from stepwire.server.store.limits import REQUEST_AGE
from stepwire.server.store.postgres import removal
from stepwire.server.store.postgres.run_queries import Fetch
from stepwire.server.store.records import Commit
from stepwire.workflow.hosting import start_task

__all__ = ["Upkeep"]

log = logging.getLogger(__name__)

_REQUESTS_PRUNED_EVERY: Final = 500
"""Commits with answered requests of one run after which its old ones are pruned."""


class Upkeep:
    """Own the tasks of the store that no caller waits for."""

    def __init__(self, read: Fetch, change: Fetch, aging: Aging) -> None:
        """Make upkeep that has nothing to do yet.

        Args:
            read: Executes statements that change nothing.
            change: Executes statements that may be executed again.
            aging: Tells how old something is.
        """
        self._read = read
        self._change = change
        self._aging = aging
        self._tasks: set[asyncio.Task[None]] = set()
        self._answered: dict[int, int] = {}
        """Commits with answered requests of each run since its old ones were pruned."""

    def spawn(self, work: Callable[[], Awaitable[None]], name: str) -> asyncio.Task[None]:
        """Have something done that may fail, and is tried again later then."""

        async def guarded() -> None:
            try:
                await work()
            except StoreError as error:
                log.log(level_of(error), "upkeep of the store (%s) failed, and is tried again later: %s", name, error)

        # Whatever call or run led to it, it is done for all: its log lines must not name them.
        task = start_task(guarded(), name=f"stepwire-store-{name}", context=Context())
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        return task

    async def stop(self) -> None:
        """Cancel what is under way."""
        for task in self._tasks:
            task.cancel()
        if self._tasks:
            await asyncio.wait(self._tasks)

    def count_requests(self, commit: Commit) -> None:
        """Note a commit: now and then the old requests of its run are pruned."""
        if not commit.requests or commit.claim is None:
            return
        run = commit.claim.handle
        self._answered[run] = self._answered.get(run, 0) + len(commit.requests)
        if commit.record.ended_at is not None:
            del self._answered[run]
        elif self._answered[run] >= _REQUESTS_PRUNED_EVERY:
            self._answered[run] = 0
            oldest = self._aging.ago(REQUEST_AGE)
            self.spawn(partial(removal.prune_requests, self._change, run, oldest), "requests")

    def sweep(self) -> None:
        """Have the rows of deleted runs removed, a little at a time."""

        async def remove() -> None:
            while await removal.sweep(self._change):
                pass

        if not any(task.get_name() == "stepwire-store-sweep" for task in self._tasks):
            self.spawn(remove, "sweep")

    async def find_gaps(self) -> None:
        """Find out whether the clock may have been set since the last commit."""
        gaps = [Gap(*row) for row in map(tuple, await self._read("SELECT began, ended FROM gaps"))]
        now = self._aging.now()
        (last,) = (await self._read("SELECT max(updated_at) FROM runs"))[0]
        seen = max([gap.end for gap in gaps] + ([last] if last is not None else []), default=now)
        if now - seen > GAP_SECONDS:
            gaps.append(Gap(seen, now))
            log.warning(
                "the last commit is %.1f days old by the clock: retention does not count this time, for the clock"
                " may have been set",
                (now - seen) / 86400,
            )
            await self._change("INSERT INTO gaps VALUES ($1, $2)", float(seen), float(now))
        self._aging.skip(gaps)
