"""How fast foreign clients read a run's stream, compared with a raw gRPC stream of the same messages.

The raw server is gRPC and nothing else: it answers StreamEvents with the frames of the same stream, bytes made before.
Each client reads both in turn, in one run of its driver. `python -m benchmarks.raw_stream [EVENTS]`
"""

from __future__ import annotations

import asyncio
import json
import sys
import tempfile
import threading
from collections.abc import AsyncIterator, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, Final

import grpc
from tests.serving import ServerProcess
from tests.system.conformance.clients import Client, ToolchainMissingError, clients

from stepwire.v1 import run_service_pb2 as pb
from stepwire.v1 import run_service_pb2_grpc, types_pb2

LOWEST_RATIO: Final = 0.8
"""The rate of a Stepwire stream over that of the raw one that issue and tests ask for."""

EVENTS: Final = 100_000
ROUNDS: Final = 21
_PAYLOAD: Final = "x" * 100
_METHOD: Final = "/stepwire.v1.RunService/StreamEvents"


@dataclass(frozen=True, slots=True)
class Figures:
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
    """Have each client read a run of so many events from both servers."""
    found: list[Figures] = []
    with (
        tempfile.TemporaryDirectory(prefix="stepwire-bench-") as data,
        ServerProcess(data, ["tests/system/conformance/workflows.py:Counter=counter"]) as server,
    ):
        run_id, frames = _ended_run(server.address, events)
        with _raw_server(frames) as raw:
            for client in able:
                seen = client.measure(server.address, raw, run_id, rounds)
                found.append(Figures(client.name, int(seen["events"]), seen["stepwire"], seen["raw"]))
    return found


def _ended_run(address: str, events: int) -> tuple[str, list[bytes]]:
    """Let a run write events; return its id and the frames of its stream."""
    with grpc.insecure_channel(address) as channel:
        stub = run_service_pb2_grpc.RunServiceStub(channel)
        fields = json.dumps({"ticks": events, "payload": _PAYLOAD}).encode()
        start = pb.StartRunRequest(workflow="counter", input=types_pb2.Payload(json=fields))
        run_id = stub.StartRun(start, timeout=60).run.run_id
        stub.WaitRun(pb.WaitRunRequest(run_id=run_id), timeout=120)
        options = pb.StreamOptions(encoding=types_pb2.PAYLOAD_ENCODING_JSON)
        request = pb.StreamEventsRequest(run_id=run_id, options=options)
        call: Any = channel.unary_stream(_METHOD, pb.StreamEventsRequest.SerializeToString, None)
        return run_id, list(call(request, timeout=120))


@contextmanager
def _raw_server(frames: list[bytes]) -> Iterator[str]:
    """Serve the frames from a loop of its own; give the address."""

    async def stream(request: bytes, context: Any) -> AsyncIterator[bytes]:
        for frame in frames:
            yield frame

    async def serve() -> None:
        server = grpc.aio.server(options=(("grpc.so_reuseport", 0),))
        method: Any = grpc.unary_stream_rpc_method_handler(stream, None, None)
        service, name = _METHOD.strip("/").split("/")
        server.add_generic_rpc_handlers((grpc.method_handlers_generic_handler(service, {name: method}),))
        address.append(f"127.0.0.1:{server.add_insecure_port('127.0.0.1:0')}")
        await server.start()
        started.set()
        await stopping.wait()
        await server.stop(0)

    address: list[str] = []
    started = threading.Event()
    stopping = asyncio.Event()
    loop = asyncio.new_event_loop()
    thread = threading.Thread(target=loop.run_until_complete, args=(serve(),))
    thread.start()
    try:
        if not started.wait(30):
            raise RuntimeError("the raw server did not start")
        yield address[0]
    finally:
        loop.call_soon_threadsafe(stopping.set)
        thread.join()
        loop.close()


def main() -> None:
    """Build the clients that can measure; print their figures; exit with 1 when one is too slow."""
    events = int(sys.argv[1]) if len(sys.argv) > 1 else EVENTS
    able = []
    for client in clients():
        if client.bench:
            try:
                client.build()
                able.append(client)
            except ToolchainMissingError as error:
                print(f"skipping {client.name}: {error}")
    figures = measure(able, events)
    for figure in figures:
        print(figure.told())
    sys.exit(1 if any(figure.ratio < LOWEST_RATIO for figure in figures) else 0)


if __name__ == "__main__":
    main()
