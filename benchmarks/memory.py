"""Figures of memory and growth: idle streams, waiting and released runs, a run with a very long log."""

from __future__ import annotations

import asyncio
import json
import time
from contextlib import AsyncExitStack
from typing import Any

import grpc.aio
from benchmarks.load import JSON, Caller
from benchmarks.measure import AT_MOST, Bench, Row, median
from benchmarks.servers import RAW, SQLITE, Process, servers, stepwire_server

from stepwire.v1 import run_service_pb2 as runs

__all__ = ["growing_run", "idle_streams", "recovery", "released_runs", "settled", "waiting_runs"]

STREAMS_PER_CHANNEL = 100
"""What gRPC lets one connection carry by default."""
RUNS = 100
IDLE = 2.0
QUIET = 0.5


async def idle_streams(bench: Bench) -> list[Row]:
    """Open Converse streams that say nothing: the server's memory of each."""
    count = bench.scaled(10_000, 2_000)
    async with AsyncExitStack() as stack:
        processes = await servers(bench, stack)
        sizes: dict[str, float] = {}
        for kind in (RAW, SQLITE):
            process = processes[kind]
            caller = await stack.enter_async_context(Caller.open(process.address))
            ids = ["0" * 32] if kind == RAW else await caller.start_many("Wait", RUNS)
            await _open_streams(bench, process, ids, RUNS)  # what the first streams of all cost
            sizes[kind] = await _open_streams(bench, process, ids, count)
    ours, raw = sizes[SQLITE], sizes[RAW]
    return [
        Row(
            "idle_streams",
            f"server memory of an idle Converse stream ({count:,})",
            "B",
            ours,
            30 * 1024,
            "30 KiB",
            ours / (30 * 1024),
            AT_MOST,
            1.0,
            note=f"raw grpc.aio {raw / 1024:.1f} KiB",
        )
    ]


async def _open_streams(bench: Bench, process: Process, ids: list[str], count: int) -> float:
    """Return the bytes of each of so many open streams."""
    before = await settled(process)
    async with AsyncExitStack() as stack:
        calls: list[Any] = []
        for first in range(0, count, STREAMS_PER_CHANNEL):
            bench.say(f"idle streams, {process.name}: {first:,} of {count:,}")
            caller = await stack.enter_async_context(Caller.open(process.address))
            opened = [_attach(caller, ids[number % len(ids)]) for number in range(min(STREAMS_PER_CHANNEL, count))]
            calls += await asyncio.gather(*opened)
        size = (await settled(process) - before) / len(calls)
        for call in calls:
            call.cancel()
    return size


async def _attach(caller: Caller, run_id: str) -> Any:
    call = caller.runs.Converse()
    attach = runs.ConverseAttach(run_id=run_id, options=runs.StreamOptions(encoding=JSON))
    await call.write(runs.ConverseRequest(attach=attach))
    if await call.read() is grpc.aio.EOF:
        raise RuntimeError("a conversation ended early")
    return call


TRIVIAL = 2_000
FLAT = 1.2
"""What counts as flat: an operation costs at most this much more."""


async def waiting_runs(bench: Bench) -> list[Row]:
    """Start runs that wait for an answer: the server's memory of each, and what a run costs once they are there."""
    count = bench.scaled(100_000, 5_000)
    sample = bench.scaled(TRIVIAL, 500)
    data = bench.data()
    with stepwire_server(bench.data()) as process:
        empty = await settled(process)
    with stepwire_server(data) as process:
        async with Caller.open(process.address) as caller:
            await _trivial_runs(process, caller, 500)  # connections, caches
            few = await _trivial_runs(process, caller, sample)
            before = await settled(process)
            bench.say(f"waiting runs: starting {count:,}")
            began = time.perf_counter()
            await caller.start_many("Wait", count)
            seconds = time.perf_counter() - began
            size = (await settled(process) - before) / count
            many = await _trivial_runs(process, caller, sample)
    bench.say("waiting runs: starting again beside them")
    with stepwire_server(data) as process:
        beside = max(0.0, (await settled(process) - empty) / count)
    return [
        Row(
            "waiting_runs",
            f"server memory of a waiting run ({count:,})",
            "B",
            size,
            10 * 1024,
            "10 KiB",
            size / (10 * 1024),
            AT_MOST,
            1.0,
            note=f"started in {seconds:.0f} s",
        ),
        Row(
            "released_restarted",
            f"server memory of a waiting run after a restart ({count:,})",
            "B",
            beside,
            RELEASED,
            f"{RELEASED:g} B for 0",
            beside / RELEASED,
            AT_MOST,
            1.0,
            guarded=False,
        ),
        Row(
            "growth_runs",
            f"server CPU of a trivial run, with {count:,} waiting runs",
            "s",
            many,
            few,
            "with none",
            many / few,
            AT_MOST,
            FLAT,
        ),
    ]


