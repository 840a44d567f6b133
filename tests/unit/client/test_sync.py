"""The blocking client: over the wire, and over grpc_testing's channel."""

from __future__ import annotations

import asyncio
import queue
from collections.abc import AsyncIterator, Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import grpc
import grpc_testing
import pytest
from tests.unit.client.fake import FakeServer, Fault, entry, events, finished, outcome, unavailable
from tests.unit.client.test_state import FakeState
from tests.unit.client.test_streams import Tick, plays

from stepwire import client as api
from stepwire.client import SyncClient
from stepwire.v1 import run_service_pb2 as runs
from stepwire.v1 import state_service_pb2 as state
from stepwire.v1 import types_pb2

RUN_SERVICE = runs.DESCRIPTOR.services_by_name["RunService"]
Threads = Callable[[Callable[[SyncClient], Any]], Any]


@pytest.fixture
def blocking(server: FakeServer) -> Threads:
    """Run a function with a client in a thread, so that the loop can serve it."""

    async def run(function: Callable[[SyncClient], Any]) -> Any:
        def body() -> Any:
            with SyncClient(server.address, timeout=60, reconnect_timeout=60, events=[Tick]) as client:
                return function(client)

        return await asyncio.to_thread(body)

    return run


async def test_start_and_repeat(blocking: Threads, server: FakeServer) -> None:
    server.answers("StartRun", unavailable(), runs.StartRunResponse(run=types_pb2.Run(run_id="r1")))
    run = await blocking(lambda client: client.start_run("flow", n=1))
    assert run.run_id == "r1"
    first, second = server.seen["StartRun"]
    assert first == second
    assert first.input.json == b'{"n":1}'


async def test_events(blocking: Threads, server: FakeServer) -> None:
    tick = entry(1, json=b'{"n":4}')
    server.on("StreamEvents", plays([events(1, 2, tick), unavailable()], [events(3, 3, entry(3, "Tock")), finished()]))
    got = await blocking(lambda client: list(client.run("r1").events()))
    assert got == [Tick(n=4), api.GenericEvent("Tock")]
    assert [request.after_sequence for request in server.seen["StreamEvents"]] == [0, 2]


async def test_events_without_following(blocking: Threads, server: FakeServer) -> None:
    server.on("StreamEvents", plays([events(1, 1, entry(1, "Tock"))]))
    assert len(await blocking(lambda client: list(client.run("r1").events(follow=False)))) == 1


async def test_leaving_a_stream_ends_its_call(blocking: Threads, server: FakeServer) -> None:
    gone = asyncio.Event()

    async def script(_: Any) -> AsyncIterator[Any]:
        try:
            yield events(1, 1, entry(1, "Tock"))
            await asyncio.Event().wait()
        finally:
            gone.set()

    server.on("StreamEvents", script)

    def first(client: SyncClient) -> Any:
        for event in client.run("r1").events():
            return event

    assert (await blocking(first)).sequence == 1
    await gone.wait()


async def test_result_and_wait(blocking: Threads, server: FakeServer) -> None:
    ended = types_pb2.Run(run_id="r1", outcome=outcome(result=types_pb2.Payload(json=b"[1]")))
    server.answers("WaitRun", runs.WaitRunResponse(timed_out=True), runs.WaitRunResponse(run=ended))
    server.answers("GetRun", runs.GetRunResponse())
    server.answers("WaitForEvent", runs.WaitForEventResponse(entry=entry(3, json=b'{"n":1}')))
    assert await blocking(lambda client: client.run("r1").result(as_=tuple[int])) == (1,)
    assert await blocking(lambda client: client.run("r1").context.wait_for_event("Tick")) == Tick(n=1)


async def test_errors(blocking: Threads, server: FakeServer) -> None:
    server.answers("GetRun", Fault(grpc.StatusCode.NOT_FOUND, "RUN_NOT_FOUND"))
    with pytest.raises(api.NotFoundError) as caught:
        await blocking(lambda client: client.get_run("r1"))
    assert caught.value.reason == "RUN_NOT_FOUND"


async def test_pages(blocking: Threads, server: FakeServer) -> None:
    server.answers(
        "ListRuns",
        runs.ListRunsResponse(runs=[types_pb2.Run(run_id="a")], next_page_token="t"),
        runs.ListRunsResponse(runs=[types_pb2.Run(run_id="b")]),
    )
    assert [run.run_id for run in await blocking(lambda client: list(client.list_runs()))] == ["a", "b"]


async def test_state(blocking: Threads, server: FakeServer) -> None:
    fake = FakeState(server, {"n": 1})
    fake.meddle = [{"n": 10}]
    server.answers("SetState", state.SetStateResponse(etag="9"))

    def body(client: SyncClient) -> None:
        store = client.run("r1").context.store
        assert store.update_state(lambda value: {"n": value["n"] + 1}) == {"n": 11}
        with store.edit_state() as value:
            value["n"] += 1
        assert store.set("n", 5) == "9"

    await blocking(body)
    assert fake.value == {"n": 12}


@pytest.fixture
def channel() -> Iterator[Any]:
    channel = grpc_testing.channel([RUN_SERVICE], grpc_testing.strict_real_time())
    yield channel
    channel.close()


def test_calls_have_deadline_and_token(channel: Any) -> None:
    client = SyncClient("localhost", channel=channel, token="t")
    with ThreadPoolExecutor(1) as pool:
        future = pool.submit(client.run("r1").info)
        metadata, request, rpc = channel.take_unary_unary(RUN_SERVICE.methods_by_name["GetRun"])
        assert ("authorization", "Bearer t") in metadata
        assert request.run_id == "r1"
        rpc.terminate(runs.GetRunResponse(run=types_pb2.Run(run_id="r1")), (), grpc.StatusCode.OK, "")
        assert future.result(60).run_id == "r1"


def test_a_repeat_over_the_testing_channel(channel: Any) -> None:
    client = SyncClient("localhost", channel=channel)
    method = RUN_SERVICE.methods_by_name["SendEvent"]
    with ThreadPoolExecutor(1) as pool:
        future = pool.submit(client.run("r1").context.send_event, ("Tick", {}))
        _, first, rpc = channel.take_unary_unary(method)
        rpc.terminate(None, (), grpc.StatusCode.UNAVAILABLE, "gone")
        _, second, rpc = channel.take_unary_unary(method)
        assert first == second
        rpc.terminate(runs.SendEventResponse(sequence=3), (), grpc.StatusCode.OK, "")
        assert future.result(60) == api.SendResult(3, 0)


def test_a_stream_over_the_testing_channel(channel: Any) -> None:
    client = SyncClient("localhost", channel=channel)
    method = RUN_SERVICE.methods_by_name["StreamEvents"]
    got: queue.SimpleQueue[int] = queue.SimpleQueue()

    def follow() -> None:
        for event in client.run("r1").events():
            got.put(event.sequence)

    with ThreadPoolExecutor(1) as pool:
        future = pool.submit(follow)
        _, _, rpc = channel.take_unary_stream(method)
        rpc.send_response(events(1, 2))
        # This channel drops responses that were not read when it terminates.
        assert [got.get(timeout=60), got.get(timeout=60)] == [1, 2]
        rpc.terminate((), grpc.StatusCode.UNAVAILABLE, "gone")
        _, request, rpc = channel.take_unary_stream(method)
        assert request.after_sequence == 2
        rpc.send_response(events(3, 3))
        rpc.send_response(finished())
        future.result(60)
    assert got.get(timeout=60) == 3
