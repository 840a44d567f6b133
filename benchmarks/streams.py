"""Figures of streams: live, replay, many subscribers, the first event, questions and answers."""

from __future__ import annotations

import asyncio
import time
from contextlib import AsyncExitStack
from typing import Any

import grpc.aio
from benchmarks.latency import Bound, beside_commits
from benchmarks.load import JSON, Caller, answer, go, one_at_a_time
from benchmarks.measure import Bench, Measure, Row, Sample, alternate, cost, make_row, values
from benchmarks.servers import MEMORY, RAW, SQLITE, Process, servers

from stepwire.v1 import run_service_pb2 as runs
from stepwire.v1 import types_pb2

__all__ = ["converse", "first_event", "live", "replay", "subscribers"]


async def _timed_read(caller: Caller, run_id: str, count: int) -> tuple[float, int]:
    began = time.perf_counter()
    events = await caller.read(run_id)
    seconds = time.perf_counter() - began
    if events < count:
        raise RuntimeError(f"a stream of {count} events gave {events}")
    return events / seconds, events


async def _raw_read(caller: Caller, process: Process, count: int) -> Sample:
    return await cost(process, lambda: _timed_read(caller, f"raw-{count}", count))


async def _live(caller: Caller, process: Process, count: int) -> Sample:
    run_id = await caller.start("HeldTalk")

    async def work() -> tuple[float, int]:
        request = runs.StreamEventsRequest(run_id=run_id, options=runs.StreamOptions(encoding=JSON))
        call = caller.runs.StreamEvents(request)
        began = time.perf_counter()
        await caller.runs.SendEvent(go(run_id, count))
        events = 0
        async for frame in call:
            events += len(frame.events.entries)
        seconds = time.perf_counter() - began
        if events < count:
            raise RuntimeError(f"a stream of {count} events gave {events}")
        return events / seconds, events

    return await cost(process, work)


async def live(bench: Bench) -> list[Row]:
    """One run writes events of 200 bytes, one client reads them as they come."""
    count = bench.scaled(50_000, 20_000)
    async with AsyncExitStack() as stack:
        processes = await servers(bench, stack)
        measures: dict[str, Measure] = {}
        for kind, process in processes.items():
            caller = await stack.enter_async_context(Caller.open(process.address))
            if kind == RAW:
                measures[kind] = lambda c=caller, p=process: _raw_read(c, p, count)  # type: ignore[misc]
            else:
                measures[kind] = lambda c=caller, p=process: _live(c, p, count)  # type: ignore[misc]
        samples = await alternate(bench, "live stream", measures)
    raw = samples[RAW]
    return [
        make_row(
            "live" if kind == SQLITE else "live_memory",
            f"one run's stream, live{'' if kind == SQLITE else ' (memory)'}",
            "events/s",
            samples[kind],
            values(raw),
            limit_name="raw batches of 64",
            raw=raw,
            target=0.45 if kind == SQLITE else 0.6,
        )
        for kind in (SQLITE, MEMORY)
    ]


async def replay(bench: Bench) -> list[Row]:
    """Read the log of an ended run."""
    count = bench.scaled(100_000, 20_000)
    async with AsyncExitStack() as stack:
        processes = await servers(bench, stack)
        measures: dict[str, Measure] = {}
        for kind, process in processes.items():
            caller = await stack.enter_async_context(Caller.open(process.address))
            if kind == RAW:
                measures[kind] = lambda c=caller, p=process: _raw_read(c, p, count)  # type: ignore[misc]
                continue
            bench.say(f"replay: writing {count:,} events, {kind}")
            run_id = await caller.start("Talk", b'{"count":%d}' % count)
            await caller.ended(run_id)
            measures[kind] = lambda c=caller, p=process, r=run_id: cost(  # type: ignore[misc]
                p, lambda: _timed_read(c, r, count)
            )
        samples = await alternate(bench, "replay", measures)
    raw = samples[RAW]
    return [
        make_row(
            "replay" if kind == SQLITE else "replay_memory",
            f"replay of {count:,} events{'' if kind == SQLITE else ' (memory)'}",
            "events/s",
            samples[kind],
            values(raw),
            limit_name="raw batches of 64",
            raw=raw,
            target=0.8 if kind == SQLITE else None,
        )
        for kind in (SQLITE, MEMORY)
    ]


SUBSCRIBERS = 100
CHANNELS = 4


