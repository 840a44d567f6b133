"""Clients that know several replicas: one dies, or has the run, and the client goes on by itself."""

from __future__ import annotations

import asyncio

from tests.integration.cluster.conftest import Trio
from tests.integration.cluster.support import split

from stepwire.client import Client, SyncClient


async def test_a_conversation_survives_the_death_of_the_replica_that_it_talks_with(trio: Trio) -> None:
    addresses = [each.address for each in trio.replicas]
    async with Client(addresses) as client:
        run = await client.start_run("ask")
        owner, _ = split(trio.replicas, trio.database.owner_of(run.run_id))
        questions = 0
        async with run.converse() as talk:
            async for event in talk:
                if event.type == "Question":
                    questions += 1
                    owner.kill()
                    sent = await talk.send(("Answer", {"text": "yes"}))
                    assert sent.delivered == 1
        assert questions == 1
        assert await run.result() == "yes"


async def test_every_kind_of_call_survives_the_death_of_the_owner(trio: Trio) -> None:
    addresses = ",".join(each.address for each in trio.replicas)
    async with Client(addresses) as client:
        run = await client.start_run("ask")
        await run.context.wait_for_event("Question")
        owner, _ = split(trio.replicas, trio.database.owner_of(run.run_id))
        owner.kill()
        await run.context.send_event(("Note", {"n": 1}))
        await run.context.store.set("color", "red")
        assert await run.context.store.get("color") == "red"
        assert (await run.info()).pending_waiters
        await run.snapshot()
        await run.context.send_event(("Answer", {"text": "yes"}))
        assert await run.result() == "yes"
        await client.start_run("ask")


async def test_a_client_for_threads_survives_too(trio: Trio) -> None:
    def blocking() -> str:
        with SyncClient([each.address for each in trio.replicas]) as client:
            run = client.start_run("ask")
            run.context.wait_for_event("Question")
            owner, _ = split(trio.replicas, trio.database.owner_of(run.run_id))
            owner.kill()
            run.context.send_event(("Answer", {"text": "yes"}))
            return str(run.result())

    assert await asyncio.to_thread(blocking) == "yes"


async def test_calls_go_to_the_owner_once_an_answer_has_named_it(trio: Trio) -> None:
    async with Client(trio.a.address) as starter:
        run_id = (await starter.start_run("ask")).run_id
    owner = trio.database.owner_of(run_id)
    # The first address has not the run: it passes the first call on, and names the owner.
    others = [each.address for each in trio.replicas if each.address != owner]
    async with Client([*others, owner]) as client:
        run = client.run(run_id)
        replicas = client._transport.replicas
        assert replicas.pick(run_id) == 0
        await run.context.store.set("color", "red")
        assert replicas.pick(run_id) == 2
        await run.context.store.set("color", "blue")
        await run.cancel()
