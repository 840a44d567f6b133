"""Virtual time: let a server's clock jump from one due time to the next, and let the runs act at each."""

from __future__ import annotations

import asyncio
from typing import Any, Final

from stepwire.server.runs import Runs
from stepwire.server.runs.hosting.live_run import LiveRun
from stepwire.server.store import SqliteStore
from stepwire.workflow.hosting import SkippingClock

__all__ = ["settle", "skip"]

_LOOK_SECONDS: Final = 0.005
"""Real seconds between two looks at runs that are at work."""
_PATIENCE: Final = 0.25
"""Real seconds without any change after which steps that are still at work are taken to wait for something else: the
timeout of such a step, or of its run, may be what is skipped to."""
_AT_WORK: Final = ("queued", "running", "ready")


async def skip(runs: Runs, clock: SkippingClock, seconds: float) -> None:
    """Let so many seconds pass: at each due time on the way the runs do what is due, in order.

    Args:
        runs: The runs of the server.
        clock: Its clock.
        seconds: How far to skip.
    """
    target = clock.now() + seconds
    await settle(runs)
    while (due := await _next_due(runs, clock)) is not None and due <= target:
        await _go_to(runs, clock, due)
    await _go_to(runs, clock, target)
    if isinstance(runs.pool.store, SqliteStore):
        await runs.pool.store.note_use()  # after a restart, what was skipped must count for retention
    await runs.keeper.retention.apply(runs.pool)


async def _next_due(runs: Runs, clock: SkippingClock) -> float | None:
    """Return what falls due next: of the runs in memory, or of those that only the store has."""
    pool = runs.pool
    stored = await pool.store.next_wake(clock.now(), workflows=pool.names)
    alarm = clock.next_due()
    if alarm is not None and alarm <= clock.now():
        alarm = None  # it rings in a moment
    return min((due for due in (stored, alarm) if due is not None), default=None)


async def _go_to(runs: Runs, clock: SkippingClock, moment: float) -> None:
    clock.skip_to(moment)
    runs.pool.wakes.look_now()
    await runs.keeper.load_due()
    await settle(runs)


async def settle(runs: Runs) -> None:
    """Wait until everything is committed and no step is at work, or those that are do nothing for a while."""
    time = asyncio.get_running_loop().time
    seen: Any = None
    since = time()
    while True:
        for _ in range(3):  # what rang acts on the next turn, and what that starts on the one after
            await asyncio.sleep(0)
        live = list(runs.pool)
        if all(run.commits.clean for run in live):
            stage = [_stage(run) for run in live]
            busy = runs.family.busy
            if not busy and not any(status in _AT_WORK for _, _, deliveries in stage for _, status, _ in deliveries):
                return
            if stage != seen:
                seen, since = stage, time()
            elif time() - since >= _PATIENCE:
                return
        await asyncio.sleep(_LOOK_SECONDS)


def _stage(run: LiveRun) -> tuple[str, int, list[tuple[int, str, int]]]:
    """Return how far a run is."""
    deliveries = [(each.id, each.status, each.attempt) for each in run.broker.deliveries.values()]
    return run.key.run_id, run.broker.sequence, deliveries
