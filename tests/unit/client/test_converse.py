"""Conversations over the wire, asyncio and blocking."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from typing import Any

import grpc
import pytest
from google.rpc import status_pb2
from tests.unit.client.fake import FakeServer, Fault, batch, entry, forever, outcome, unavailable

from stepwire import client as api
from stepwire.client import Client, SyncClient
from stepwire.v1 import run_service_pb2 as runs
from stepwire.v1 import types_pb2

Requests = AsyncIterator[runs.ConverseRequest]


def opened(next_sequence: int = 1) -> runs.ConverseResponse:
    run = types_pb2.Run(run_id="r1", status=types_pb2.RUN_STATUS_RUNNING)
    return runs.ConverseResponse(opened=runs.ConverseOpened(run=run, first_available=1, next_sequence=next_sequence))


def events(first: int, last: int, *entries: types_pb2.LogEntry) -> runs.ConverseResponse:
    return runs.ConverseResponse(events=batch(first, last, *entries))


def sent(request: runs.ConverseRequest, sequence: int) -> runs.ConverseResponse:
    result = runs.ConverseSendResult(request_id=request.send.request_id, delivered=1, sequence=sequence)
    return runs.ConverseResponse(send_result=result)


def finished() -> runs.ConverseResponse:
    return runs.ConverseResponse(finished=runs.RunFinished(outcome=outcome()))


async def echo(requests: Requests) -> AsyncIterator[runs.ConverseResponse]:
    """Echo each sent event into the log; one of type Last ends the run, one of type Bad is refused."""
    yield opened()
    sequence = 0
    async for request in requests:
        if request.WhichOneof("frame") != "send":
            continue
        if request.send.event.type == "Bad":
            error = status_pb2.Status(code=grpc.StatusCode.INVALID_ARGUMENT.value[0], message="no")
            result = runs.ConverseSendResult(request_id=request.send.request_id, error=error)
            yield runs.ConverseResponse(send_result=result)
            continue
        sequence += 1
        yield sent(request, sequence)
        yield events(sequence, sequence, entry(sequence, request.send.event.type))
        if request.send.event.type == "Last":
            yield finished()
            return


def in_turn(*scripts: Callable[[Requests], AsyncIterator[runs.ConverseResponse]]) -> Any:
    left = list(scripts)

    def script(requests: Requests) -> AsyncIterator[runs.ConverseResponse]:
        return (left.pop(0) if len(left) > 1 else left[0])(requests)

    return script


def refusing(fault: Fault) -> Any:
    async def script(_: Requests) -> AsyncIterator[runs.ConverseResponse]:
        for frame in list[runs.ConverseResponse]():
            yield frame
        raise fault

    return script


async def test_converse(client: Client, server: FakeServer) -> None:
    server.on("Converse", echo)
    async with client.run("r1").converse() as chat:
        assert chat.info.status is api.RunStatus.RUNNING
        assert await chat.send(("Tick", {"n": 1}), step="a") == api.SendResult(1, 1)
        # Nobody takes the events meanwhile: a result does not wait for that.
        assert await chat.send(("Tick", {"n": 2})) == api.SendResult(2, 1)
        with pytest.raises(api.InvalidArgumentError):
            await chat.send(("Bad", {}))
        last = chat.send(("Last", {}))
        assert [event.sequence async for event in chat] == [1, 2, 3]
        assert (await last).sequence == 3
        assert chat.outcome is not None
        assert chat.outcome.status is api.RunStatus.COMPLETED
        with pytest.raises(api.FailedPreconditionError):
            await chat.send(("Tick", {}))


async def test_the_first_frame_attaches(client: Client, server: FakeServer) -> None:
    seen: list[runs.ConverseRequest] = []

    async def script(requests: Requests) -> AsyncIterator[runs.ConverseResponse]:
        seen.append(await anext(requests))
        yield opened(5)
        yield finished()

    server.on("Converse", script)
    run = client.run("r1")
    async with run.converse(4, types=["Tick"], internal=True, max_unacked=9) as chat:
        assert [event async for event in chat] == []
    options = runs.StreamOptions(encoding=types_pb2.PAYLOAD_ENCODING_JSON, include_internal=True, event_types=["Tick"])
    attach = runs.ConverseAttach(run_id="r1", after_sequence=4, options=options, max_unacked=9)
    assert seen == [runs.ConverseRequest(attach=attach)]


async def test_a_refused_attach_raises_at_the_door(client: Client, server: FakeServer) -> None:
    server.on("Converse", refusing(Fault(grpc.StatusCode.NOT_FOUND, "RUN_NOT_FOUND")))
    with pytest.raises(api.NotFoundError):
        async with client.run("r1").converse():
            pytest.fail("the conversation opened")


def losing(seen: list[runs.ConverseRequest]) -> Any:
    """Return a script that loses the connection between a send and its result, and once more."""

    async def first(requests: Requests) -> AsyncIterator[runs.ConverseResponse]:
        seen.append(await anext(requests))
        yield opened()
        seen.append(await anext(requests))
        yield events(1, 3, entry(2))
        raise unavailable()

    async def third(requests: Requests) -> AsyncIterator[runs.ConverseResponse]:
        seen.append(await anext(requests))
        yield opened(4)
        seen.append(await anext(requests))
        yield sent(seen[-1], 1)
        yield events(4, 4)
        yield finished()

    return in_turn(first, refusing(unavailable()), third)


def check_resumed(seen: list[runs.ConverseRequest]) -> None:
    attach, send, attach_again, send_again = seen
    assert (attach.attach.after_sequence, attach_again.attach.after_sequence) == (0, 3)
    assert send == send_again
    assert len(send.send.request_id) == 32


async def test_a_lost_conversation_goes_on(client: Client, server: FakeServer) -> None:
    seen: list[runs.ConverseRequest] = []
    server.on("Converse", losing(seen))
    async with client.run("r1").converse() as chat:
        result = chat.send(("Tick", {}))
        assert [event.sequence async for event in chat] == [2, 4]
        assert await result == api.SendResult(1, 1)
    check_resumed(seen)


async def test_a_conversation_that_cannot_go_on(server: FakeServer) -> None:
    async def first(_: Requests) -> AsyncIterator[runs.ConverseResponse]:
        yield opened()
        raise unavailable()

    second = refusing(Fault(grpc.StatusCode.NOT_FOUND, "RUN_NOT_FOUND"))
    server.on("Converse", in_turn(first, second))
    async with Client(server.address) as client, client.run("r1").converse() as chat:
        result = chat.send(("Tick", {}))
        with pytest.raises(api.NotFoundError):
            await anext(chat)
        with pytest.raises(api.NotFoundError):
            await result
        with pytest.raises(api.NotFoundError):
            await chat.send(("Tick", {}))


async def test_a_gap_ends_the_conversation(client: Client, server: FakeServer) -> None:
    async def script(_: Requests) -> AsyncIterator[runs.ConverseResponse]:
        yield opened()
        yield events(2, 2)
        await forever()

    server.on("Converse", script)
    async with client.run("r1").converse() as chat:
        with pytest.raises(api.StreamGapError):
            await anext(chat)


async def windowed(requests: Requests) -> AsyncIterator[runs.ConverseResponse]:
    """Send 40 entries, never more than the window beyond the last acknowledged one."""
    attach = (await anext(requests)).attach
    yield opened()
    acked = 0
    for sequence in range(1, 41):
        while sequence - acked > attach.max_unacked:
            acked = (await anext(requests)).ack.sequence
            assert acked < sequence
        # Every other entry is filtered out; the window counts it all the same.
        yield (
            events(sequence, sequence)
            if sequence % 2
            else runs.ConverseResponse(events=types_pb2.EventBatch(from_sequence=sequence, to_sequence=sequence))
        )
    yield finished()


@pytest.mark.parametrize("window", [1, 2, 7])
async def test_the_window_goes_on_with_what_is_taken(client: Client, server: FakeServer, window: int) -> None:
    server.on("Converse", windowed)
    async with client.run("r1").converse(max_unacked=window) as chat:
        assert [event.sequence async for event in chat] == list(range(1, 41, 2))


async def test_nothing_is_acknowledged_before_it_is_taken(client: Client, server: FakeServer) -> None:
    acks: list[int] = []

    async def script(requests: Requests) -> AsyncIterator[runs.ConverseResponse]:
        await anext(requests)
        yield opened()
        yield events(1, 4)
        async for request in requests:
            if request.WhichOneof("frame") == "send":
                yield sent(request, 1)
            else:
                acks.append(request.ack.sequence)

    server.on("Converse", script)
    async with client.run("r1").converse(max_unacked=4) as chat:
        await anext(chat)
        await chat.send(("Tick", {}))
        assert acks == []
        await anext(chat)
        await chat.send(("Tick", {}))
        assert acks == [2]


async def test_leaving_waits_for_sends_and_detaches(client: Client, server: FakeServer) -> None:
    may_answer, gone = asyncio.Event(), asyncio.Event()

    async def script(requests: Requests) -> AsyncIterator[runs.ConverseResponse]:
        try:
            await anext(requests)
            yield opened()
            request = await anext(requests)
            await may_answer.wait()
            yield sent(request, 1)
            await forever()
        finally:
            gone.set()

    server.on("Converse", script)
    async with client.run("r1").converse() as chat:
        result = chat.send(("Tick", {}))
        asyncio.get_running_loop().call_later(0.05, may_answer.set)
    assert result.result() == api.SendResult(1, 1)
    await gone.wait()


async def test_leaving_with_an_error_does_not_wait(client: Client, server: FakeServer) -> None:
    async def script(_: Requests) -> AsyncIterator[runs.ConverseResponse]:
        yield opened()
        await forever()

    server.on("Converse", script)
    with pytest.raises(ZeroDivisionError):  # noqa: PT012 - the block is what is tested
        async with client.run("r1").converse() as chat:
            result = chat.send(("Tick", {}))
            _ = 1 / 0
    with pytest.raises(api.StepwireError, match="left before"):
        await result


async def test_cancel(client: Client, server: FakeServer) -> None:
    async def script(requests: Requests) -> AsyncIterator[runs.ConverseResponse]:
        await anext(requests)
        yield opened()
        request = await anext(requests)
        assert request.cancel.reason == "why"
        yield finished()

    server.on("Converse", script)
    async with client.run("r1").converse() as chat:
        chat.cancel("why")
        assert [event async for event in chat] == []


async def test_blocking_converse(server: FakeServer) -> None:
    server.on("Converse", echo)

    def talk() -> None:
        with SyncClient(server.address) as client, client.run("r1").converse() as chat:
            assert chat.info.status is api.RunStatus.RUNNING
            assert chat.send(("Tick", {"n": 1})).result(60) == api.SendResult(1, 1)
            with pytest.raises(api.InvalidArgumentError):
                chat.send(("Bad", {})).result(60)
            last = chat.send(("Last", {}))
            assert [event.sequence for event in chat] == [1, 2]
            assert last.result(60).sequence == 2
            assert chat.outcome is not None

    await asyncio.to_thread(talk)


async def test_a_lost_blocking_conversation_goes_on(server: FakeServer) -> None:
    seen: list[runs.ConverseRequest] = []
    server.on("Converse", losing(seen))

    def talk() -> None:
        with SyncClient(server.address) as client, client.run("r1").converse() as chat:
            result = chat.send(("Tick", {}))
            assert [event.sequence for event in chat] == [2, 4]
            assert result.result(60) == api.SendResult(1, 1)

    await asyncio.to_thread(talk)
    check_resumed(seen)


async def test_a_blocking_conversation_keeps_the_window(server: FakeServer) -> None:
    server.on("Converse", windowed)

    def talk() -> list[int]:
        with SyncClient(server.address) as client, client.run("r1").converse(max_unacked=3) as chat:
            return [event.sequence for event in chat]

    assert await asyncio.to_thread(talk) == list(range(1, 41, 2))


async def test_a_blocking_conversation_is_left_at_once(server: FakeServer) -> None:
    async def script(_: Requests) -> AsyncIterator[runs.ConverseResponse]:
        yield opened()
        await forever()

    server.on("Converse", script)

    def talk() -> Any:
        with pytest.raises(ZeroDivisionError):  # noqa: PT012, SIM117 - the block is what is tested
            with SyncClient(server.address) as client, client.run("r1").converse() as chat:
                result = chat.send(("Tick", {}))
                _ = 1 / 0
        with pytest.raises(RuntimeError, match="not open"):
            next(chat)
        return result.exception(10)

    assert "left before" in str(await asyncio.to_thread(talk))


async def test_a_refused_blocking_attach_raises_at_the_door(server: FakeServer) -> None:
    server.on("Converse", refusing(Fault(grpc.StatusCode.NOT_FOUND, "RUN_NOT_FOUND")))

    def talk() -> None:
        with SyncClient(server.address) as client, client.run("r1").converse():
            pytest.fail("the conversation opened")

    with pytest.raises(api.NotFoundError):
        await asyncio.to_thread(talk)
