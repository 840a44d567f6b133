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
        self._failed = asyncio.Event()
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
        self._failing_since = None if self._store.failure is None else monotonic()
        self._failed.set()

    def _patience_left(self) -> float:
        since = self._failing_since
        return 0.0 if since is None else since + self._patience - monotonic()

    def _failure(self) -> str:
        failure, since = self._store.failure, self._failing_since
        if failure is None or (since is not None and monotonic() - since < self._patience):
            return ""
        return f"cannot commit: {failure}"

    async def _follow(self) -> None:
        while True:
            await self._failed.wait()
            self._failed.clear()
            # A timer may fire a little early, and the failure may have begun anew meanwhile.
            while (left := self._patience_left()) > 0:  # noqa: ASYNC110 - it sleeps until a time, and does not poll
                await asyncio.sleep(left)
            if not (failure := self._failure()):
                continue
            logger.error("NOT SERVING: %s", failure)
            await self._set_serving(False)
            while self._store.failure is not None:
                await asyncio.sleep(PROBE_SECONDS)
                with contextlib.suppress(StoreError):
                    await self._store.probe()
            logger.info("serving again: the store can write")
            await self._set_serving(True)
