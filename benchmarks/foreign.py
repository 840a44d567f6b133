"""How fast clients of other languages read a run's stream, beside a raw gRPC stream of the same frames.

`python -m tests.system.conformance --bench` uses it too.
"""

from __future__ import annotations

import asyncio
import json
import marshal

from benchmarks.harness import Bench, Row, Skipped, row
from benchmarks.servers import raw_server, stepwire_server
from tests.system.conformance.clients import Client, ClientError, ToolchainMissingError, clients

LOWEST_RATIO = 0.8
"""The rate of a Stepwire stream over that of the raw one that is to be reached."""
EVENTS = 100_000
ROUNDS = 21
_WORKFLOWS = "tests/system/conformance/workflows.py:Counter=counter"


async def measure(bench: Bench, able: list[Client], events: int = EVENTS) -> list[Row]:
    """Have each client read a run of so many events from both servers, in turn, and tell the medians of its rounds."""
    rows = []
    async with stepwire_server(bench.data(), workflows=[_WORKFLOWS]).called() as (server, caller):
        run_id = await caller.start("counter", json.dumps({"ticks": events, "payload": "x" * 100}).encode())
        await caller.ended(run_id)
        frames = [frame.SerializeToString() async for frame in caller.stream(run_id)]
        file = bench.directory / "frames"
        file.write_bytes(marshal.dumps(frames))
        with raw_server(file) as raw:
            for client in able:
                addresses = server.address, raw.address
                found = await asyncio.to_thread(client.measure, *addresses, run_id, bench.repeats)
                key, title = f"foreign_{client.name.lower()}", f"one run's stream read by {client.name}"
                rates = found["events"] / found["stepwire"], found["events"] / found["raw"]
                rows.append(row(key, title, "events/s", "raw gRPC stream", *rates, target=LOWEST_RATIO))
    return rows


def told(figure: Row) -> str:
    """Return a figure for people."""
    client = figure.title.rpartition(" ")[2]
    rates = f"{figure.ours:,.0f} events/s, raw gRPC {figure.limit:,.0f} events/s"
    return f"{client}: {rates}, ratio {figure.ratio:.2f}"


async def foreign(bench: Bench) -> list[Row]:
    """Build the drivers that can measure and let each read both streams in turn."""
    able: list[Client] = []
    for client in clients():
        if client.bench:
            bench.say(f"building the {client.name} driver")
            try:
                await asyncio.to_thread(client.build)
                able.append(client)
            except (ToolchainMissingError, ClientError) as error:
                bench.notes.append(f"{client.name} reading a stream: skipped: {str(error).splitlines()[0]}")
    if not able:
        raise Skipped("no client of another language can measure here")
    events = bench.scaled(EVENTS, 5_000)
    bench.say(f"{', '.join(client.name for client in able)} read {events:,} events")
    return await measure(bench, able, events)
