"""Figures of unary calls: GetState, SendEvent, start to result; 64 in flight, and under h2load."""

from __future__ import annotations

import asyncio
import re
import shutil
import struct
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Any

from benchmarks.load import Call, Caller, saturate, trivial_request
from benchmarks.measure import Bench, Measure, Row, Sample, alternate, cost, make_row, values
from benchmarks.servers import MEMORY, RAW, SQLITE, Process, servers

__all__ = ["get_state", "h2load", "send_event", "trivial"]

IN_FLIGHT = 64
SMALLEST_ANSWER = 100
"""Bytes that an answer to StartRun has at least."""


def _loaded(bench: Bench, process: Process, call: Call) -> Measure:
    return lambda: cost(process, lambda: saturate(call, IN_FLIGHT, bench.seconds))


async def _in_flight(bench: Bench, name: str, make: Any) -> dict[str, list[Sample]]:
    """Measure a call against each kind of server; `make` gets the caller and whether it is the raw server's."""
    async with AsyncExitStack() as stack:
        processes = await servers(bench, stack)
        measures: dict[str, Measure] = {}
        for kind, process in processes.items():
            caller = await stack.enter_async_context(Caller.open(process.address))
            call = await make(caller, kind == RAW)
            await saturate(call, IN_FLIGHT, 0.3)  # connections, caches
            measures[kind] = _loaded(bench, process, call)
        return await alternate(bench, name, measures)


async def _parked(caller: Caller, raw: bool) -> list[str]:
    if raw:
        return ["0" * 32]
    return await caller.start_many("Park", IN_FLIGHT)


async def get_state(bench: Bench) -> list[Row]:
    """GetState of 64 runs, 64 calls in flight."""

    async def make(caller: Caller, raw: bool) -> Call:
        return caller.get_state(await _parked(caller, raw))

    samples = await _in_flight(bench, "GetState", make)
    return _rows("get_state", "GetState, 64 in flight", samples, 0.85, None)


async def send_event(bench: Bench) -> list[Row]:
    """SendEvent to 64 runs, 64 calls in flight, each answered when it is durable; a step takes each event."""

    async def make(caller: Caller, raw: bool) -> Call:
        return caller.send_event(await _parked(caller, raw))

    samples = await _in_flight(bench, "SendEvent", make)
    rows = _rows("send_event", "SendEvent acknowledged, 64 in flight", samples, 0.6, None)
    rows.append(
        make_row(
            "send_event_durable",
            "SendEvent, SQLite beside memory",
            "1/s",
            samples[SQLITE],
            values(samples[MEMORY]),
            limit_name="memory store",
            target=0.6,
        )
    )
    return rows


async def trivial(bench: Bench) -> list[Row]:
    """Start a trivial run and get its result by one call, 64 in flight."""

    async def make(caller: Caller, raw: bool) -> Call:
        return caller.run_trivial()

    samples = await _in_flight(bench, "start → result", make)
    return _rows("trivial", "start → result, 64 in flight", samples, 0.5, 0.7)


def _rows(
    key: str, title: str, samples: dict[str, list[Sample]], target: float | None, memory_target: float | None
) -> list[Row]:
    raw = samples[RAW]
    return [
        make_row(
            key if kind == SQLITE else f"{key}_memory",
            title if kind == SQLITE else f"{title} (memory)",
            "1/s",
            samples[kind],
            values(raw),
            limit_name="echo",
            raw=raw,
            target=target if kind == SQLITE else memory_target,
        )
        for kind in (SQLITE, MEMORY)
    ]


# -- h2load -------------------------------------------------------------------------------------------------------


async def h2load(bench: Bench) -> list[Row]:
    """Start trivial runs by a C client: one connection, 64 streams."""
    if shutil.which("h2load") is None:
        bench.notes.append("h2load is not installed (Debian: nghttp2-client): the figures under h2load were skipped")
        return []
    body = trivial_request().SerializeToString()
    file = bench.directory / "request.grpc"
    file.write_bytes(b"\0" + struct.pack(">I", len(body)) + body)
    calls = bench.scaled(4000, 1000)
    async with AsyncExitStack() as stack:
        processes = await servers(bench, stack)
        measures: dict[str, Measure] = {}
        for kind, process in processes.items():
            caller = await stack.enter_async_context(Caller.open(process.address))
            await saturate(caller.run_trivial(), IN_FLIGHT, 0.3)

            def measure(process: Process = process) -> Any:
                return cost(process, lambda: _h2load(process.address, file, calls))

            measures[kind] = measure
        samples = await alternate(bench, "start → result under h2load", measures)
    return _rows("h2load", "start → result, h2load, 64 streams", samples, 0.4, 0.55)


async def _h2load(address: str, body: Path, calls: int) -> tuple[float, int]:
    command = ["h2load", "-n", str(calls), "-c", "1", "-m", str(IN_FLIGHT), "-t", "1", "-d", str(body)]
    command += ["-H", "content-type: application/grpc", "-H", "te: trailers"]
    command += [f"http://{address}/stepwire.v1.RunService/StartRun"]
    process = await asyncio.create_subprocess_exec(*command, stdout=asyncio.subprocess.PIPE)
    output = (await process.communicate())[0].decode()
    rate = re.search(r"finished in .*?, ([\d.]+) req/s", output)
    succeeded = re.search(r"(\d+) succeeded", output)
    data = re.search(r"\((\d+)\) data", output)
    # h2load sees HTTP only, where an error of gRPC is a success: but only an answer has data.
    whole = data is not None and int(data[1]) >= calls * SMALLEST_ANSWER
    if process.returncode or rate is None or succeeded is None or int(succeeded[1]) != calls or not whole:
        raise RuntimeError(f"h2load failed: {output[-500:]}")
    return float(rate[1]), calls
