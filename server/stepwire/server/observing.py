"""What an operator sees of one server, wired up: metrics, the admin port, the watchdog, health."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import shutil
from collections.abc import Callable, Iterator
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import TYPE_CHECKING, Any

from stepwire.server.config import Settings, is_loopback
from stepwire.server.rpc import Calls
from stepwire.server.runs.hosting.pool import RunPool
from stepwire.server.store import DATABASE, RunStore, StoreError
from stepwire.server.telemetry.metrics import Metrics, Reading
from stepwire.server.telemetry.watchdog import Watchdog

if TYPE_CHECKING:
    from stepwire.server.telemetry.admin import AdminServer

__all__ = ["Observing"]

logger = logging.getLogger("stepwire.server")

_PROBE_SECONDS = 1.0
"""Seconds between trials of a store that could not write."""

STARTING, DRAINING = "starting", "draining"


class Observing:
    """Let an operator see a server; `serving` is told when it becomes able to work or unable."""

    def __init__(
        self,
        settings: Settings,
        store: RunStore,
        calls: Calls,
        metrics: Metrics,
        serving: Callable[[bool], Any],
    ) -> None:
        self._settings = settings
        self._store = store
        self._calls = calls
        self._serving = serving
        self._pool: RunPool | None = None
        self._phase = STARTING
        self._failing = asyncio.Event()
        self._keeper: asyncio.Task[None] | None = None
        self._watchdog: Watchdog | None = None
        self._metrics = metrics
        self._admin: AdminServer | None = None

    @property
    def admin_address(self) -> str:
        """Return where the admin port listens, with the port that it got; empty without one."""
        return self._admin.address if self._admin is not None else ""

    def open(self) -> None:
        """Open the admin port, if there is to be one: it answers while runs are taken up, too. OSError."""
        address = self._settings.admin_address
        if address is None:
            return
        # Prometheus' client takes a tenth of the start: only for those who want it.
        from stepwire.server.telemetry.admin import AdminServer
        from stepwire.server.telemetry.prometheus import registry_of

        self._admin = AdminServer(registry_of(self._metrics, _version(), self._readings), self.unready)
        self._admin.start(address)
        if not is_loopback(address):
            logger.warning("the admin port %s can be reached from other machines, without authentication", address)

    async def start(self, pool: RunPool) -> None:
        """Say that the server works, and look after it."""
        self._pool = pool
        self._phase = ""
        if self._settings.watchdog:
            self._watchdog = Watchdog(self._settings.watchdog, self._metrics.loop, pool.locate)
            self._watchdog.start()
        self._store.on_failure(self._failing.set)
        self._keeper = asyncio.create_task(self._keep_health(), name="stepwire-health")
        await self._serving(True)

    async def drain(self) -> None:
        """Say that the server takes no more work."""
        self._phase = DRAINING
        if self._keeper is not None:
            self._keeper.cancel()
            await asyncio.wait([self._keeper])
        await self._serving(False)

    def close(self) -> None:
        """Stop everything."""
        if self._watchdog is not None:
            self._watchdog.stop()
        if self._admin is not None:
            self._admin.stop()

    def pausing(self) -> contextlib.AbstractContextManager[None]:
        """Have the watchdog overlook a block that is meant to be."""
        return self._watchdog.paused() if self._watchdog is not None else contextlib.nullcontext()

    def unready(self) -> str:
        """Say why the server takes no work now; empty when it does. From any thread."""
        return self._phase or self._failure()

    def _failure(self) -> str:
        failure = self._store.failure
        return f"cannot commit: {failure}" if failure is not None else ""

    async def _keep_health(self) -> None:
        """Be NOT_SERVING for as long as the store cannot write, and look whether it can again."""
        while True:
            await self._failing.wait()
            self._failing.clear()
            if not (failure := self._failure()):
                continue
            logger.error("NOT SERVING: %s", failure)
            await self._serving(False)
            while self._failure():
                await asyncio.sleep(_PROBE_SECONDS)
                with contextlib.suppress(StoreError):
                    await self._store.probe()
            logger.info("serving again: the store can write")
            await self._serving(True)

    # -- readings, made on the thread of whoever scrapes -----------------------------------------------------------

    def _readings(self) -> Iterator[Reading]:
        yield Reading("stepwire_ready", (), float(not self.unready()))
        for kind, count in self._calls.open().items():
            yield Reading("stepwire_calls", (kind,), count)
        pool = self._pool
        if pool is not None:
            yield Reading("stepwire_runs_in_memory", (), len(pool))
            yield Reading("stepwire_sync_steps_queued", (), pool.sync_backlog)
            for workflow, (queued, waiters) in pool.depths().items():
                yield Reading("stepwire_deliveries_queued", (workflow,), queued)
                yield Reading("stepwire_waiters", (workflow,), waiters)
        if self._settings.data != ":memory:":
            directory = Path(self._settings.data)
            size = 0
            for name in (DATABASE, f"{DATABASE}-wal"):
                with contextlib.suppress(OSError):
                    size += (directory / name).stat().st_size
            yield Reading("stepwire_database_bytes", (), size)
            with contextlib.suppress(OSError):
                yield Reading("stepwire_disk_free_bytes", (), shutil.disk_usage(directory).free)


def _version() -> str:
    try:
        return version("stepwire")
    except PackageNotFoundError:  # run from a checkout that was not installed
        return "unknown"
