"""Schedules on replicas: any answers, one acts, and another goes on when that one dies."""

from __future__ import annotations

import asyncio
from dataclasses import replace
from datetime import timedelta
from itertools import pairwise

import pytest
from tests.integration.cluster.conftest import Start, Trio
from tests.integration.cluster.support import alive, split
from tests.serving import ServerProcess

from stepwire.client import Client, Every, NotFoundError, RunInfo, RunStatus, ScheduleSpec

pytestmark = [pytest.mark.slow, pytest.mark.timeout(120)]

SECOND = Every(timedelta(seconds=1))


async def runs_of(client: Client, schedule_id: str) -> list[RunInfo]:
    """Return the runs of a schedule, the oldest first."""
    return [info async for info in client.list_runs(schedule=schedule_id)][::-1]


def check_once(runs: list[RunInfo]) -> None:
    """Check that each second has exactly one run."""
    due = sorted(info.schedule.due_time for info in runs if info.schedule and info.schedule.due_time)
    assert len(due) == len(runs)
    assert {after - before for before, after in pairwise(due)} == {timedelta(seconds=1)}


async def test_any_replica_creates_changes_and_tells(trio: Trio) -> None:
    async with Client(trio.a.address) as one, Client(trio.b.address) as other:
        spec = ScheduleSpec("chat", Every(timedelta(days=300)))
        created = await one.schedules.create("told", spec)
        assert trio.database.owner_of("told") == trio.a.address
        assert await other.schedules.get("told") == created
        paused = await other.schedules.pause("told", "why not")
        assert paused.pause is not None
        updated = await other.schedules.update("told", replace(spec, description="new"), etag=paused.etag)
        run_id = await other.schedules.trigger("told", request_id="once")
        assert await one.schedules.trigger("told", request_id="once") == run_id
        await other.schedules.resume("told")
        found = await one.schedules.get("told")
        assert (found.spec, found.counts.started) == (updated.spec, 1)
        assert [each.schedule_id async for each in other.schedules.list()] == ["told"]
        await other.schedules.delete("told")
        assert [each async for each in one.schedules.list()] == []


async def test_each_due_time_once_over_a_killed_owner(trio: Trio) -> None:
    async with Client(trio.a.address) as client:
        await client.schedules.create("killed", ScheduleSpec("ask", SECOND, overlap="start_anyway"))
    owner, others = split(trio.replicas, trio.database.owner_of("killed"))
    async with Client(others[0].address) as client:
        await enough(client, "killed", 2)
        owner.kill()
        await enough(client, "killed", 6)
        await client.schedules.pause("killed")
        found, runs = await client.schedules.get("killed"), await runs_of(client, "killed")
        check_once(runs)
        assert found.counts.started == len(runs)
        await client.schedules.delete("killed")
        for info in runs:
            await client.run(info.run_id).cancel()


async def test_a_queue_goes_on_where_the_run_ends_at_another_replica(trio: Trio) -> None:
    async with Client(trio.a.address) as client:
        await client.schedules.create("queued", ScheduleSpec("ask", SECOND, overlap="queue_one"))
    owner, others = split(trio.replicas, trio.database.owner_of("queued"))
    async with Client(others[0].address) as client:
        await enough(client, "queued", 1)
        owner.kill()
        alive(trio.database, 2)
        (first,) = await runs_of(client, "queued")
        await client.run(first.run_id).context.send_event(("Answer", {"text": "done"}))
        await enough(client, "queued", 2)
        await client.schedules.delete("queued")
        runs = await runs_of(client, "queued")
        assert [info.status for info in runs] == [RunStatus.COMPLETED, RunStatus.WAITING]
        await client.run(runs[1].run_id).cancel()


async def test_a_workflow_that_only_another_replica_serves(start: Start) -> None:
    asking = start(1, specs=["tests.integration.cluster.flows:Ask=ask"])
    chatting = ServerProcess(asking.database.dsn, ["tests.integration.cluster.flows:Chat=chat"], args=["--grace", "1s"])
    chatting.start()
    try:
        alive(asking.database, 2)
        async with Client(asking.replicas[0].address) as client:
            spec = ScheduleSpec("chat", SECOND, overlap="cancel_running")
            await client.schedules.create("remote", spec)
            await enough(client, "remote", 3)
            await client.schedules.pause("remote")
            runs = await runs_of(client, "remote")
            assert {info.status for info in runs[:-1]} == {RunStatus.CANCELLED}
            found = await client.schedules.get("remote")
            assert found.counts.failed == 0
            assert await client.schedules.trigger("remote")
    finally:
        chatting.kill()


async def test_replicas_apply_what_the_code_declares_once(start: Start) -> None:
    started = start(3, specs=["tests.integration.cluster.flows:Hourly=hourly"])
    async with Client(started.replicas[1].address) as client:

        async def applied() -> bool:
            return [each.schedule_id async for each in client.schedules.list()] == ["hourly"]

        while not await applied():  # noqa: ASYNC110 - a server is asked
            await asyncio.sleep(0.1)
        found = await client.schedules.get("hourly")
        assert (found.declared, found.etag, found.created_by) == (True, "s1", "server")


async def test_the_servers_own_workflow_is_none_that_callers_can_name(trio: Trio) -> None:
    async with Client(trio.a.address) as client:
        await client.schedules.create("named", ScheduleSpec("chat", Every(timedelta(days=300))))
        own = ScheduleSpec("~schedule", Every(timedelta(hours=1)))
        for asked in (
            client.start_run("~schedule"),
            client.schedules.create("own", own),
            client.schedules.update("named", own),
        ):
            async with asyncio.timeout(60):
                with pytest.raises(NotFoundError, match="No workflow of this name"):
                    await asked
        await client.schedules.delete("named")


async def enough(client: Client, schedule_id: str, count: int) -> None:
    """Wait until a schedule has started so many runs."""
    async with asyncio.timeout(60):
        while (await client.schedules.get(schedule_id)).counts.started < count:  # noqa: ASYNC110 - a server is asked
            await asyncio.sleep(0.1)
