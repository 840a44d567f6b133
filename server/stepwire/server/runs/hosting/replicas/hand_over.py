"""Drain a replica: hand its runs over to the others, and leave them."""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections.abc import Callable, Sequence

from stepwire.server import failpoints
from stepwire.server.runs.hosting.live_run import LiveRun
from stepwire.server.runs.hosting.pool import RunPool
from stepwire.server.store import StoreError, StoreUnavailableError

__all__ = ["hand_over"]

logger = logging.getLogger("stepwire.runs")

_AT_ONCE = 64
"""Runs that are handed over in one go: the others load them meanwhile."""
_LOOK_SECONDS = 0.05
"""How often runs whose steps are at work are looked at, and whether anybody calls."""
_LAST_COMMIT_SECONDS = 2.0
"""Beyond the grace: how long the last commits may take."""
_LAST_LOAD_SECONDS = 1.0
"""How long loads that are under way may still take: they give up what they have claimed."""


async def hand_over(
    pool: RunPool, deadline: float, hastened: asyncio.Event, unused: Callable[[], bool] = lambda: False
) -> bool:
    """Hand all runs over, and sign off; then go on answering, through the other replicas, until nobody calls any more.

    A run leaves as soon as no step of it is at work; at the deadline the steps are cancelled, and run again elsewhere.

    Args:
        pool: The runs; it is draining.
        deadline: When the grace ends, by the clock of the event loop.
        hastened: Ends the grace when it is set.
        unused: Tells whether nobody calls this replica any more; asked after it has signed off, until the deadline.

    Returns:
        False when the store does not commit in time.
    """
    time = asyncio.get_running_loop().time
    await pool.cluster.drain()
    committed = True
    try:
        async with asyncio.timeout_at(deadline + _LAST_COMMIT_SECONDS) as limit:
            while (runs := list(pool)) and time() < deadline and not hastened.is_set():
                idle = [run for run in runs if run.commits.created and not run.busy]
                if idle:
                    await _leave(pool, idle)
                else:
                    with contextlib.suppress(TimeoutError):
                        await asyncio.wait_for(hastened.wait(), _LOOK_SECONDS)
            limit.reschedule(min(time(), deadline) + _LAST_COMMIT_SECONDS)
            while runs := list(pool):
                await _leave(pool, runs)
    except TimeoutError:
        logger.error("the store does not commit: changes that were not acknowledged are lost")
        committed = False
        for run in list(pool):
            run.commits.abandon(StoreUnavailableError("the store did not commit in time"))
    if committed:
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(2 * _LAST_LOAD_SECONDS):
                await pool.loads.done(_LAST_LOAD_SECONDS)
                await _free(pool)
    await pool.cluster.leave()
    while time() < deadline and not hastened.is_set() and not unused():
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(hastened.wait(), min(_LOOK_SECONDS, deadline - time()))
    return committed


async def _leave(pool: RunPool, runs: Sequence[LiveRun]) -> None:
    """Have runs commit and leave, and tell the others that there are runs to take."""
    for start in range(0, len(runs), _AT_ONCE):
        if failpoints.ACTIVE:
            failpoints.hit("hand_over.before")
        some = runs[start : start + _AT_ONCE]
        await asyncio.gather(*(run.hand_over() for run in some), return_exceptions=True)
        await _free(pool)
    await asyncio.sleep(0)


async def _free(pool: RunPool) -> None:
    """Wait until what was given up is free, and tell the others."""
    with contextlib.suppress(StoreError):
        await pool.cluster.released()
