"""How fast clients of other languages read a run's stream, beside a raw gRPC stream of the same messages."""

from __future__ import annotations

import asyncio

from benchmarks import raw_stream
from benchmarks.measure import Bench, Row
from tests.system.conformance.clients import Client, ClientError, ToolchainMissingError, clients

__all__ = ["foreign"]


async def foreign(bench: Bench) -> list[Row]:
    """Build the drivers that can measure and let each read both streams in turn."""
    able: list[Client] = []
    for client in clients():
        if not client.bench:
            continue
        bench.say(f"building the {client.name} driver")
        try:
            await asyncio.to_thread(client.build)
        except (ToolchainMissingError, ClientError) as error:
            bench.notes.append(f"{client.name} reading a stream: skipped: {str(error).splitlines()[0]}")
        else:
            able.append(client)
    if not able:
        bench.notes.append("no client of another language can measure here")
        return []
    events = bench.scaled(raw_stream.EVENTS, 5_000)
    bench.say(f"{', '.join(client.name for client in able)} read {events:,} events")
    figures = await asyncio.to_thread(raw_stream.measure, able, events, bench.repeats)
    return [
        Row(
            f"foreign_{figure.client.lower()}",
            f"one run's stream read by {figure.client}",
            "events/s",
            figure.events / figure.stepwire,
            figure.events / figure.raw,
            "raw gRPC stream",
            figure.ratio,
            target=raw_stream.LOWEST_RATIO,
        )
        for figure in figures
    ]