async def subscribers(bench: Bench) -> list[Row]:
    """100 clients' streams read one run live: each event is encoded once for all of them."""
    count = bench.scaled(2_000, 500)

    async def all_read(callers: list[Caller], run_id: str) -> tuple[float, int]:
        reads = [callers[number % CHANNELS].read(run_id) for number in range(SUBSCRIBERS)]
        began = time.perf_counter()
        pending = asyncio.gather(*reads)
        if not run_id.startswith("raw-"):
            await asyncio.sleep(0)  # the streams are asked for before the run goes on
            await callers[0].runs.SendEvent(go(run_id, count))
        events = await pending
        seconds = time.perf_counter() - began
        if min(events) < count:
            raise RuntimeError(f"a stream of {count} events gave {min(events)}")
        return sum(events) / seconds, sum(events)

    async with AsyncExitStack() as stack:
        processes = await servers(bench, stack)
        measures: dict[str, Measure] = {}
        for kind, process in processes.items():
            callers = [await stack.enter_async_context(Caller.open(process.address)) for _ in range(CHANNELS)]

            async def measure(kind: str = kind, process: Process = process, callers: list[Caller] = callers) -> Sample:
                run_id = f"raw-{count}" if kind == RAW else await callers[0].start("HeldTalk")
                return await cost(process, lambda: all_read(callers, run_id))

            measures[kind] = measure
        samples = await alternate(bench, f"{SUBSCRIBERS} subscribers", measures)
    raw = samples[RAW]
    return [
        make_row(
            "subscribers" if kind == SQLITE else "subscribers_memory",
            f"{SUBSCRIBERS} subscribers on one run, all together{'' if kind == SQLITE else ' (memory)'}",
            "events/s",
            samples[kind],
            values(raw),
            limit_name=f"{SUBSCRIBERS} raw streams",
            raw=raw,
            target=0.8 if kind == SQLITE else None,
        )
        for kind in (SQLITE, MEMORY)
    ]


async def first_event(bench: Bench) -> list[Row]:
    """Start a run and follow it: until its first event is here."""

    async def ask(caller: Caller, seconds: float) -> tuple[float, int]:
        times: list[float] = []
        end = time.perf_counter() + seconds
        while time.perf_counter() < end:
            began = time.perf_counter()
            run_id = await caller.start("Talk", b'{"count":1}')
            request = runs.StreamEventsRequest(run_id=run_id, options=runs.StreamOptions(encoding=JSON))
            call = caller.runs.StreamEvents(request)
            async for frame in call:
                if frame.events.entries:
                    times.append(time.perf_counter() - began)
                    break
            async for _ in call:
                pass
        times.sort()
        return times[len(times) // 2], len(times)

    return await beside_commits(
        bench,
        "first event",
        lambda caller: lambda: ask(caller, bench.seconds / 2),
        lambda caller: lambda: one_at_a_time(caller.run_trivial(), bench.seconds / 2),
        Bound("first_event", "StartRun → first streamed event, p50", 2, 2, "echo"),
    )


async def converse(bench: Bench) -> list[Row]:
    """Answer a question of a run on its stream and get the next one: a round trip."""
    count = bench.scaled(400, 150)

    async def talk(caller: Caller, raw: bool) -> tuple[float, int]:
        call = caller.runs.Converse()
        start = runs.StartRunRequest(
            workflow="PingPong", input=types_pb2.Payload(json=b'{"count":%d}' % (count + 1)), encoding=JSON
        )
        await call.write(
            runs.ConverseRequest(start=runs.ConverseStart(request=start, options=runs.StreamOptions(encoding=JSON)))
        )
        times: list[float] = []
        if raw:
            await call.read()
        else:
            await _next_question(call)
        for number in range(count):
            frame = runs.ConverseRequest(send=runs.ConverseSend(request_id=f"answer-{number}", event=answer(number)))
            began = time.perf_counter()
            await call.write(frame)
            await _next_question(call)
            times.append(time.perf_counter() - began)
        call.cancel()
        times.sort()
        return times[len(times) // 2], len(times)

    return await beside_commits(
        bench,
        "Converse",
        lambda caller: lambda: talk(caller, False),
        lambda caller: lambda: talk(caller, True),
        Bound("converse", "Converse ping-pong with an answer, p50", 1.5, 2, "raw bidi"),
    )


async def _next_question(call: Any) -> None:
    while True:
        frame = await call.read()
        if frame is grpc.aio.EOF:
            raise RuntimeError("a conversation ended early")
        if frame.HasField("events") and frame.events.entries:
            return
