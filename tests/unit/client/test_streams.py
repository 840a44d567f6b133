"""Following a log over the wire, results, and waits."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from typing import Any

import grpc
import pytest
from pydantic import BaseModel
from tests.unit.client.fake import FakeServer, Fault, entry, events, finished, forever, outcome, unavailable

from stepwire import client as api
from stepwire.client import Client
from stepwire.v1 import run_service_pb2 as runs
from stepwire.v1 import types_pb2


class Tick(BaseModel):
    n: int


class Done(BaseModel):
    total: int


def plays(*parts: list[Any]) -> Any:
    """Return a script that plays one part per call: frames, or an exception to raise."""
    left = list(parts)

    async def script(_: Any) -> AsyncIterator[Any]:
        for item in left.pop(0):
            if isinstance(item, Exception):
                raise item
            if item is forever:
                await forever()
            yield item

    return script


async def sequences(stream: AsyncIterator[Any]) -> list[int]:
    return [api.event_meta(event).sequence async for event in stream]


async def test_events_to_the_end(client: Client, server: FakeServer) -> None:
    heartbeat = runs.StreamEventsResponse(heartbeat=runs.Heartbeat(sequence=2))
    server.on("StreamEvents", plays([events(1, 2), heartbeat, events(3, 3), finished()]))
    assert await sequences(client.run("r1").events()) == [1, 2, 3]
    [request] = server.seen["StreamEvents"]
    options = runs.StreamOptions(encoding=types_pb2.PAYLOAD_ENCODING_JSON)
    assert request == runs.StreamEventsRequest(run_id="r1", options=options)
    assert server.left["StreamEvents"][0] > 60


async def test_events_has_filters(client: Client, server: FakeServer) -> None:
    server.on("StreamEvents", plays([events(6, 9, entry(7)), events(10, 12, entry(12))]))
    stream = client.run("r1").events(5, types=[Tick, "Tock"], internal=True, follow=False)
    assert await sequences(stream) == [7, 12]
    [request] = server.seen["StreamEvents"]
    assert (request.after_sequence, request.no_follow) == (5, True)
    assert list(request.options.event_types) == ["Tick", "Tock"]
    assert request.options.include_internal


@pytest.mark.parametrize("loss", [unavailable(), Fault(grpc.StatusCode.CANCELLED)])
async def test_a_lost_stream_goes_on_where_it_was(client: Client, server: FakeServer, loss: Fault) -> None:
    # The covered range counts, not the last entry: 4 was filtered out.
    server.on("StreamEvents", plays([loss], [events(1, 4, entry(2)), loss], [loss], [events(5, 5), finished()]))
    assert await sequences(client.run("r1").events()) == [2, 5]
    assert [request.after_sequence for request in server.seen["StreamEvents"]] == [0, 0, 4, 4]


async def test_a_stream_that_ends_early_goes_on(client: Client, server: FakeServer) -> None:
    server.on("StreamEvents", plays([events(1, 1)], [], [events(2, 2), finished()]))
    assert await sequences(client.run("r1").events()) == [1, 2]


async def test_a_server_that_goes_away_and_comes_back(server: FakeServer) -> None:
    server.on("StreamEvents", plays([events(1, 2), forever], [events(3, 3), finished()]))
    async with Client(server.address, reconnect_timeout=30) as client:
        stream = client.run("r1").events()
        assert api.event_meta(await anext(stream)).sequence == 1
        await server.stop()
        back = asyncio.create_task(server.start())
        assert await sequences(stream) == [2, 3]
        await back


async def test_a_server_that_stays_away_is_given_up(server: FakeServer) -> None:
    server.on("StreamEvents", plays([events(1, 1), forever]))
    async with Client(server.address, reconnect_timeout=0.3) as client:
        stream = client.run("r1").events()
        await anext(stream)
        await server.stop()
        with pytest.raises(api.UnavailableError):
            await anext(stream)


@pytest.mark.parametrize(
    "frames",
    [
        [events(1, 2), events(4, 5)],
        [events(1, 2), events(2, 3)],
        [events(2, 2)],
        [events(1, 2), runs.StreamEventsResponse(heartbeat=runs.Heartbeat(sequence=3))],
        [events(1, 2, entry(2), entry(1))],
        [events(1, 2, entry(3))],
        [events(1, 0, entry(1))],
    ],
)
async def test_a_gap_is_an_error(client: Client, server: FakeServer, frames: list[Any]) -> None:
    server.on("StreamEvents", plays([*frames, finished()]))
    with pytest.raises(api.StreamGapError, match="run r1 is not contiguous"):
        await sequences(client.run("r1").events())


async def test_out_of_range_says_what_there_is(client: Client, server: FakeServer) -> None:
    fault = Fault(grpc.StatusCode.OUT_OF_RANGE, "SEQUENCE_OUT_OF_RANGE", first_available="40", last_available="90")
    server.on("StreamEvents", plays([fault]))
    with pytest.raises(api.OutOfRangeError) as caught:
        await sequences(client.run("r1").events(3))
    assert (caught.value.first_available, caught.value.last_available) == (40, 90)


async def test_leaving_a_stream_ends_its_call(client: Client, server: FakeServer) -> None:
    gone = asyncio.Event()

    async def script(_: Any) -> AsyncIterator[Any]:
        try:
            yield events(1, 1)
            await forever()
        finally:
            gone.set()

    server.on("StreamEvents", script)
    stream = client.run("r1").events()
    await anext(stream)
    await stream.aclose()
    await gone.wait()


async def test_registered_classes(server: FakeServer) -> None:
    frame = events(1, 2, entry(1, json=b'{"n":4}'), entry(2, "Tock", b'{"m":5}'))
    server.on("StreamEvents", plays([frame, finished()]))
    async with Client(server.address, events=[Tick]) as client:
        tick, tock = [event async for event in client.run("r1").events()]
    assert tick == Tick(n=4)
    assert tock == api.GenericEvent("Tock", m=5)
    assert (tock.sequence, api.event_meta(tick).sequence) == (2, 1)


async def test_an_event_that_does_not_fit_its_class(client: Client, server: FakeServer) -> None:
    server.on("StreamEvents", plays([events(1, 1, entry(1, json=b'{"n":"secret"}')), finished()]))
    with pytest.raises(api.EventDecodeError, match=r"event Tick at sequence 1 .*: n \(int_parsing\)$") as caught:
        await sequences(client.run("r1", events=[Tick]).events())
    assert "secret" not in str(caught.value)


def ended(status: str = "COMPLETED", json: bytes = b"null", **fields: Any) -> runs.WaitRunResponse:
    fields.setdefault("result", types_pb2.Payload(json=json))
    return runs.WaitRunResponse(run=types_pb2.Run(run_id="r1", outcome=outcome(status, **fields)))


WAITING = runs.WaitRunResponse(run=types_pb2.Run(run_id="r1"), timed_out=True)


async def test_result_waits_on(client: Client, server: FakeServer) -> None:
    server.answers("WaitRun", WAITING, unavailable(), WAITING, ended(json=b'{"total":3}'))
    assert await client.run("r1").result() == {"total": 3}
    assert len(server.seen["WaitRun"]) == 4
    for request, left in zip(server.seen["WaitRun"], server.left["WaitRun"], strict=True):
        assert 0 < request.timeout.seconds < left < 60


@pytest.mark.parametrize(
    ("event_type", "json", "as_", "expected"),
    [
        ("StopEvent", b'{"total":3}', Done, Done(total=3)),
        ("StopEvent", b"[1,2]", list[int], [1, 2]),
        ("Done", b'{"total":3}', None, Done(total=3)),
        ("Other", b'{"total":3}', None, {"total": 3}),
        ("StopEvent", b"null", None, None),
    ],
)
async def test_result_types(
    client: Client, server: FakeServer, event_type: str, json: bytes, as_: Any, expected: Any
) -> None:
    server.answers("WaitRun", ended(json=json, event_type=event_type))
    assert await client.run("r1", events=[Done]).result(as_=as_) == expected


async def test_result_of_another_type(client: Client, server: FakeServer) -> None:
    server.answers("WaitRun", ended(json=b'"text"'))
    with pytest.raises(api.EventDecodeError):
        await client.run("r1").result(as_=Done)


async def test_result_of_a_failed_run(client: Client, server: FakeServer) -> None:
    failure = types_pb2.Failure(step="a", error_type="ValueError", message="no", attempts=3, reference_id="ref")
    server.answers("WaitRun", ended("FAILED", failure=failure))
    with pytest.raises(api.RunFailedError, match="run r1 failed in step a: ValueError: no") as caught:
        await client.run("r1").result()
    assert caught.value.run_id == "r1"
    assert caught.value.outcome.failure == api.Failure("a", "ValueError", "no", 3, "ref", "")
    assert caught.value.reference_id == "ref"


@pytest.mark.parametrize(
    ("status", "error"), [("CANCELLED", api.RunCancelledError), ("TIMED_OUT", api.RunTimedOutError)]
)
async def test_result_of_a_run_without_one(
    client: Client, server: FakeServer, status: str, error: type[api.RunOutcomeError]
) -> None:
    server.answers("WaitRun", ended(status, reason="why"))
    with pytest.raises(error, match="why"):
        await client.run("r1").result()


async def test_result_has_a_timeout(client: Client, server: FakeServer) -> None:
    async def script(request: runs.WaitRunRequest) -> runs.WaitRunResponse:
        await asyncio.sleep(request.timeout.ToTimedelta().total_seconds())
        return WAITING

    server.on("WaitRun", script)
    with pytest.raises(api.DeadlineError, match=r"has not ended within 0\.2 s"):
        await client.run("r1").result(timeout=0.2)


def found(sequence: int) -> runs.WaitForEventResponse:
    return runs.WaitForEventResponse(entry=entry(sequence, json=b'{"n":1}'), sequence=sequence)


async def test_wait_for_event(client: Client, server: FakeServer) -> None:
    server.answers("GetRun", runs.GetRunResponse(run=types_pb2.Run(run_id="r1", last_sequence=8)))
    server.answers(
        "WaitForEvent", unavailable(), runs.WaitForEventResponse(timed_out=True, sequence=11), unavailable(), found(12)
    )
    event = await client.run("r1").context.wait_for_event(
        Tick, waiter_event=("Ask", {}), waiter_id="w", requirements={"n": 1}
    )
    assert event == Tick(n=1)
    assert api.event_meta(event).sequence == 12
    requests = server.seen["WaitForEvent"]
    assert [request.after_sequence for request in requests] == [8, 8, 11, 11]
    assert {(request.waiter_id, request.event_type, request.waiter_event.type) for request in requests} == {
        ("w", "Tick", "Ask")
    }
    assert requests[0].requirements.json == b'{"n":1}'


async def test_wait_for_event_gives_up(client: Client, server: FakeServer) -> None:
    server.answers("GetRun", runs.GetRunResponse())

    async def script(request: runs.WaitForEventRequest) -> runs.WaitForEventResponse:
        await asyncio.sleep(request.timeout.ToTimedelta().total_seconds())
        return runs.WaitForEventResponse(timed_out=True)

    server.on("WaitForEvent", script)
    with pytest.raises(TimeoutError, match=r"no Tick came within 0\.2 s"):
        await client.run("r1").context.wait_for_event("Tick", timeout=0.2)


async def test_wait_for_event_of_an_ended_run(client: Client, server: FakeServer) -> None:
    server.answers("GetRun", runs.GetRunResponse())
    server.answers("WaitForEvent", runs.WaitForEventResponse(run_ended=True))
    with pytest.raises(api.FailedPreconditionError) as caught:
        await client.run("r1").context.wait_for_event("Tick")
    assert caught.value.reason == "RUN_ENDED"


async def test_wait_for_event_goes_on_where_a_trimmed_log_begins(client: Client, server: FakeServer) -> None:
    server.answers("StartRun", runs.StartRunResponse(run=types_pb2.Run(run_id="r")))
    gone = Fault(grpc.StatusCode.OUT_OF_RANGE, "SEQUENCE_OUT_OF_RANGE", first_available="5", last_available="9")
    server.answers("WaitForEvent", gone, found(7))
    run = await client.start_run("flow")
    assert (await run.context.wait_for_event("Tick")).sequence == 7
    assert [request.after_sequence for request in server.seen["WaitForEvent"]] == [0, 4]
    server.answers("WaitForEvent", Fault(grpc.StatusCode.OUT_OF_RANGE, "SEQUENCE_OUT_OF_RANGE"))
    with pytest.raises(api.OutOfRangeError):
        await run.context.wait_for_event("Tick")
