"""Readers that stop reading, and streams that say nothing: they cost little, and the others notice nothing."""

from __future__ import annotations

import asyncio
import random
import time
from collections import Counter
from contextlib import suppress
from pathlib import Path
from statistics import quantiles
from typing import Any

import grpc
import psutil
import pytest
from google.rpc import error_details_pb2
from tests.integration.durability.support import until
from tests.serving import ServerProcess
from tests.system.security.support import (
    FULL,
    METHODS,
    Answer,
    call,
    channel_to,
    count,
    crowd,
    frames,
    requests_for,
    say,
    serving,
    start_run,
    waiting,
)

from stepwire.server.rpc.entry_codec import WireCodec
from stepwire.v1 import run_service_pb2 as runs
from stepwire.v1 import types_pb2

Code = grpc.StatusCode
MIB = 1 << 20


async def talk(channel: grpc.aio.Channel, entries: int, size: int) -> str:
    """Start a run that writes much; return its id once all is written."""
    request = runs.StartRunRequest(workflow="talking")
    request.input.json = f'{{"numbers": [{entries}, {size}]}}'.encode()
    answer = await call(channel, METHODS["StartRun"], frames(request))
    run_id = runs.StartRunResponse.FromString(answer.messages[0]).run.run_id
    get = runs.GetRunRequest(run_id=run_id).SerializeToString()
    while True:
        answer = await call(channel, METHODS["GetRun"], [get])
        if runs.GetRunResponse.FromString(answer.messages[0]).run.last_sequence > entries:
            return run_id


def open_stream(channel: grpc.aio.Channel, name: str, run_id: str) -> Any:
    """Open a stream on a run from its beginning."""
    if name == "StreamEvents":
        return channel.unary_stream(METHODS[name].name)(runs.StreamEventsRequest(run_id=run_id).SerializeToString())
    stream = channel.stream_stream(METHODS[name].name)()
    frame = runs.ConverseRequest()
    frame.attach.run_id = run_id
    return stream, frame.SerializeToString()


@pytest.mark.parametrize("name", ["StreamEvents", "Converse"])
async def test_a_reader_that_stops_is_told_where_to_resume(name: str):
    entries = 9_000
    async with serving(stalled_after=0.5) as server, channel_to(server) as channel, channel_to(server) as slow:
        run_id = await talk(channel, entries, 1000)
        opened = open_stream(slow, name, run_id)
        stream = opened if name == "StreamEvents" else opened[0]
        if name == "Converse":
            await stream.write(opened[1])
        first = await stream.read()
        while not server.metrics.streams_ended["stalled"]:
            # Others are served meanwhile.
            await call(channel, METHODS["GetRun"], frames(requests_for(run_id)["GetRun"]))
        # What was under way still comes.
        got = [first]
        with suppress(grpc.aio.AioRpcError):
            while (message := await stream.read()) is not grpc.aio.EOF:
                got.append(message)
        status = dict(await stream.trailing_metadata())["grpc-status-details-bin"]
        answer = Answer(await stream.code(), "", [], bytes(status))
        assert (answer.code, answer.reason) == (Code.RESOURCE_EXHAUSTED, "LIMIT_EXCEEDED")
        assert answer.unpack(error_details_pb2.RetryInfo())
        kind: Any = runs.StreamEventsResponse if name == "StreamEvents" else runs.ConverseResponse
        last = 0
        for message in got:
            part = kind.FromString(message)
            if part.HasField("events"):
                assert part.events.from_sequence == last + 1
                last = part.events.to_sequence
        resume = int(answer.info().metadata["resume_sequence"])
        assert 0 <= resume <= last < entries
        # From there nothing is missing.
        request = runs.StreamEventsRequest(run_id=run_id, after_sequence=resume, no_follow=True)
        rest = await call(channel, METHODS["StreamEvents"], frames(request), most=10_000)
        batches = [runs.StreamEventsResponse.FromString(message).events for message in rest.messages]
        assert batches[0].from_sequence == resume + 1
        assert batches[-1].to_sequence > entries


@pytest.mark.parametrize("name", ["WaitForEvent", "StreamEvents", "StreamEvents of a type", "Converse of a type"])
async def test_who_has_a_long_log_decoded_lets_others_work_in_between(name: str, monkeypatch: pytest.MonkeyPatch):
    turn, decoded = 0, Counter[int]()
    decode = WireCodec.decode

    def counting(self: WireCodec, data: bytes) -> Any:
        entries = decode(self, data)
        decoded[turn] += len(entries)
        return entries

    async with serving() as server, channel_to(server) as channel:
        run_id = await talk(channel, 9_000, 10)
        monkeypatch.setattr(WireCodec, "decode", counting)
        loop = asyncio.get_running_loop()

        def next_turn() -> None:
            nonlocal turn
            turn += 1
            if turn:
                loop.call_soon(next_turn)

        next_turn()
        if name == "WaitForEvent":
            wait = runs.WaitForEventRequest(run_id=run_id, event_type="Question", after_sequence=0)
            wait.timeout.nanos = 1
            await call(channel, METHODS[name], frames(wait), timeout=60)
        else:
            options = runs.StreamOptions(event_types=["Question"])
            if name == "StreamEvents":
                options = runs.StreamOptions(encoding=types_pb2.PAYLOAD_ENCODING_VALUE)
            stream = runs.StreamEventsRequest(run_id=run_id, no_follow=True, options=options)
            attach = runs.ConverseRequest()
            attach.attach.run_id = run_id
            attach.attach.options.CopyFrom(options)
            method = METHODS[name.partition(" ")[0]]
            if name.startswith("Converse"):
                answer = asyncio.ensure_future(call(channel, method, frames([attach]), timeout=5, most=2))
                await until(lambda: sum(decoded.values()) >= 9_000)
                answer.cancel()
            else:
                await call(channel, method, frames(stream), timeout=60, most=1000)
        turn = -1
    assert sum(decoded.values()) >= 9_000
    assert max(decoded.values()) <= 512


