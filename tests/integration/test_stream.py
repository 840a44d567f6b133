"""StreamEvents: the log of a run, from any sequence, in any encoding, to its end."""

from __future__ import annotations

import asyncio
from typing import Any

import grpc
import pytest
from google.protobuf import json_format
from google.protobuf.duration_pb2 import Duration
from tests.integration.rpc_serving import JSON, VALUE, Rpc, event, payload, plain, refusal_of, serving

from stepwire.server.rpc.gate.call import Call
from stepwire.v1 import run_service_pb2 as runs
from stepwire.v1 import types_pb2 as types

INTERNAL = {types.ENTRY_KIND_RECEIVED, types.ENTRY_KIND_SENT, types.ENTRY_KIND_EXECUTION}


async def counted(rpc: Rpc, n: int) -> types.Run:
    """Return a run of `count` that has ended."""
    return await rpc.start("count", {"n": n}, wait=Duration(seconds=20))


async def batches(call: Any) -> tuple[list[types.EventBatch], runs.StreamEventsResponse | None]:
    """Return the batches of a stream, and its `finished` when it came: as the last frame."""
    found: list[types.EventBatch] = []
    finished = None
    async for frame in call:
        assert finished is None
        if frame.WhichOneof("frame") == "events":
            found.append(frame.events)
        elif frame.WhichOneof("frame") == "finished":
            finished = frame
    return found, finished


def contiguous(found: list[types.EventBatch], after: int) -> list[types.LogEntry]:
    """Return the entries of batches whose ranges leave nothing out."""
    entries: list[types.LogEntry] = []
    for batch in found:
        assert batch.from_sequence == after + 1
        assert batch.to_sequence >= batch.from_sequence
        for entry in batch.entries:
            assert (entries[-1].sequence if entries else after) < entry.sequence <= batch.to_sequence
            entries.append(entry)
        after = batch.to_sequence
    return entries


async def test_an_ended_run_is_streamed_to_its_last_entry(rpc: Rpc) -> None:
    run = await counted(rpc, 3)
    found, finished = await batches(rpc.stream(run.run_id))
    entries = contiguous(found, 0)
    assert [entry.type for entry in entries] == ["Pong", "Pong", "Pong", "StopEvent"]
    assert [plain(entry.payload) for entry in entries[:3]] == [{"n": 1}, {"n": 2}, {"n": 3}]
    assert entries[-1].kind == types.ENTRY_KIND_TERMINAL
    assert entries[-1].role == types.EVENT_ROLE_STOP
    assert found[-1].to_sequence == run.last_sequence
    assert finished is not None
    assert finished.finished.outcome.status == types.RUN_STATUS_COMPLETED
    assert plain(finished.finished.outcome.result) == 3


async def test_internal_entries_come_when_asked_for(rpc: Rpc) -> None:
    run = await counted(rpc, 3)
    found, _ = await batches(rpc.stream(run.run_id, include_internal=True))
    entries = contiguous(found, 0)
    assert [entry.sequence for entry in entries] == list(range(1, run.last_sequence + 1))
    first = entries[0]
    assert (first.kind, first.type, first.role) == (types.ENTRY_KIND_RECEIVED, "StartEvent", types.EVENT_ROLE_START)
    assert (first.step, first.delivered) == ("", 1)
    sent = [entry for entry in entries if entry.kind == types.ENTRY_KIND_SENT]
    assert [(entry.type, entry.step, entry.delivered) for entry in sent] == [
        ("Ping", "start", 1),
        ("Ping", "go_on", 1),
        ("Ping", "go_on", 1),
    ]
    public = [entry for entry in entries if entry.kind not in INTERNAL]
    assert [entry.step for entry in public] == ["go_on"] * 4
    times = [entry.time.ToNanoseconds() for entry in entries]
    assert times == sorted(times)
    assert abs(times[0] - run.created_at.ToNanoseconds()) < 100e9


@pytest.mark.parametrize("encoding", [JSON, VALUE])
@pytest.mark.parametrize("internal", [False, True])
async def test_every_place_is_a_place_to_resume_from(rpc: Rpc, encoding: int, internal: bool) -> None:
    run = await counted(rpc, 4)
    whole, _ = await batches(rpc.stream(run.run_id, encoding=encoding, include_internal=internal))
    entries = contiguous(whole, 0)
    for after in range(run.last_sequence + 1):
        found, finished = await batches(rpc.stream(run.run_id, after, encoding=encoding, include_internal=internal))
        assert contiguous(found, after) == [entry for entry in entries if entry.sequence > after]
        assert finished is not None


