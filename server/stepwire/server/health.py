"""Whether the server takes work: the health service follows the store, the drain and the event loop."""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections.abc import Awaitable, Callable
from time import monotonic

from stepwire.server.store import RunStore, StoreError
from stepwire.server.telemetry.readiness import DRAINING, READY, Readiness
from stepwire.workflow.hosting import start_task

__all__ = ["HealthKeeper"]

logger = logging.getLogger("stepwire.server")

PROBE_SECONDS = 1.0
"""Seconds between two attempts to write with a store that failed to."""
SHARED_SECONDS = 5.0
"""Seconds without a database that replicas share, after which they say so: a failover takes some, and all of them would
say it at once. Until then calls wait."""
QUIET_SECONDS = 3.5
"""How old the last beat may be when its loss is noticed. An older one shows a pause of this process, which does not
count."""
REMINDER_SECONDS = 30.0
"""Seconds between two lines of the log while the store cannot write."""


class HealthKeeper:
    """Tell health checks whether the server takes work, and try a failing store until it can write again."""

    def __init__(self, store: RunStore, set_serving: Callable[[bool], Awaitable[None]]) -> None:
        """Make a keeper.

        Args:
            store: The store to follow.
            set_serving: Tells the health service.
        """
        self.readiness = Readiness(self._failure)
        self._store = store
        self._set_serving = set_serving
        self._news = asyncio.Event()
        self._patience = SHARED_SECONDS if store.cluster.shared else 0.0
        self._failing_since: float | None = None
        self._task: asyncio.Task[None] | None = None

    async def start(self) -> None:
        """Say that the server takes work, and follow the store from now on."""
        self.readiness.phase = READY
        self.readiness.follow_loop(asyncio.get_running_loop())
        self._store.on_failure(self._heard)
        self._task = start_task(self._follow(), name="stepwire-health")
        await self._set_serving(True)

    async def drain(self) -> None:
        """Say that the server takes no more work."""
        await self.leave()
        await self._set_serving(False)

    async def leave(self) -> None:
        """Follow the store no more."""
        self.readiness.phase = DRAINING
        if self._task is not None:
            self._task.cancel()
            await asyncio.wait([self._task])

    def _heard(self) -> None:
        failing = self._store.failure is not None
        self._failing_since = monotonic() - min(self._store.cluster.beat_age, QUIET_SECONDS) if failing else None
        self._news.set()

    def _failure(self) -> str:
        failure, since = self._store.failure, self._failing_since
        if failure is None or (since is not None and monotonic() - since < self._patience):
            return ""
        return f"cannot commit: {failure}"

    async def _follow(self) -> None:
        while True:
            await self._news.wait()
            self._news.clear()
            if self._store.failure is not None:
                probing = start_task(self._probe(), name="stepwire-probe")
                try:
                    await self._await_failure()
                    if failure := self._failure():
                        await self._not_serving(failure)
                finally:
                    probing.cancel()

    async def _probe(self) -> None:
        """Try to write as long as that fails: it may be that nobody else does."""
        while True:
            await asyncio.sleep(PROBE_SECONDS)
            if self._store.failure is not None:
                with contextlib.suppress(StoreError):
                    await self._store.probe()

    async def _await_failure(self) -> None:
        """Wait until patience is over, or the store writes again."""
        while (since := self._failing_since) is not None and (left := since + self._patience - monotonic()) > 0:
            await self._news_within(left)

    async def _not_serving(self, failure: str) -> None:
        """Tell health checks that the server does not take work, until the store writes again."""
        logger.error("NOT SERVING: %s", failure)
        await self._set_serving(False)
        remind = monotonic() + REMINDER_SECONDS
        while (since := self._failing_since) is not None:
            await self._news_within(remind - monotonic())
            if monotonic() >= remind and (failure := self._failure()):
                logger.warning("NOT SERVING for %.0f s: %s", monotonic() - since, failure)
                remind += REMINDER_SECONDS
        logger.info("serving again: the store can write")
        await self._set_serving(True)

    async def _news_within(self, seconds: float) -> None:
        """Wait until writing fails or works again, or for so many seconds."""
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(max(0.0, seconds)):
                await self._news.wait()
        self._news.clear()
