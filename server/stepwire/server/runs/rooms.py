"""The runs of one server: their rooms, composed."""

from __future__ import annotations

from dataclasses import dataclass

from stepwire.server.runs.active import ActiveDeliveries
from stepwire.server.runs.event_waits import EventWaits
from stepwire.server.runs.events import RunEvents
from stepwire.server.runs.family.family import Family
from stepwire.server.runs.family.run_children import ChildLimits
from stepwire.server.runs.hosting.keeper import PoolKeeper
from stepwire.server.runs.hosting.pool import RunPool
from stepwire.server.runs.hosting.retention import Retention
from stepwire.server.runs.idempotency import Repeats
from stepwire.server.runs.lifecycle import RunLifecycle
from stepwire.server.runs.limits import RunQuota
from stepwire.server.runs.pausing import RunPauses
from stepwire.server.runs.retrying import RunRetries
from stepwire.server.runs.scheduling.schedules import Schedules
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
        pauses: Pause and resume runs and workflows.
        retries: Retry runs that ended badly.
        events: Send and publish events.
        waits: Wait for events.
        state: Read and write states.
        snapshots: Read snapshots.
        quota: The unfinished runs of each caller.
        active: What runs work on now.
        schedules: Create, look at, change, trigger and delete schedules.
        family: What parents and children are to each other.
    """

    pool: RunPool
    keeper: PoolKeeper
    lifecycle: RunLifecycle
    pauses: RunPauses
    retries: RunRetries
    events: RunEvents
    waits: EventWaits
    state: RunState
    snapshots: RunSnapshots
    quota: RunQuota
    active: ActiveDeliveries
    schedules: Schedules
    family: Family

    @classmethod
    def of(
        cls,
        pool: RunPool,
        *,
        idle_after: float = 60.0,
        retention: Retention | None = None,
        quota: RunQuota | None = None,
        children: ChildLimits | None = None,
    ) -> Runs:
        """Compose the rooms around a pool.

        Args:
            pool: The pool.
            idle_after: Seconds that a run may only wait before it leaves memory.
            retention: What is kept of ended runs, and of logs.
            quota: Counts the unfinished runs of each caller.
            children: How many runs one run may start.
        """
        quota = quota or RunQuota(0)
        snapshots = RunSnapshots(pool)
        repeats = Repeats(pool.store, pool.codec)
        lifecycle = RunLifecycle(pool, snapshots, repeats, quota)
        events = RunEvents(pool, repeats)
        family = Family(pool, lifecycle, children or ChildLimits())
        family.local.events = events
        events.relay = family.questions
        keeper = PoolKeeper(pool, idle_after=idle_after, retention=retention, family=family)
        return cls(
            pool=pool,
            keeper=keeper,
            lifecycle=lifecycle,
            pauses=RunPauses(pool, keeper),
            retries=RunRetries(pool, snapshots, lifecycle),
            events=events,
            waits=EventWaits(pool),
            state=RunState(pool, snapshots, repeats),
            snapshots=snapshots,
            quota=quota,
            active=ActiveDeliveries(pool),
            schedules=Schedules(pool, lifecycle),
            family=family,
        )

    async def open(self) -> None:
        """Get ready to answer calls. `keeper.start` takes the unfinished runs up then."""
        await self.quota.open(self.pool.store)
        self.schedules.open()
        await self.keeper.open()
