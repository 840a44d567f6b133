"""Where replicas say that they are reached: two at one address, and addresses that nobody or another one answers."""

from __future__ import annotations

import asyncio
import contextlib
import re
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest
from tests.connections import Connections
from tests.integration.cluster.conftest import FLOWS, Start
from tests.integration.cluster.support import alive
from tests.integration.cluster.test_operating import doctor, metrics
from tests.ports import free_port
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
    assert time.monotonic() - began < 40.0, "it waited for the lease of the one before"
    alive(database, 2)
    async with Client(b.address) as client:
        await client.run(run.run_id).context.send_event(("Answer", {"text": "again"}))
        assert await client.run(run.run_id).result() == "again"


@asynccontextmanager
async def forwarding(port: int, to: str) -> AsyncIterator[None]:
    """Pass connections to a port on to an address."""

    async def pump(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while data := await reader.read(65_536):
            writer.write(data)
            await writer.drain()

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        host, _, its_port = to.rpartition(":")
        there, back = await asyncio.open_connection(host, int(its_port))
        try:
            with contextlib.suppress(OSError, ExceptionGroup):
                async with asyncio.TaskGroup() as both:
                    both.create_task(pump(reader, back))
                    both.create_task(pump(there, writer))
        finally:
            for each in (writer, back):
                each.transport.abort()

    connections = Connections(serve)
    await connections.open(port)
    try:
        yield
    finally:
        await connections.close()


@pytest.mark.slow
async def test_a_call_that_reaches_another_replica_than_the_owner_is_answered(start: Start) -> None:
    port = free_port()
    address = f"127.0.0.1:{port}"
    (b, c), database = start(2, ["--lease", "1s"])
    (a,), _ = start(1, ["--lease", "1s", "--advertise", address])
    async with (
        forwarding(port, b.address),
        Client(a.address) as one,
        Client(b.address) as two,
        Client(c.address, timeout=10) as three,
    ):
        runs = [await one.start_run("ask"), await one.start_run("ask")]
        assert {database.owner_of(run.run_id) for run in runs} == {address}
        await asyncio.to_thread(c.hear, rf"replica 3 beats, but is not reached at {address}: replica \d answers there")
        assert await asyncio.to_thread(b.hear, rf"replica 3 beats, but is not reached at {address}: replica \d a")
        assert await asyncio.to_thread(
            a.hear, r"this replica, 3, does not reach itself at \S+: replica \d answers there"
        )
        code, checks = await asyncio.to_thread(
            doctor, *FLOWS, "--data", database.dsn, "--address", "127.0.0.1:0", "--lease", "3s"
        )
        assert (code, checks["advertise"]["status"]) == (1, "problem")
        assert f"replica 3 at {address}: replica " in checks["advertise"]["message"]
        for caller, run in zip((two, three), runs, strict=True):
            there = caller.run(run.run_id)
            began = time.monotonic()
            await there.context.send_event(("Answer", {"text": "yes"}))
            assert time.monotonic() - began < 9.0
            assert await there.result() == "yes"
        by_force = rf"took over 1 run of replica 3 at {address} by force: it beats, but does not answer"
        assert await asyncio.to_thread(c.hear, by_force)


@pytest.mark.slow
async def test_an_address_at_which_nobody_answers_is_told_and_so_is_its_recovery(start: Start) -> None:
    port = free_port()
    address = f"127.0.0.1:{port}"
    (b,), database = start(1, ["--lease", "1s", "--admin-address", "127.0.0.1:0"])
    (a,), _ = start(1, ["--lease", "1s", "--advertise", address])
    unreached = rf"replica 2 beats, but is not reached at {address}: nobody answers: .*refused"
    await asyncio.to_thread(b.hear, unreached)
    await asyncio.to_thread(a.hear, rf"this replica, 2, does not reach itself at {address}: nobody answers")
    admin = b.hear(r"admin port on (\S+)")
    assert (await asyncio.to_thread(metrics, admin))["stepwire_replicas_unreached"] == 1
    asked = (*FLOWS, "--data", database.dsn, "--address", "127.0.0.1:0", "--lease", "3s")
    code, checks = await asyncio.to_thread(doctor, *asked)
    assert (code, checks["advertise"]["status"]) == (0, "warning")
    assert f"replica 2 at {address}: nobody answers" in checks["advertise"]["message"]
    async with Client(a.address) as one, Client(b.address, timeout=20) as two:
        run = await one.start_run("ask")
        there = two.run(run.run_id)
        await there.context.send_event(("Answer", {"text": "yes"}))
        assert await there.result() == "yes"
    await asyncio.to_thread(b.hear, rf"took over 1 run of replica 2 at {address} by force")
    async with forwarding(port, a.address):
        await asyncio.to_thread(b.hear, rf"replica 2 is reached at {address} again")
        assert (await asyncio.to_thread(metrics, admin))["stepwire_replicas_unreached"] == 0
        _, checks = await asyncio.to_thread(doctor, *asked)
        assert checks["advertise"]["status"] == "ok"
    assert len(re.findall(unreached, b.log)) == 1


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
