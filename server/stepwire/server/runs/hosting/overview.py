"""What operators see of the runs in memory, from any thread."""

from __future__ import annotations

from collections.abc import Iterable

from stepwire.server.runs.hosting.live_run import LiveRun
from stepwire.workflow.hosting import Broker

__all__ = ["depths", "locate"]


def depths(pool: Iterable[LiveRun]) -> dict[str, tuple[int, int]]:
    """Count queued deliveries and open waiters of the runs in memory, by workflow."""
    found: dict[str, tuple[int, int]] = {}
    for run in pool:
        if run.served.own:
            continue
        broker = run.broker
        queued, waiters = found.get(run.served.name, (0, 0))
        if broker.active:
            queued += len(broker.queues)
        found[run.served.name] = queued, waiters + len(broker.made_waits or ())
    return found


def locate(pool: Iterable[LiveRun], broker: Broker) -> tuple[str, str]:
    """Return the workflow and the run_id of a broker; empty when no run in memory has it."""
    for run in pool:
        if run.broker is broker:
            return run.served.name, run.key.run_id
    return "", ""
