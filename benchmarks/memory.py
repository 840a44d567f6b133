"""Figures of memory: idle Converse streams, runs that wait, runs that were released."""

from __future__ import annotations

import asyncio
import time
from contextlib import AsyncExitStack
from typing import Any

import grpc.aio
from benchmarks.load import JSON, Caller
from benchmarks.measure import AT_MOST, Bench, Row
from benchmarks.servers import RAW, SQLITE, Process, servers, stepwire_server

from stepwire.v1 import run_service_pb2 as runs

__all__ = ["idle_streams", "waiting_runs"]

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
    before = await _settled(process)
    async with AsyncExitStack() as stack:
        calls: list[Any] = []
        for first in range(0, count, STREAMS_PER_CHANNEL):
            bench.say(f"idle streams, {process.name}: {first:,} of {count:,}")
            caller = await stack.enter_async_context(Caller.open(process.address))
            opened = [_attach(caller, ids[number % len(ids)]) for number in range(min(STREAMS_PER_CHANNEL, count))]
            calls += await asyncio.gather(*opened)
        size = (await _settled(process) - before) / len(calls)
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


async def waiting_runs(bench: Bench) -> list[Row]:
    """Start runs that wait for an answer: the server's memory of each, resident and released."""
    resident = bench.scaled(100_000, 5_000)
    wave = bench.scaled(25_000, 5_000)
    rows = []
    with stepwire_server(bench.data()) as process:
        async with Caller.open(process.address) as caller:
            await caller.start_many("Wait", 500)
            before = await _settled(process)
            bench.say(f"waiting runs: starting {resident:,}")
            began = time.perf_counter()
            await caller.start_many("Wait", resident)
            seconds = time.perf_counter() - began
            size = (await _settled(process) - before) / resident
    rows.append(
        Row(
            "waiting_runs",
            f"server memory of a waiting run ({resident:,})",
            "B",
            size,
            10 * 1024,
            "10 KiB",
            size / (10 * 1024),
            AT_MOST,
            1.0,
            note=f"started in {seconds:.0f} s",
        )
    )
    # The first wave shows what the allocator keeps anyway; what a released run costs is what the second adds.
    with stepwire_server(bench.data(), idle_after=f"{IDLE:g}s") as process:
        async with Caller.open(process.address) as caller:
            levels = []
            for number in (1, 2):
                bench.say(f"released runs: wave {number} of {wave:,}")
                await caller.start_many("Wait", wave)
                await asyncio.sleep(IDLE)  # what is measured is the state after this time
                levels.append(await _settled(process))
    released = (levels[1] - levels[0]) / wave
    limit = 64.0
    rows.append(
        Row(
            "released_runs",
            f"server memory of a released run (second {wave:,})",
            "B",
            released,
            limit,
            "64 B for 0",
            max(0.0, released) / limit,
            AT_MOST,
            1.0,
            note="0 within what a resident size can show",
            guarded=False,
        )
    )
    return rows


async def _settled(process: Process) -> int:
    """Return the resident bytes once they and the CPU have come to rest."""
    for _ in range(60):
        cpu, memory = process.cpu(), process.memory()
        await asyncio.sleep(QUIET)
        if process.cpu() - cpu < 0.05 * QUIET and abs(process.memory() - memory) < 64 * 1024:
            break
    return process.memory()
