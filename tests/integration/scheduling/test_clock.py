"""The clock on the wall is set forward and back while schedules wait."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta
from itertools import pairwise

import pytest
import pytest_asyncio
from tests.integration.rpc_serving import Rpc, registry_of, serving
from tests.integration.scheduling.support import NOON, OVERLAPS, Quick, every, outcomes

from stepwire.v1 import run_service_pb2
from stepwire.v1 import schedule_service_pb2 as pb


class WallClock:
    """What time it is on the wall. It goes on, from `NOON`: an hour of this clock does not begin while a test runs."""

    def __init__(self) -> None:
        self.ahead = NOON.timestamp() - time.time()
        self._stands_at: float | None = None

    def __call__(self) -> float:
        return (time.time() if self._stands_at is None else self._stands_at) + self.ahead

    def stop(self) -> None:
        """Stand still until `ahead` changes."""
        self._stands_at = time.time()


@pytest.fixture
def wall() -> WallClock:
    return WallClock()


@pytest_asyncio.fixture
async def rpc(wall: WallClock) -> AsyncIterator[Rpc]:
    async with serving(registry_of(Quick=Quick)) as rpc:
        assert rpc.server.runs is not None
        rpc.server.runs.schedules.wall.now = wall
        yield rpc


async def create(rpc: Rpc, timing: pb.ScheduleTiming) -> pb.Schedule:
    spec = pb.ScheduleSpec(workflow="Quick", timing=timing, overlap=OVERLAPS["start_anyway"])
    found: pb.Schedule = (
        await rpc.schedules.CreateSchedule(pb.CreateScheduleRequest(schedule_id="s", spec=spec))
    ).schedule
    return found


async def get(rpc: Rpc) -> pb.Schedule:
    found: pb.Schedule = (await rpc.schedules.GetSchedule(pb.GetScheduleRequest(schedule_id="s"))).schedule
    return found


async def due(rpc: Rpc) -> list[datetime]:
    listed = await rpc.runs.ListRuns(run_service_pb2.ListRunsRequest(schedule_id="s", page_size=1000))
    return sorted(run.schedule.due_time.ToDatetime(UTC) for run in listed.runs)


async def started(rpc: Rpc, count: int) -> pb.Schedule:
    """Return the schedule once it has acted on so many due times."""
    async with asyncio.timeout(60):
        while sum(outcomes(found := await get(rpc)).values()) < count:  # noqa: ASYNC110 - a server is asked
            await asyncio.sleep(0.05)
    return found


async def test_forward_what_was_skipped_is_made_up_for(rpc: Rpc, wall: WallClock) -> None:
    await create(rpc, every(hours=1))
    wall.ahead += 5 * 3600
    found = await started(rpc, 5)
    assert outcomes(found) == {"started": 5}
    times = await due(rpc)
    assert {after - before for before, after in pairwise(times)} == {timedelta(hours=1)}


async def test_back_nothing_starts_twice_and_the_wait_goes_by_the_wall(rpc: Rpc, wall: WallClock) -> None:
    await create(rpc, every(hours=1))
    wall.ahead += 3 * 3600
    before = await started(rpc, 3)
    wall.ahead -= 2 * 3600
    await asyncio.sleep(2.5)  # the step is noticed once a second; nothing must come of it
    found = await get(rpc)
    assert outcomes(found) == {"started": 3}
    assert list(found.next_times) == list(before.next_times)
    wall.ahead += 3 * 3600
    await started(rpc, 4)
    times = await due(rpc)
    assert len(times) == len(set(times)) == 4


async def test_a_wait_that_is_over_too_early_waits_on(rpc: Rpc, wall: WallClock) -> None:
    """The clock of the runs rings; on the wall it is not yet time, because that clock stands."""
    wall.stop()
    await create(rpc, every(seconds=3))  # a second from `NOON`
    await asyncio.sleep(4)
    assert outcomes(await get(rpc)) == {}
    wall.ahead += 3
    await started(rpc, 1)


async def test_jitter_counts_from_the_due_time(rpc: Rpc, wall: WallClock) -> None:
    timing = every(hours=1)
    timing.jitter.FromTimedelta(timedelta(minutes=59))
    created = await create(rpc, timing)
    due_first = created.next_times[0].ToDatetime(UTC)
    wall.ahead += (due_first + timedelta(minutes=59, seconds=30)).timestamp() - wall()
    found = await started(rpc, 1)
    late = found.last[0].time.ToDatetime(UTC) - found.last[0].due_time.ToDatetime(UTC)
    assert timedelta(0) <= late <= timedelta(minutes=61)
