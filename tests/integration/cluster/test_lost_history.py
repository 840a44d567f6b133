"""Replicas whose database has lost what it had acknowledged, as after an asynchronous standby was promoted."""

from __future__ import annotations

import asyncio

from tests.integration.cluster.conftest import Start
from tests.integration.cluster.support import until

from stepwire.client import Client


async def test_a_working_run_whose_claim_the_database_has_lost_goes_on_at_its_owner(start: Start) -> None:
    (a,), database = start(1)
    async with Client(a.address) as client:
        run = await client.start_run("slow", seconds=2.0)
        while not await run.context.store.get("worked", []):  # noqa: ASYNC110 - it is another process that changes it
            await asyncio.sleep(0.02)
        database.sql(f"UPDATE runs SET token = token - 1 WHERE run_id = '{run.run_id}'")
        # Nobody calls for the run: that would load it.
        done = f"SELECT 1 FROM runs WHERE run_id = '{run.run_id}' AND status = 'COMPLETED'"
        await until(lambda: database.sql(done) == "1", 30.0)
        assert await run.result() == [a.pid, a.pid]
    assert "was claimed by another or deleted" in a.log


async def test_a_run_whose_owner_lives_and_does_not_hold_it_is_given_up(start: Start) -> None:
    (a, b), database = start(2)
    async with Client(a.address) as client:
        run = await client.start_run("slow", seconds=600.0)
        while not await run.context.store.get("worked", []):  # noqa: ASYNC110 - it is another process that changes it
            await asyncio.sleep(0.02)
    dead = a.pid
    a.kill()
    database.sql(f"UPDATE runs SET owner = (SELECT id FROM replicas WHERE address = '{b.address}')")
    done = f"SELECT 1 FROM runs WHERE run_id = '{run.run_id}' AND status = 'COMPLETED'"
    await until(lambda: database.sql(done) == "1", 60.0)
    async with Client(b.address) as client:
        assert await client.run(run.run_id).result() == [dead, b.pid]
    assert "gave up 1 run that was this replica's and not in its memory" in b.log
