"""Figures of memory and growth: idle streams, waiting and released runs, recovery, a run with a very long log."""

import asyncio
import json
import time
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, aclosing
from functools import partial
from typing import Any

import grpc.aio
from benchmarks.harness import Bench, Row, Sample, cost, row
from benchmarks.load import OPTIONS, Caller, event
from benchmarks.peer.loads import together
from benchmarks.servers import RAW, SQLITE, Server, server, stepwire_server

from stepwire.v1 import run_service_pb2 as runs

STREAMS_PER_CHANNEL = 100
"""What gRPC lets one connection carry by default."""
IDLE = 2.0
WAVES = 4
KIB = 1024
RELEASED = 64.0
"""Bytes of a run that count as none: a resident size shows no less."""
NONE = f"{RELEASED:g} B for 0"
FLAT = 1.2
"""What counts as flat: an operation costs at most this much more."""
CACHES = "resident size, in which SQLite's page caches grow too"


async def idle_streams(bench: Bench) -> AsyncIterator[Row]:
    """Open Converse streams that say nothing: the server's memory of each."""
    count = bench.scaled(10_000, 2_000)
    sizes: dict[str, float] = {}
    for kind in (RAW, SQLITE):
        async with server(kind, bench).called() as process:
            ids = await process.caller.start_many("Wait", STREAMS_PER_CHANNEL)
            await _open_streams(bench, process, ids, STREAMS_PER_CHANNEL)  # what the first streams of all cost
            sizes[kind] = await _open_streams(bench, process, ids, count)
    title, note = f"server memory of an idle Converse stream ({count:,})", f"raw grpc.aio {sizes[RAW] / KIB:.1f} KiB"
    yield row("idle_streams", title, "B", "30 KiB", sizes[SQLITE], 30 * KIB, target=1, note=note)


async def _open_streams(bench: Bench, process: Server, ids: list[str], count: int) -> float:
    """Return the bytes of each of so many open streams."""

    async def attach(caller: Caller, run_id: str) -> Any:
        call = caller.runs.Converse()
        await call.write(runs.ConverseRequest(attach=runs.ConverseAttach(run_id=run_id, options=OPTIONS)))
        if await call.read() is grpc.aio.EOF:
            raise RuntimeError("a conversation ended early")
        return call

    before = await process.settled()
    calls: list[Any] = []
    async with AsyncExitStack() as stack:
        for first in range(0, count, STREAMS_PER_CHANNEL):
            bench.say(f"idle streams: {first:,} of {count:,}")
            caller = await stack.enter_async_context(aclosing(Caller(process.address)))
            calls += await asyncio.gather(*(attach(caller, run_id) for run_id in ids))
        return (await process.settled() - before) / len(calls)


async def waiting_runs(bench: Bench) -> AsyncIterator[Row]:
    """Start runs that wait for an answer: the server's memory of each, and what a run costs once they are there."""
    count, sample, data = bench.scaled(100_000, 5_000), bench.scaled(2_000, 500), bench.data()
    with stepwire_server(bench.data()) as process:
        empty = await process.settled()
    async with stepwire_server(data).called() as process:
        await _cpu_of_trivial(process, 500)  # connections, caches
        few = await _cpu_of_trivial(process, sample)
        before = await process.settled()
        bench.say(f"waiting runs: starting {count:,}")
        began = time.perf_counter()
        one, *_ = await process.caller.start_many("Wait", count)
        note = f"started in {time.perf_counter() - began:.0f} s"
        size = (await process.settled() - before) / count
        many = await _cpu_of_trivial(process, sample)
    title, limit = f"server memory of a waiting run ({count:,})", "10 KiB"
    yield row("waiting_runs", title, "B", limit, size, 10 * KIB, target=1, note=note)
    title = f"server CPU of a trivial run, with {count:,} waiting runs"
    yield row("growth_runs", title, "s", "with none", many, few, target=FLAT)
    bench.say("waiting runs: starting again beside them")
    began = time.perf_counter()
    async with stepwire_server(data).called() as process:
        note = f"started in {time.perf_counter() - began:.1f} s"
        beside = max(0.0, (await process.settled() - empty) / count)
        began = time.perf_counter()
        await process.caller.send(one, event("Answer", b"{}"))
        await process.caller.ended(one)
        note += f"; an answer to its end {time.perf_counter() - began:.3f} s"
    title = f"server memory of a waiting run after a restart ({count:,})"
    yield row("released_restarted", title, "B", NONE, beside, RELEASED, target=1, note=note, guarded=False)


async def _cpu_of_trivial(process: Server, count: int) -> float:
    """Return the seconds of server CPU of a trivial run."""
    return (await cost(process.cpu, partial(together, process.caller.run_to_end(), range(count)))).cpu or 0.0


async def released_runs(bench: Bench) -> AsyncIterator[Row]:
    """Start waves of runs that wait, let each be released: what the server's memory grows by after the first."""
    wave = bench.scaled(8_000, 2_000)
    levels: list[int] = []
    async with stepwire_server(bench.data(), idle_after=f"{IDLE:g}s").called() as process:
        for number in range(1, WAVES + 1):
            bench.say(f"released runs: wave {number} of {WAVES}, {wave:,} each")
            await process.caller.start_many("Wait", wave)
            await asyncio.sleep(2 * IDLE)  # what is measured is the state after this time
            levels.append(await process.settled())
    # The first wave shows what the allocator keeps anyway.
    left = max(0.0, (levels[-1] - levels[0]) / (wave * (WAVES - 1)))
    title = f"server memory that a released run leaves ({WAVES} waves of {wave:,})"
    yield row("released_runs", title, "B", NONE, left, RELEASED, target=1, note=CACHES, guarded=False)


async def growing_run(bench: Bench) -> AsyncIterator[Row]:
    """One run writes very many events while a client reads: server CPU of an event, late beside early."""
    count = bench.scaled(1_000_000, 50_000)
    window = max(10_000, count // 20)
    marks = json.dumps({"marks": [1_000, 1_000 + window, count - window, count]}).encode()
    early, late = [], []
    for number in range(bench.scaled(3, 2)):
        bench.say(f"one run of {count:,} events: {number + 1}")
        async with stepwire_server(bench.data()).called() as process:
            run_id = await process.caller.start("Talk", marks)
            await process.caller.read(run_id)
            # A client reads more slowly than the server writes: the server's CPU is noted by the step itself.
            first, second, third, last = json.loads((await process.caller.ended(run_id)).outcome.result.json)
        early.append(Sample((second - first) / window))
        late.append(Sample((last - third) / window))
    title = f"server CPU of an event, the last {window:,} of {count:,}"
    yield row("growth_events", title, "s", f"after the first 1,000: {window:,}", late, early, target=FLAT)


async def recovery(bench: Bench) -> AsyncIterator[Row]:
    """Kill a server whose runs are all at work: how long the next one takes until it has them at work again."""
    count, data = bench.scaled(10_000, 1_000), bench.data()
    bench.say(f"recovery: starting {count:,} runs")
    async with stepwire_server(data).called() as process:
        await process.caller.start_many("Busy", count)
        process.kill()
    bench.say("recovery: starting again")
    began = time.perf_counter()
    with stepwire_server(data):  # it listens once it has taken up everything that has work
        seconds = time.perf_counter() - began
    title = f"start that takes up {count:,} unfinished runs"
    yield row("recovery", title, "s", "10 s", seconds, 10.0, target=1, guarded=False)
