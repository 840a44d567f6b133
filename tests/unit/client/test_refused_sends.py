"""Sends and cancels that a server refuses in passing, over the wire, asyncio and blocking."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from typing import Any

import grpc
import pytest
from tests.unit.client.fake import FakeServer, Fault, forever
from tests.unit.client.test_converse import Requests, finished, in_turn, opened, sent

from stepwire import client as api
from stepwire.client import Client, SyncClient
from stepwire.v1 import run_service_pb2 as runs

UNKNOWN = Fault(grpc.StatusCode.UNAVAILABLE, "STORE_UNAVAILABLE")


@pytest.fixture(params=["aio", "sync"])
def kind(request: pytest.FixtureRequest) -> str:
    return str(request.param)


def refused(request: runs.ConverseRequest) -> runs.ConverseResponse:
    result = runs.ConverseSendResult(request_id=request.send.request_id, error=UNKNOWN.status)
    return runs.ConverseResponse(send_result=result)


async def talk(kind: str, addresses: Any, *types: str, cancel: bool = False, **settings: Any) -> list[Any]:
    """Send events at once in a conversation, and cancel; return the results and errors once all are there."""
    if kind == "aio":
        async with Client(addresses, **settings) as client, client.run("r").converse() as chat:
            futures = [chat.send((each, {})) for each in types]
            if cancel:
                chat.cancel("why")
                assert [each async for each in chat] == []
            return await asyncio.gather(*futures, return_exceptions=True)

    def blocking() -> list[Any]:
        with SyncClient(addresses, **settings) as client, client.run("r").converse() as chat:
            futures = [chat.send((each, {})) for each in types]
            if cancel:
                chat.cancel("why")
                assert list(chat) == []
            return [future.exception(60) or future.result(60) for future in futures]

    return await asyncio.to_thread(blocking)


async def test_refused_sends_are_repeated_in_order_on_the_same_stream(kind: str, server: FakeServer) -> None:
    seen: list[runs.ConverseSend] = []

    async def script(requests: Requests) -> AsyncIterator[runs.ConverseResponse]:
        await anext(requests)
        yield opened()
        first = [await anext(requests) for _ in range(3)]
        seen.extend(each.send for each in first)
        yield refused(first[0])
        yield sent(first[1], 1)
        yield refused(first[2])
        async for request in requests:
            seen.append(request.send)
            yield sent(request, len(seen))

    server.on("Converse", script)
    assert await talk(kind, server.address, "A", "B", "C") == [
        api.SendResult(4, 1),
        api.SendResult(1, 1),
        api.SendResult(5, 1),
    ]
    assert [each.event.type for each in seen] == ["A", "B", "C", "A", "C"]
    assert (seen[3], seen[4]) == (seen[0], seen[2])
    assert len(server.seen["Converse"]) == 1


async def test_a_send_that_is_refused_all_its_time_raises_the_refusal(kind: str, server: FakeServer) -> None:
    times = 0

    async def script(requests: Requests) -> AsyncIterator[runs.ConverseResponse]:
        nonlocal times
        await anext(requests)
        yield opened()
        async for request in requests:
            times += 1
            yield refused(request)

    server.on("Converse", script)
    (error,) = await talk(kind, server.address, "A", timeout=0.6)
    assert isinstance(error, api.UnavailableError)
    assert error.reason == "STORE_UNAVAILABLE"
    assert times >= 2


async def test_a_conversation_leaves_a_replica_that_refuses_a_send_twice(kind: str, server: FakeServer) -> None:
    other = FakeServer()
    await other.start()
    ids: dict[str, list[str]] = {"first": [], "other": []}

    def answering(name: str, answer: Callable[[runs.ConverseRequest], runs.ConverseResponse]) -> Any:
        async def script(requests: Requests) -> AsyncIterator[runs.ConverseResponse]:
            await anext(requests)
            yield opened()
            async for request in requests:
                ids[name].append(request.send.request_id)
                yield answer(request)

        return script

    server.on("Converse", answering("first", refused))
    other.on("Converse", answering("other", lambda request: sent(request, 1)))
    try:
        results = await talk(kind, [server.address, other.address], "A")
    finally:
        await other.stop()
    assert results == [api.SendResult(1, 1)]
    assert ids == {"first": ids["other"] * 2, "other": ids["other"]}
    assert len(ids["other"]) == 1


async def test_a_refused_send_whose_run_has_ended_meanwhile_gets_its_result(kind: str, server: FakeServer) -> None:
    # The commit whose outcome was unknown was durable, and the run ended with it.
    async def script(requests: Requests) -> AsyncIterator[runs.ConverseResponse]:
        await anext(requests)
        yield opened()
        yield refused(await anext(requests))
        yield finished()

    server.on("Converse", script)
    server.answers("SendEvent", runs.SendEventResponse(sequence=7, delivered=1))
    assert await talk(kind, server.address, "A") == [api.SendResult(7, 1)]
    (request,) = server.seen["SendEvent"]
    assert (request.run_id, request.event.type, len(request.request_id)) == ("r", "A", 32)


async def test_a_cancel_that_the_server_could_not_do_is_repeated(kind: str, server: FakeServer) -> None:
    frames: list[str | None] = []

    async def first(requests: Requests) -> AsyncIterator[runs.ConverseResponse]:
        await anext(requests)
        yield opened()
        send = await anext(requests)
        yield sent(send, 1)
        frames.append((await anext(requests)).WhichOneof("frame"))
        raise UNKNOWN

    async def second(requests: Requests) -> AsyncIterator[runs.ConverseResponse]:
        await anext(requests)
        yield opened()
        frames.append((await anext(requests)).WhichOneof("frame"))
        yield finished()
        await forever()

    server.on("Converse", in_turn(first, second))
    assert await talk(kind, server.address, "A", cancel=True) == [api.SendResult(1, 1)]
    assert frames == ["cancel", "cancel"]