async def test_only_the_types_asked_for_and_the_end(rpc: Rpc) -> None:
    run = await counted(rpc, 3)
    found, finished = await batches(rpc.stream(run.run_id, event_types=["Ping"], include_internal=True))
    assert [entry.type for entry in contiguous(found, 0)] == ["Ping", "Ping", "Ping", "StopEvent"]
    assert finished is not None
    found, _ = await batches(rpc.stream(run.run_id, event_types=["Nothing"]))
    assert [entry.type for entry in contiguous(found, 0)] == ["StopEvent"]


async def test_values_are_for_people_and_json_is_exact(rpc: Rpc) -> None:
    value = {
        "big": 2**63 - 1,
        "small": -(2**53) - 1,
        "exact": 2**53,
        "float": 0.1,
        "whole": 2.0,
        "text": "Grüße, 世界 🌍 \u0000",
        "none": None,
        "yes": True,
        "nested": {"list": [1, [2, {"deep": []}]]},
    }
    run = await rpc.start("echo", {"value": value}, wait=Duration(seconds=20))
    (batch, *_), _ = await batches(rpc.stream(run.run_id))
    assert plain(batch.entries[0].payload) == {"value": value}
    (batch, *_), _ = await batches(rpc.stream(run.run_id, encoding=VALUE))
    shown = json_format.MessageToDict(batch.entries[0].payload.value)
    assert shown == {"value": {**value, "big": str(2**63 - 1), "small": str(-(2**53) - 1)}}
    (batch, *_), _ = await batches(rpc.stream(run.run_id, encoding=types.PAYLOAD_ENCODING_UNSPECIFIED))
    assert batch.entries[0].payload.WhichOneof("encoding") == "value"


async def test_a_stream_follows_a_living_run(rpc: Rpc) -> None:
    run = await rpc.asking("tea")
    call = rpc.stream(run.run_id)
    frame = await call.read()
    assert [entry.type for entry in frame.events.entries] == ["Question"]
    await rpc.send(run.run_id, event("Note", n=5))
    frame = await call.read()
    after = frame.events.to_sequence
    assert [plain(entry.payload) for entry in frame.events.entries] == [{"n": 5}]
    await rpc.send(run.run_id, event("Answer", order="7", yes=True))
    rest = [frame async for frame in _frames(call)]
    assert rest[0].events.from_sequence == after + 1
    assert [entry.kind for entry in rest[0].events.entries] == [types.ENTRY_KIND_TERMINAL]
    assert rest[-1].WhichOneof("frame") == "finished"
    assert (await call.code()) == grpc.StatusCode.OK


async def _frames(call: Any) -> Any:
    while (frame := await call.read()) is not grpc.aio.EOF:
        yield frame


async def test_many_readers_each_have_their_own_cursor(rpc: Rpc) -> None:
    run = await rpc.asking("tea")
    calls = [rpc.stream(run.run_id, after) for after in (0, 0, run.last_sequence)]
    await rpc.answer(run.run_id)
    results = await asyncio.gather(*(batches(call) for call in calls))
    logs = [contiguous(found, after) for (found, _), after in zip(results, (0, 0, run.last_sequence), strict=True)]
    assert logs[0] == logs[1]
    assert logs[2] == logs[0][1:]
    assert all(finished is not None for _, finished in results)


async def test_no_follow_ends_at_the_present_end(rpc: Rpc) -> None:
    run = await rpc.asking("tea")
    found, finished = await batches(rpc.stream(run.run_id, no_follow=True))
    assert [entry.type for entry in contiguous(found, 0)] == ["Question"]
    assert finished is None
    assert found[-1].to_sequence == run.last_sequence
    found, finished = await batches(rpc.stream(run.run_id, run.last_sequence, no_follow=True))
    assert (found, finished) == ([], None)


async def test_no_follow_says_how_far_it_looked_also_when_the_filter_let_nothing_through(rpc: Rpc) -> None:
    run = await rpc.asking("tea")
    found, _ = await batches(rpc.stream(run.run_id, no_follow=True, event_types=["Pong"]))
    assert contiguous(found, 0) == []
    assert [(batch.from_sequence, batch.to_sequence) for batch in found] == [(1, run.last_sequence)]


async def test_no_follow_of_an_ended_run_says_how_it_ended(rpc: Rpc) -> None:
    run = await counted(rpc, 1)
    _, finished = await batches(rpc.stream(run.run_id, no_follow=True))
    assert finished is not None


async def test_a_silent_stream_beats_with_its_cursor() -> None:
    async with serving(heartbeat=0.05) as rpc:
        run = await rpc.asking("tea")
        call = rpc.stream(run.run_id)
        assert (await call.read()).WhichOneof("frame") == "events"
        for _ in range(3):
            frame = await call.read()
            assert frame.WhichOneof("frame") == "heartbeat"
            assert frame.heartbeat.sequence == run.last_sequence
            assert frame.heartbeat.interval.ToMilliseconds() == 50
        await rpc.send(run.run_id, event("Note", n=1))
        while (frame := await call.read()).WhichOneof("frame") == "heartbeat":
            pass
        assert frame.events.from_sequence == run.last_sequence + 1
        call.cancel()