async def test_who_sends_and_never_reads_fills_no_memory():
    async with serving(stalled_after=0) as server, channel_to(server) as channel:
        run_id = await start_run(channel, "talking", input={"json": b'{"numbers": [0, 0]}'})
        stream = channel.stream_stream(METHODS["Converse"].name)()
        frame = runs.ConverseRequest()
        frame.attach.run_id = run_id
        await stream.write(frame.SerializeToString())
        await stream.read()
        sent = 0
        bad = runs.ConverseRequest()
        bad.send.request_id = "x" * 100
        bad.send.event.type = "y" * 60_000
        frame_bytes = bad.SerializeToString()
        try:
            # Each is refused with a result that nobody reads: after some the server takes no more.
            async with asyncio.timeout(1.5):
                while sent < 5000:
                    await stream.write(frame_bytes)
                    sent += 1
        except TimeoutError:
            pass
        assert sent < 5000
        stream.cancel()


@pytest.mark.timeout(300)
async def test_idle_streams_are_cheap(tmp_path: Path):
    streams = count(100, 10_000)
    with ServerProcess(tmp_path, ["tests/system/security/flows.py:Asking=asking"]) as server:
        channel = grpc.aio.insecure_channel(server.address)
        run_id = await start_run(channel)
        await waiting(channel, run_id)
        process = psutil.Process(server.pid)
        # What the first streams and a busy moment cost stays.
        await crowd(
            count(50, 200), 50, lambda _: call(channel, METHODS["GetRun"], frames(requests_for(run_id)["GetRun"]))
        )
        before = process.memory_info().rss
        request = runs.StreamEventsRequest(run_id=run_id).SerializeToString()
        channels = [
            grpc.aio.insecure_channel(server.address, [("grpc.use_local_subchannel_pool", 1)])
            for _ in range(max(1, streams // 100))
        ]
        opened: list[Any] = []

        async def open_one(number: int) -> None:
            stream = channels[number % len(channels)].unary_stream(METHODS["StreamEvents"].name)(request)
            await stream.read()
            opened.append(stream)

        await crowd(streams, 100, open_one)
        grown = process.memory_info().rss - before
        say(f"{streams} idle streams: {grown / MIB:.0f} MiB")
        # 10,000 take less than 300 MB; a few have a share of what is there once.
        assert grown < (300e6 if FULL else 12 * MIB + streams * 30 * 1024)
        for item in channels:
            await item.close()
        await channel.close()


async def latencies(channel: grpc.aio.Channel, clients: int, rounds: int) -> list[float]:
    """Send events and read them back from a stream, with several clients; return the seconds each took."""
    found: list[float] = []
    random_ = random.Random(4)

    async def client(_: int) -> None:
        run_id = await start_run(channel)
        await waiting(channel, run_id)
        stream = channel.unary_stream(METHODS["StreamEvents"].name)(
            runs.StreamEventsRequest(run_id=run_id).SerializeToString()
        )
        await stream.read()
        request = requests_for(run_id)["PublishEvent"].SerializeToString()
        for _ in range(rounds):
            began = time.perf_counter()
            await channel.unary_unary(METHODS["PublishEvent"].name)(request)
            await stream.read()
            found.append(time.perf_counter() - began)
            await asyncio.sleep(random_.uniform(0.5, 1.5) * count(2, 100) / 100)  # the pace of the load
        stream.cancel()

    await crowd(clients, clients, client)
    return found


async def stop_reading(address: str, run_id: str, number: int) -> list[tuple[grpc.aio.Channel, Any]]:
    """Open streams on a long log, each on a connection of its own, and read one message of each."""
    slow = []
    for place in range(number):
        own = grpc.aio.insecure_channel(address, [("grpc.use_local_subchannel_pool", 1)])
        name = ("StreamEvents", "Converse")[place % 2]
        opened = open_stream(own, name, run_id)
        stream = opened if name == "StreamEvents" else opened[0]
        if name == "Converse":
            await stream.write(opened[1])
        await stream.read()
        slow.append((own, stream))
    return slow


@pytest.mark.timeout(900)
async def test_stopped_readers_cost_little_memory_and_no_one_elses_time(tmp_path: Path):
    stopped, fast, rounds = count(10, 100), count(3, 100), count(4, 20)
    flows = ["tests/system/security/flows.py:Asking=asking", "tests/system/security/flows.py:Talking=talking"]
    with ServerProcess(tmp_path, flows) as server:
        channel = grpc.aio.insecure_channel(server.address)
        run_id = await talk(channel, count(3_000, 20_000), 1000)
        process = psutil.Process(server.pid)
        await latencies(channel, fast, 3)
        before = grown = 0
        quiet, busy = [], []
        # In turns, and the best of each: what else the machine does is not the server's.
        for _ in range(count(1, 3)):
            quiet.append(quantiles(await latencies(channel, fast, rounds), n=100)[98])
            before = before or process.memory_info().rss
            slow = await stop_reading(server.address, run_id, stopped)
            busy.append(quantiles(await latencies(channel, fast, rounds), n=100)[98])
            grown = max(grown, process.memory_info().rss - before)
            for own, stream in slow:
                stream.cancel()
                await own.close()
        say(
            f"{stopped} stopped readers: {grown / MIB:.0f} MiB, "
            f"p99 {min(quiet) * 1000:.1f} -> {min(busy) * 1000:.1f} ms"
        )
        assert grown < 150e6
        if FULL:
            assert min(busy) <= 1.2 * min(quiet)
        await channel.close()
