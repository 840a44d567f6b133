"""How fast clients of other languages read a run's stream, beside a raw gRPC stream of the same frames.

`python -m tests.system.conformance --bench` uses it too.
"""

from __future__ import annotations

import asyncio
import json
import marshal
import tempfile
from pathlib import Path
from typing import Any, Final, NamedTuple

import grpc
from benchmarks.harness import Bench, Row, row
from benchmarks.processes import raw_server, stepwire_server
from tests.system.conformance.clients import Client, ClientError, ToolchainMissingError, clients

from stepwire.v1 import run_service_pb2 as pb
from stepwire.v1 import run_service_pb2_grpc, types_pb2

__all__ = ["Figures", "foreign", "measure"]

LOWEST_RATIO: Final = 0.8
"""The rate of a Stepwire stream over that of the raw one that is to be reached."""
EVENTS: Final = 100_000
ROUNDS: Final = 21
_WORKFLOWS: Final = "tests/system/conformance/workflows.py:Counter=counter"


class Figures(NamedTuple):
    """What a client measured: entries of the stream and median seconds to read it."""

    client: str
    events: int
    stepwire: float
    raw: float

    @property
    def ratio(self) -> float:
        """Return the rate of the Stepwire stream over the raw one."""
        return self.raw / self.stepwire

    def told(self) -> str:
        """Return the figures for people."""
        rates = f"{self.events / self.stepwire:,.0f} events/s, raw gRPC {self.events / self.raw:,.0f} events/s"
        return f"{self.client}: {rates}, ratio {self.ratio:.2f}"


def measure(able: list[Client], events: int = EVENTS, rounds: int = ROUNDS) -> list[Figures]:
    """Have each client read a run of so many events from both servers, in turn."""
    found: list[Figures] = []
    with (
        tempfile.TemporaryDirectory(prefix="stepwire-bench-") as data,
        stepwire_server(f"{data}/runs", workflows=_WORKFLOWS) as server,
    ):
        run_id, frames = _ended_run(server.address, events)
        file = Path(data, "frames")
        file.write_bytes(marshal.dumps(frames))
        with raw_server(file) as raw:
            for client in able:
                seen = client.measure(server.address, raw.address, run_id, rounds)
                found.append(Figures(client.name, int(seen["events"]), seen["stepwire"], seen["raw"]))
    return found


def _ended_run(address: str, events: int) -> tuple[str, list[bytes]]:
    """Let a run write events; return its id and the frames of its stream."""
    with grpc.insecure_channel(address) as channel:
        stub = run_service_pb2_grpc.RunServiceStub(channel)
        fields = json.dumps({"ticks": events, "payload": "x" * 100}).encode()
        start = pb.StartRunRequest(workflow="counter", input=types_pb2.Payload(json=fields))
        run_id = stub.StartRun(start, timeout=60).run.run_id
        stub.WaitRun(pb.WaitRunRequest(run_id=run_id), timeout=120)
        options = pb.StreamOptions(encoding=types_pb2.PAYLOAD_ENCODING_JSON)
        method = "/stepwire.v1.RunService/StreamEvents"
        call: Any = channel.unary_stream(method, pb.StreamEventsRequest.SerializeToString, None)
        return run_id, list(call(pb.StreamEventsRequest(run_id=run_id, options=options), timeout=120))


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
        bench.notes.append("no client of another language can measure here")
        return []
    events = bench.scaled(EVENTS, 5_000)
    bench.say(f"{', '.join(client.name for client in able)} read {events:,} events")
    rows: list[Row] = []
    for figure in await asyncio.to_thread(measure, able, events, bench.repeats):
        key, title = f"foreign_{figure.client.lower()}", f"one run's stream read by {figure.client}"
        rates = figure.events / figure.stepwire, figure.events / figure.raw
        rows.append(row(key, title, "events/s", "raw gRPC stream", *rates, target=LOWEST_RATIO))
    return rows
