"""Which replica has a run: calls through any of them, and what happens when the owner dies or pauses."""

from __future__ import annotations

import asyncio
import os
import signal

import grpc
import pytest
from tests.integration.cluster.conftest import Start, Trio
from tests.integration.cluster.support import alive, first, split, until

from stepwire.client import Client, RunStatus, StepwireError
from stepwire.v1 import run_service_pb2 as pb
from stepwire.v1 import run_service_pb2_grpc, types_pb2


async def test_any_replica_answers_for_any_run(trio: Trio) -> None:
    async with Client(trio.a.address) as one, Client(trio.b.address) as other:
        run = await one.start_run("ask", labels={"test": "any"})
        assert trio.database.owner_of(run.run_id) == trio.a.address
        there = other.run(run.run_id)
        # From the beginning: a handle on a run that its client did not start waits for what is yet to come.
        async with grpc.aio.insecure_channel(trio.b.address) as channel:
            wait = pb.WaitForEventRequest(run_id=run.run_id, event_type="Question", after_sequence=0)
            asked = await run_service_pb2_grpc.RunServiceStub(channel).WaitForEvent(wait, timeout=30)
        assert asked.entry.payload.value.struct_value["text"] == "Well?"
        for n in range(5):
            await there.context.send_event(("Note", {"n": n}))
        assert [event.n for event in await first(there, 5)] == list(range(5))
        assert await there.context.store.get("count") == 5
        etag = await there.context.store.set("color", "red")
        assert await run.context.store.set("color", "blue", etag=etag)
        assert await there.context.store.get("color") == "blue"
        assert (await there.info()).status is RunStatus.WAITING
        assert [each.run_id async for each in other.list_runs(labels={"test": "any"})] == [run.run_id]
        await there.context.send_event(("Answer", {"text": "yes"}))
        assert await there.result() == await run.result() == "yes"
        assert trio.database.owner_of(run.run_id) == ""


async def test_an_error_of_the_owner_comes_as_it_is(trio: Trio) -> None:
    async with Client(trio.a.address) as one, Client(trio.b.address) as other:
        run = await one.start_run("ask")
        there = other.run(run.run_id)
        with pytest.raises(StepwireError) as unknown:
            await there.context.send_event(("Nothing", {}))
        assert unknown.value.reason == "UNKNOWN_EVENT_TYPE"
        with pytest.raises(StepwireError) as invalid:
            await there.context.send_event(("Note", {"n": "many"}))
        assert invalid.value.reason == "INVALID_EVENT"


async def test_a_killed_owner_while_a_run_waits(trio: Trio) -> None:
    async with Client(trio.a.address) as client:
        run = await client.start_run("ask")
        await run.context.wait_for_event("Question")
    async with Client(trio.b.address) as client:
        trio.a.kill()
        there = client.run(run.run_id)
        await there.context.send_event(("Answer", {"text": "yes"}))
        assert await there.result() == "yes"
        assert len([event async for event in there.events() if event.type == "Question"]) == 1


async def test_a_killed_owner_while_a_run_works(trio: Trio) -> None:
    async with Client(trio.a.address) as client:
        runs = [await client.start_run("slow", seconds=600.0) for _ in range(8)]
    async with Client(trio.b.address) as client:
        async with asyncio.timeout(60):
            for run in runs:
                while not await client.run(run.run_id).context.store.get("worked", []):  # noqa: ASYNC110 - elsewhere
                    await asyncio.sleep(0.02)
        dead = trio.a.pid
        trio.a.kill()
        results = [await client.run(run.run_id).result(timeout=60) for run in runs]
    assert all(result[0] == dead and len(result) == 2 for result in results)
    assert {result[1] for result in results} == {trio.b.pid, trio.c.pid}, "the work was not spread"


