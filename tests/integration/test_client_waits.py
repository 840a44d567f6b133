"""What a handle's waits see: everything since the handle began, nothing twice."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator

import pytest
from tests.integration.rpc_serving import Rpc, event, serving

from stepwire.client import Client, DeadlineError, FailedPreconditionError, SyncClient, event_meta


@pytest.fixture
async def rpc() -> AsyncIterator[Rpc]:
    async with serving() as rpc:
        yield rpc


@pytest.fixture
async def client(rpc: Rpc) -> AsyncIterator[Client]:
    async with Client(rpc.server.address) as client:
        yield client


async def test_a_question_that_was_asked_before_the_wait_is_not_missed(rpc: Rpc, client: Client) -> None:
    run = await client.start_run("ask", item="tea")
    await rpc.asked(run.run_id)
    question = await run.context.wait_for_event("Question", timeout=60)
    assert question.text == "Ship tea?"


async def test_a_blocking_wait_sees_it_too(rpc: Rpc) -> None:
    with SyncClient(rpc.server.address) as client:
        run = await asyncio.to_thread(client.start_run, "ask", item="tea")
        await rpc.asked(run.run_id)
        question = await asyncio.to_thread(run.context.wait_for_event, "Question", timeout=20)
        assert question.text == "Ship tea?"


async def test_the_question_of_a_fork_is_not_missed(rpc: Rpc, client: Client) -> None:
    first = await rpc.asking()
    fork = await client.start_run("ask", from_run=(first.run_id, first.last_sequence))
    assert (await fork.context.wait_for_event("Question", timeout=60)).text == "Ship tea?"


async def test_waits_go_on_after_each_other(rpc: Rpc, client: Client) -> None:
    run = await client.start_run("ask", item="tea")
    for n in (1, 2, 3):  # all of them come before the first wait
        await rpc.send(run.run_id, event("Note", n=n))
    seen = [await run.context.wait_for_event("Pong", timeout=60) for _ in range(3)]
    assert [pong.n for pong in seen] == [1, 2, 3]
    numbers = [event_meta(pong).sequence for pong in seen]
    assert numbers == sorted(set(numbers))
    with pytest.raises(DeadlineError):
        await run.context.wait_for_event("Pong", timeout=0)


async def test_waits_with_other_requirements_have_their_own_place(rpc: Rpc, client: Client) -> None:
    run = await client.start_run("ask", item="tea")
    for n in (1, 2):
        await rpc.send(run.run_id, event("Note", n=n))
    second = await run.context.wait_for_event("Pong", requirements={"n": 2}, timeout=60)
    first = await run.context.wait_for_event("Pong", requirements={"n": 1}, timeout=60)
    assert event_meta(first).sequence < event_meta(second).sequence


async def test_the_handle_of_another_clients_run_begins_now(rpc: Rpc, client: Client) -> None:
    run_id = (await rpc.asking()).run_id
    await rpc.send(run_id, event("Note", n=1))
    with pytest.raises(DeadlineError):
        await client.run(run_id).context.wait_for_event("Question", timeout=0)


async def test_an_existing_run_begins_where_it_is(rpc: Rpc, client: Client) -> None:
    run_id = (await rpc.asking()).run_id
    run = await client.start_run("ask", item="tea", run_id=run_id, on_conflict="use_existing")
    with pytest.raises(DeadlineError):
        await run.context.wait_for_event("Question", timeout=0)


async def test_a_run_that_ends_first(rpc: Rpc, client: Client) -> None:
    run = await client.start_run("ask", item="tea")
    await rpc.asked(run.run_id)
    await rpc.answer(run.run_id)
    assert (await run.context.wait_for_event("Question", timeout=60)).text == "Ship tea?"
    with pytest.raises(FailedPreconditionError):
        await run.context.wait_for_event("Question", timeout=60)