async def test_what_a_filter_hides_moves_the_cursor_of_a_silent_stream() -> None:
    async with serving(heartbeat=0.05) as rpc:
        run = await rpc.asking("tea")
        call = rpc.stream(run.run_id, event_types=["Pong"])
        frame = await call.read()
        assert (frame.events.from_sequence, frame.events.to_sequence) == (1, run.last_sequence)
        assert not frame.events.entries
        frame = await call.read()
        assert frame.heartbeat.sequence == run.last_sequence
        call.cancel()


async def test_a_reader_that_goes_leaves_nothing_behind(rpc: Rpc, monkeypatch: pytest.MonkeyPatch) -> None:
    run = await rpc.asking("tea")
    feeds, calls = rpc.pool.feeds, rpc.server.calls
    left, closed = calls.leave, asyncio.Event()

    def leave(call: Call) -> None:
        left(call)
        if not feeds._feeds and not calls.streams:
            closed.set()

    monkeypatch.setattr(calls, "leave", leave)
    call = rpc.stream(run.run_id)
    await call.read()
    (feed,) = feeds._feeds.values()
    call.cancel()
    other = rpc.stream(run.run_id)
    await other.read()
    await rpc.answer(run.run_id)
    await batches_of(other)
    await closed.wait()
    assert feed.readers == 0
    assert not feed._waiting


async def batches_of(call: Any) -> None:
    """Read a stream to its end."""
    while await call.read() is not grpc.aio.EOF:
        pass


async def test_a_log_longer_than_memory_holds_comes_whole() -> None:
    async with serving() as rpc:
        run = await rpc.asking("tea")
        call = rpc.stream(run.run_id, include_internal=True)
        for n in range(100):
            await rpc.send(run.run_id, event("Note", n=n))
        await rpc.answer(run.run_id)
        found, finished = await batches(call)
        entries = contiguous(found, 0)
        assert finished is not None
        assert [entry.sequence for entry in entries] == list(range(1, entries[-1].sequence + 1))
        again, _ = await batches(rpc.stream(run.run_id, 50, include_internal=True))
        assert contiguous(again, 50) == entries[50:]


async def test_large_logs_come_in_frames_that_clients_take(rpc: Rpc) -> None:
    run = await rpc.asking("tea")
    for n in range(6):
        sent = types.Event(type="Note", payload=payload({"n": n, "text": "x" * 900_000}))
        request = runs.PublishEventRequest(run_id=run.run_id, event=sent)
        await rpc.runs.PublishEvent(request)
    for encoding in (JSON, VALUE):
        found, _ = await batches(rpc.stream(run.run_id, no_follow=True, encoding=encoding))
        assert len(contiguous(found, 0)) == 7
        assert len(found) > 1
        assert all(batch.ByteSize() < 4 << 20 for batch in found)


async def test_a_stop_ends_streams_and_says_where_to_resume(tmp_path: Any) -> None:
    async with serving(data=str(tmp_path)) as rpc:
        run = await rpc.asking("tea")
        call = rpc.stream(run.run_id)
        await call.read()
        waiting = asyncio.create_task(_failure(rpc.runs.WaitRun(runs.WaitRunRequest(run_id=run.run_id))))
        observing = asyncio.create_task(
            _failure(rpc.runs.WaitForEvent(runs.WaitForEventRequest(run_id=run.run_id, event_type="Note")))
        )
        await rpc.get(run.run_id)  # both calls have begun
        stopping = asyncio.create_task(rpc.server.stop())
        with pytest.raises(grpc.aio.AioRpcError) as failure:
            await batches_of(call)
        refusal = refusal_of(failure.value)
        assert refusal.reason == "DRAINING"
        assert refusal.facts["resume_sequence"] == str(run.last_sequence)
        for ended in await asyncio.gather(waiting, observing):
            assert ended.code() == grpc.StatusCode.UNAVAILABLE
        await stopping
    async with serving(data=str(tmp_path)) as rpc:
        assert (await rpc.answer(run.run_id)).status == types.RUN_STATUS_COMPLETED
        found, _ = await batches(rpc.stream(run.run_id, int(refusal.facts["resume_sequence"])))
        assert [entry.type for entry in contiguous(found, run.last_sequence)] == ["StopEvent"]


async def _failure(call: Any) -> grpc.aio.AioRpcError:
    with pytest.raises(grpc.aio.AioRpcError) as failure:
        await call
    return failure.value