async def _trivial_runs(process: Process, caller: Caller, count: int) -> float:
    """Return the seconds of server CPU of a trivial run."""
    call = caller.run_trivial()

    async def worker() -> None:
        for number in range(count // 50):
            await call(number)

    before = process.cpu()
    await asyncio.gather(*(worker() for _ in range(50)))
    return (process.cpu() - before) / count


WAVES = 4
RELEASED = 64.0
"""Bytes of a run that count as none: a resident size shows no less."""


async def released_runs(bench: Bench) -> list[Row]:
    """Start waves of runs that wait, let each be released: what the server's memory grows by after the first."""
    wave = bench.scaled(8_000, 2_000)
    with stepwire_server(bench.data(), idle_after=f"{IDLE:g}s") as process:
        async with Caller.open(process.address) as caller:
            levels = []
            for number in range(1, WAVES + 1):
                bench.say(f"released runs: wave {number} of {WAVES}, {wave:,} each")
                await caller.start_many("Wait", wave)
                await asyncio.sleep(2 * IDLE)  # what is measured is the state after this time
                levels.append(await settled(process))
    # The first wave shows what the allocator keeps anyway.
    released = (levels[-1] - levels[0]) / (wave * (WAVES - 1))
    return [
        Row(
            "released_runs",
            f"server memory that a released run leaves ({WAVES} waves of {wave:,})",
            "B",
            max(0.0, released),
            RELEASED,
            f"{RELEASED:g} B for 0",
            max(0.0, released) / RELEASED,
            AT_MOST,
            1.0,
            note="resident size, in which SQLite's page caches grow too",
            guarded=False,
        )
    ]


async def growing_run(bench: Bench) -> list[Row]:
    """One run writes very many events while a client reads: server CPU of an event, late beside early."""
    count = bench.scaled(1_000_000, 50_000)
    window = max(10_000, count // 20)
    ratios: list[float] = []
    early: list[float] = []
    late: list[float] = []
    for number in range(bench.scaled(3, 2)):
        with stepwire_server(bench.data()) as process:
            async with Caller.open(process.address) as caller:
                bench.say(f"one run of {count:,} events: {number + 1}")
                marks = [1_000, 1_000 + window, count - window, count]
                run_id = await caller.start("Clocked", json.dumps({"marks": marks}).encode())
                await caller.read(run_id)
                # A client reads more slowly than the server writes: the server's CPU is noted by the step itself.
                first, second, third, last = json.loads((await caller.ended(run_id)).outcome.result.json)
        early.append((second - first) / window)
        late.append((last - third) / window)
        ratios.append(late[-1] / early[-1])
    return [
        Row(
            "growth_events",
            f"server CPU of an event, the last {window:,} of {count:,}",
            "s",
            median(late),
            median(early),
            f"after the first 1,000: {window:,}",
            median(ratios),
            AT_MOST,
            FLAT,
            low=min(ratios),
            high=max(ratios),
        )
    ]


RECOVERY_SECONDS = 10.0


async def recovery(bench: Bench) -> list[Row]:
    """Kill a server whose runs are all at work: how long the next one takes until it has them at work again."""
    count = bench.scaled(10_000, 1_000)
    data = bench.data()
    workflows = ["benchmarks/busy.py"]
    bench.say(f"recovery: starting {count:,} runs")
    with stepwire_server(data, workflows=workflows) as process:
        async with Caller.open(process.address) as caller:
            await caller.start_many("Busy", count)
        process.kill()
    bench.say("recovery: starting again")
    began = time.perf_counter()
    # A server listens once it has taken up everything that has work.
    with stepwire_server(data, workflows=workflows):
        seconds = time.perf_counter() - began
    return [
        Row(
            "recovery",
            f"start that takes up {count:,} unfinished runs",
            "s",
            seconds,
            RECOVERY_SECONDS,
            f"{RECOVERY_SECONDS:g} s",
            seconds / RECOVERY_SECONDS,
            AT_MOST,
            1.0,
            guarded=False,
        )
    ]


async def settled(process: Process) -> int:
    """Return the resident bytes once they and the CPU have come to rest."""
    for _ in range(60):
        cpu, memory = process.cpu(), process.memory()
        await asyncio.sleep(QUIET)
        if process.cpu() - cpu < 0.05 * QUIET and abs(process.memory() - memory) < 64 * 1024:
            break
    return process.memory()