async def test_a_paused_owner_commits_nothing_and_reads_nothing_stale(trio: Trio) -> None:
    a, b, c = trio.replicas
    async with Client(a.address, timeout=60) as one, Client(b.address, timeout=60) as other:
        run = await one.start_run("chat")
        await run.context.store.set("seen", 1)
        os.kill(a.pid, signal.SIGSTOP)
        try:
            # While its owner is paused the run goes on elsewhere.
            there = other.run(run.run_id)
            await there.context.store.set("seen", 2)
            await there.context.send_event(("Note", {"n": 1}))
            await first(there, 1)
            reading = asyncio.create_task(run.context.store.get("seen"))
            writing = asyncio.create_task(run.context.store.set("mine", True))
            looking = asyncio.create_task(run.info())
            await asyncio.sleep(0.1)  # they are in its sockets now
        finally:
            os.kill(a.pid, signal.SIGCONT)
        assert await reading == 2
        assert await writing
        assert (await looking).last_sequence >= 2
        assert await there.context.store.get("mine") is True
        assert trio.database.owner_of(run.run_id) in (b.address, c.address)
        await asyncio.to_thread(alive, trio.database, 3)
        assert "took this one for dead" in a.log


async def test_observers_that_were_paused_take_nobody_for_dead(trio: Trio) -> None:
    a, b, c = trio.replicas
    before = [each.log.count("is dead") for each in trio.replicas]
    async with Client(a.address) as client:
        run = await client.start_run("ask")
        for each in (b, c, a):
            os.kill(each.pid, signal.SIGSTOP)
        await asyncio.sleep(1.2)  # a paused owner keeps its session: less than the lease is no death
        for each in (b, c, a):
            os.kill(each.pid, signal.SIGCONT)
        assert await run.context.store.get_state() == {}
        assert trio.database.owner_of(run.run_id) == a.address
    assert [each.log.count("is dead") for each in trio.replicas] == before


async def test_a_blocked_event_loop_is_not_taken_for_dead(start: Start) -> None:
    (a, b), _ = start(2, ["--lease", "1s"], specs=["tests.integration.cluster.flows:Blocking=blocking"])
    async with Client(a.address, timeout=60) as one, Client(b.address, timeout=60) as other:
        run = await one.start_run("blocking", seconds=1.6)
        assert await other.run(run.run_id).result() == [a.pid]
    assert "is dead" not in b.log


async def test_a_run_released_by_one_replica_goes_on_at_another(start: Start) -> None:
    (a, b), database = start(2, ["--idle-after", "50ms"])
    async with Client(a.address) as one, Client(b.address) as other:
        run = await one.start_run("chat")
        await until(lambda: database.owner_of(run.run_id) == "")
        await other.run(run.run_id).context.send_event(("Note", {"n": 1}))
        await until(lambda: database.owner_of(run.run_id) == "")
        await run.context.send_event(("Note", {"n": 2}))
        assert [event.n for event in await first(other.run(run.run_id), 2)] == [1, 2]


async def test_a_replica_that_starts_again_where_it_was_killed_has_its_runs_at_once(trio: Trio) -> None:
    async with Client(trio.a.address) as client:
        run = await client.start_run("ask")
        await run.context.wait_for_event("Question")
        trio.a.kill()
        trio.a.start()
        await run.context.send_event(("Answer", {"text": "again"}))
        assert await run.result() == "again"


async def test_the_owner_is_named_to_clients(trio: Trio) -> None:
    async with Client(trio.a.address) as client:
        run = await client.start_run("chat")
    async with grpc.aio.insecure_channel(trio.b.address) as channel:
        event = types_pb2.Event(type="Note", payload=types_pb2.Payload(json=b'{"n": 1}'))
        call = run_service_pb2_grpc.RunServiceStub(channel).SendEvent(
            pb.SendEventRequest(run_id=run.run_id, event=event)
        )
        await call
        hints = [value for name, value in await call.trailing_metadata() if name == "stepwire-owner"]
    owner, _ = split(trio.replicas, trio.database.owner_of(run.run_id))
    assert hints == [owner.address]
