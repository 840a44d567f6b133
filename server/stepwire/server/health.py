"""Whether the server takes work: the health service follows the store, the drain and the event loop."""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections.abc import Awaitable, Callable

from stepwire.server.store import RunStore, StoreError
from stepwire.server.telemetry.readiness import DRAINING, READY, Readiness

__all__ = ["HealthKeeper"]

logger = logging.getLogger("stepwire.server")

PROBE_SECONDS = 1.0
"""Seconds between two attempts to write with a store that failed to."""


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
        self._task: asyncio.Task[None] | None = None

    async def start(self) -> None:
        """Say that the server takes work, and follow the store from now on."""
        self.readiness.phase = READY
        self.readiness.follow_loop(asyncio.get_running_loop())
        self._store.on_failure(self._failed.set)
        self._task = asyncio.create_task(self._follow(), name="stepwire-health")
        await self._set_serving(True)

    async def drain(self) -> None:
        """Say that the server takes no more work."""
        self.readiness.phase = DRAINING
        if self._task is not None:
            self._task.cancel()
            await asyncio.wait([self._task])
        await self._set_serving(False)

    def _failure(self) -> str:
        failure = self._store.failure
        return f"cannot commit: {failure}" if failure is not None else ""

    async def _follow(self) -> None:
        while True:
            await self._failed.wait()
            self._failed.clear()
            if not (failure := self._failure()):
                continue
            logger.error("NOT SERVING: %s", failure)
            await self._set_serving(False)
            while self._failure():
                await asyncio.sleep(PROBE_SECONDS)
                with contextlib.suppress(StoreError):
                    await self._store.probe()
            logger.info("serving again: the store can write")
            await self._set_serving(True)
