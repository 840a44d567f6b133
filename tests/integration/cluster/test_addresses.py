"""Where replicas say that they are reached: two at one address, and addresses that nobody or another one answers."""

from __future__ import annotations

import asyncio
import time

import pytest
from tests.integration.cluster.conftest import FLOWS, Start
from tests.integration.cluster.support import alive
from tests.serving import ServerProcess

from stepwire.client import Client


async def test_a_replica_does_not_start_at_the_address_of_a_living_one(start: Start) -> None:
    (a,), database = start(1)
    twin = ServerProcess(database.dsn, FLOWS, args=["--advertise", a.address], timeout=30)
    with pytest.raises(RuntimeError, match="the server ended"):
        await asyncio.to_thread(twin.start)
    assert f"error: replica 1 lives and has {a.address}, too: give each replica an --advertise of its own" in twin.log
    assert database.sql("SELECT id FROM replicas") == "1"
    async with Client(a.address) as client:
        assert (await client.start_run("ask")).run_id


async def test_a_replica_that_was_killed_starts_again_at_its_address_at_once(start: Start) -> None:
    (a, b), database = start(2, ["--lease", "60s"])
    async with Client(a.address) as client:
        run = await client.start_run("ask")
        await run.context.wait_for_event("Question")
    a.kill()
    began = time.monotonic()
    await asyncio.to_thread(a.start)
    assert time.monotonic() - began < 15.0, "it waited for the lease of the one before"
    alive(database, 2)
    async with Client(b.address) as client:
        await client.run(run.run_id).context.send_event(("Answer", {"text": "again"}))
        assert await client.run(run.run_id).result() == "again"


async def test_takeovers_from_a_dead_replica_are_told_in_a_line(start: Start) -> None:
    (a, b), _ = start(2)
    async with Client(a.address) as client:
        for _ in range(3):
            await client.start_run("slow", seconds=600.0)
    a.kill()
    await asyncio.to_thread(b.hear, rf"took over 3 runs of replica \d at {a.address}, which is gone")
    dead = f"at {a.address} is dead: its session in the database has ended, and no beat came for "
    assert b.log.count(dead) == 1
    assert "took over run" not in b.log
