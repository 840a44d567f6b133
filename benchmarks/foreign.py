"""How fast clients of other languages read a run's stream, beside a raw gRPC stream of the same frames.

`python -m tests.system.conformance --bench` uses it too.
"""

import asyncio
import json
import marshal
from collections.abc import AsyncIterator, Iterator, Sequence

from benchmarks.harness import Bench, Row, Skipped, row
from benchmarks.servers import raw_server, stepwire_server
from tests.system.conformance.clients import Client, ClientError, ToolchainMissingError, clients

LOWEST_RATIO = 0.8
"""The rate of a Stepwire stream over that of the raw one that is to be reached."""
_WORKFLOWS = "tests/system/conformance/workflows.py:Counter=counter"


def able(bench: Bench) -> Iterator[Client]:
    """Build the drivers that can measure; return those that were built."""
    for client in clients():
        if client.bench:
            bench.say(f"building the {client.name} driver")
            try:
                client.build()
                yield client
            except (ToolchainMissingError, ClientError) as error:
                bench.notes.append(f"{client.name} reading a stream: skipped: {str(error).splitlines()[0]}")


async def foreign(bench: Bench, chosen: Sequence[Client] = ()) -> AsyncIterator[Row]:
    """Have each client read a run from both servers, in turn, and tell the medians of its rounds."""
    chosen, events = chosen or list(able(bench)), bench.scaled(100_000, 5_000)
    if not chosen:
        raise Skipped("no client of another language can measure here")
    async with stepwire_server(bench.data(), workflows=[_WORKFLOWS]).called() as server:
        run_id = await server.caller.start("counter", json.dumps({"ticks": events, "payload": "x" * 100}).encode())
        await server.caller.ended(run_id)
        frames = [frame.SerializeToString() async for frame in server.caller.stream(run_id)]
        file = bench.directory / "frames"
        file.write_bytes(marshal.dumps(frames))
        with raw_server(file) as raw:
            for client in chosen:
                bench.say(f"{client.name} reads {events:,} events")
                addresses = server.address, raw.address
                found = await asyncio.to_thread(client.measure, *addresses, run_id, bench.repeats)
                key, title = f"foreign_{client.name.lower()}", f"one run's stream read by {client.name}"
                rates = found["events"] / found["stepwire"], found["events"] / found["raw"]
                yield row(key, title, "events/s", "raw gRPC stream", *rates, target=LOWEST_RATIO)


def told(figure: Row) -> str:
    """Return a figure for people."""
    client = figure.title.rpartition(" ")[2]
    rates = f"{figure.ours:,.0f} events/s, raw gRPC {figure.limit:,.0f} events/s"
    return f"{client}: {rates}, ratio {figure.ratio:.2f}"
