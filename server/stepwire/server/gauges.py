"""Read at each scrape what is not counted: calls and runs as they are now, the disk, readiness."""

from __future__ import annotations

import contextlib
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path

from stepwire.server.rpc import Calls
from stepwire.server.runs.hosting.loading.new_code import blocked_lines
from stepwire.server.runs.hosting.overview import depths
from stepwire.server.runs.hosting.pool import RunPool
from stepwire.server.store import DATABASE
from stepwire.server.telemetry import logs
from stepwire.server.telemetry.metrics import Reading

__all__ = ["Gauges"]


class Gauges:
    """Read the gauges of one server, on the scraper's thread."""

    def __init__(self, calls: Calls, directory: Path | None, unready: Callable[[], str]) -> None:
        """Make the gauges.

        Args:
            calls: The calls of the server.
            directory: Its data directory; None when nothing is kept.
            unready: Says why the server takes no work; empty when it does.
        """
        self.pool: RunPool | None = None
        """The runs in memory, once the server has them."""
        self.unreached: Callable[[], int] = lambda: 0
        """Tells how many of the other replicas are not reached."""
        self._calls = calls
        self._directory = directory
        self._unready = unready

    def details(self) -> Iterator[str]:
        """Yield lines about what does not keep the server from working, but should be looked at. From any thread."""
        if self.pool is not None:
            yield from blocked_lines(self.pool)

    def read(self) -> Iterator[Reading]:
        """Yield the present readings. From any thread."""
        yield Reading("stepwire_ready", (), float(not self._unready()))
        for kind, count in self._calls.open().items():
            yield Reading("stepwire_calls", (kind,), count)
        yield Reading("stepwire_log_records_dropped_total", (), logs.dropped())
        if self.pool is not None:
            yield from self._of_runs(self.pool)
        if self._directory is not None:
            yield from self._of_disk(self._directory)

    def _of_runs(self, pool: RunPool) -> Iterator[Reading]:
        yield Reading("stepwire_runs_in_memory", (), len(pool))
        if pool.cluster.shared:
            yield from self._of_cluster(pool)
        load = pool.thread_load
        yield Reading("stepwire_sync_steps_queued", (), load.waiting)
        yield Reading("stepwire_sync_steps_running", (), load.running)
        yield Reading("stepwire_sync_steps_given_up", (), load.given_up)
        yield Reading("stepwire_sync_step_longest_wait_seconds", (), load.longest_wait)
        for workflow, (queued, waiters) in depths(pool).items():
            yield Reading("stepwire_deliveries_queued", (workflow,), queued)
            yield Reading("stepwire_waiters", (workflow,), waiters)

    def _of_cluster(self, pool: RunPool) -> Iterator[Reading]:
        cluster = pool.cluster
        yield Reading("stepwire_replicas", (), len(cluster.peers) + bool(cluster.me))
        yield Reading("stepwire_runs_owned", (), len(pool))
        yield Reading("stepwire_beat_age_seconds", (), cluster.beat_age)
        yield Reading("stepwire_replicas_unreached", (), self.unreached())
        yield Reading("stepwire_takeovers_total", (), cluster.takeovers)

    def _of_disk(self, directory: Path) -> Iterator[Reading]:
        size = 0
        for name in (DATABASE, f"{DATABASE}-wal"):
            with contextlib.suppress(OSError):
                size += (directory / name).stat().st_size
        yield Reading("stepwire_database_bytes", (), size)
        with contextlib.suppress(OSError):
            yield Reading("stepwire_disk_free_bytes", (), shutil.disk_usage(directory).free)
