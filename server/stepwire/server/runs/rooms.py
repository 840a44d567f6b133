"""The runs of one server: their rooms, composed."""

from __future__ import annotations

from dataclasses import dataclass

from stepwire.server.runs.event_waits import EventWaits
from stepwire.server.runs.events import RunEvents
from stepwire.server.runs.hosting.keeper import PoolKeeper
from stepwire.server.runs.hosting.pool import RunPool
from stepwire.server.runs.hosting.retention import Retention
from stepwire.server.runs.idempotency import Repeats
from stepwire.server.runs.lifecycle import RunLifecycle
from stepwire.server.runs.limits import RunQuota
from stepwire.server.runs.snapshots import RunSnapshots
from stepwire.server.runs.state import RunState

__all__ = ["Runs"]


@dataclass(frozen=True)
class Runs:
    """What callers and the server use of the runs.

    Attributes:
        pool: Which runs are in memory.
        keeper: The background tasks of the pool.
        lifecycle: Start, wait for, list, cancel and delete runs.
        events: Send and publish events.
        waits: Wait for events.
        state: Read and write states.
        snapshots: Read snapshots.
        quota: The unfinished runs of each caller.
    """

    pool: RunPool
    keeper: PoolKeeper
    lifecycle: RunLifecycle
    events: RunEvents
    waits: EventWaits
    state: RunState
    snapshots: RunSnapshots
    quota: RunQuota

    @classmethod
    def of(
        cls,
        pool: RunPool,
        *,
        idle_after: float = 60.0,
        retention: Retention | None = None,
        quota: RunQuota | None = None,
    ) -> Runs:
        """Compose the rooms around a pool.

        Args:
            pool: The pool.
            idle_after: Seconds that a run may only wait before it leaves memory.
            retention: What is kept of ended runs, and of logs.
            quota: Counts the unfinished runs of each caller.
        """
        quota = quota or RunQuota(0)
        snapshots = RunSnapshots(pool)
        repeats = Repeats(pool.store, pool.codec)
        return cls(
            pool=pool,
            keeper=PoolKeeper(pool, idle_after=idle_after, retention=retention),
            lifecycle=RunLifecycle(pool, snapshots, repeats, quota),
            events=RunEvents(pool, repeats),
            waits=EventWaits(pool),
            state=RunState(pool, snapshots, repeats),
            snapshots=snapshots,
            quota=quota,
        )

    async def open(self) -> None:
        """Get ready to answer calls. `keeper.start` takes the unfinished runs up then."""
        await self.quota.open(self.pool.store)
        await self.keeper.open()
