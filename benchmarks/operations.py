"""The operations whose cost is looked into, on a server in this process: see `benchmarks.budget`.

The calls are made by gRPC without asyncio, on a thread of its own that nothing is counted on.
"""

from __future__ import annotations

import asyncio
import http.client
import sys
import threading
from collections import deque
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, Final, NamedTuple, Protocol, TypeVar

import grpc
from benchmarks.load import IN_FLIGHT, OPTIONS, event, start_request
from benchmarks.peer import flows

from stepwire.server.app import Server, Settings
from stepwire.server.registry import Registry
from stepwire.v1 import run_service_pb2 as runs
from stepwire.v1 import run_service_pb2_grpc, state_service_pb2_grpc, types_pb2
from stepwire.v1 import state_service_pb2 as state

__all__ = ["STREAMED", "WARM", "Client", "Operation", "counted", "hooked"]

T = TypeVar("T")

STREAMED: Final = 1024
"""Events of a stream that is read."""
_CALLS: Final = 320
WARM: Final = 5
"""Calls that are made before any are counted: they fill caches."""


class Operation(NamedTuple):
    """Something to measure: `make` does it `times` times."""

    make: Callable[[], object]
    times: int


async def hooked(directory: Path, hook: Any, work: Callable[[Server], T], *, web: bool = False) -> T:
    """Do something with a server in this process, on a thread of its own that nothing is counted on.

    The server has the benchmarks' workflows, SQLite and no watchdog, and runs on the running event loop.

    Args:
        directory: Where the server keeps its data.
        hook: Set on all threads of the server by `sys.setprofile`; None for none.
        work: Gets the server.
        web: Whether the server serves the web too.
    """
    registry = Registry()
    for workflow in (flows.Trivial, flows.Park, flows.Talk, flows.Survey):
        registry.add(workflow.__name__, workflow(timeout=None))
    shown = "127.0.0.1:0" if web else "off"

    def unhooked(server: Server) -> T:
        sys.setprofile(None)
        return work(server)

    threading.setprofile(hook)
    try:
        server = Server(registry, Settings(address="127.0.0.1:0", data=str(directory), watchdog=0, web_address=shown))
        await server.start()
        sys.setprofile(hook)
        try:
            return await asyncio.to_thread(unhooked, server)
        finally:
            sys.setprofile(None)
            await server.stop()
    finally:
        threading.setprofile(None)


class Counts(Protocol):
    """Counts something of a server while it is `on`."""

    on: bool


def counted(counts: Counts, operations: int, call: Callable[[], object]) -> None:
    """Have so many calls counted, once caches are filled."""
    for _ in range(WARM):
        call()
    counts.on = True
    for _ in range(operations):
        call()
    counts.on = False


class Client:
    """Make the operations."""

    def __init__(self, address: str) -> None:
        channel = grpc.insecure_channel(address, (("grpc.use_local_subchannel_pool", 1),))
        self.runs: Any = run_service_pb2_grpc.RunServiceStub(channel)
        self.state: Any = state_service_pb2_grpc.StateServiceStub(channel)
        self.trivial = start_request("Trivial", wait=30)

    def start(self, workflow: str, payload: bytes = b"{}") -> str:
        """Start a run; return its id."""
        return str(self.runs.StartRun(start_request(workflow, payload)).run.run_id)

    def send(self, run_id: str, message: Any) -> None:
        """Send an event to a run."""
        self.runs.SendEvent(runs.SendEventRequest(run_id=run_id, event=message))

    def parked(self) -> tuple[Any, Any]:
        """Start a run that waits; return a send to it and a read of its state."""
        run_id = self.start("Park")
        read = state.GetStateRequest(run_id=run_id, path="text", encoding=types_pb2.PAYLOAD_ENCODING_JSON)
        return runs.SendEventRequest(run_id=run_id, event=event("Ping")), read

    def unary(self) -> dict[str, Callable[[], object]]:
        """Return what makes each unary operation once."""
        send, read = self.parked()
        return {
            "StartRun(wait)": lambda: self.runs.StartRun(self.trivial),
            "SendEvent": lambda: self.runs.SendEvent(send),
            "GetState": lambda: self.state.GetState(read),
        }

    def talk(self, web: str = "") -> Callable[[], None]:
        """Start a run that streams; return what has it write and reads all of it, as server-sent events of `web`."""
        run_id = self.start("Talk", b'{"count":0}')
        if web:
            parts: Iterator[object] = _sent(web, run_id)
            next(parts)  # the stream is open
        else:
            parts = self.runs.StreamEvents(runs.StreamEventsRequest(run_id=run_id, options=OPTIONS))

        def read() -> None:
            self.send(run_id, event("Go", b'{"count":%d}' % STREAMED))
            for _ in parts:
                pass

        return read

    def operations(self) -> dict[str, Operation]:
        """Return the operations, with 64 calls in flight."""
        parked = [self.parked() for _ in range(IN_FLIGHT)]
        return {
            "StartRun(wait)": Operation(lambda: self._many(self.runs.StartRun, [self.trivial]), _CALLS),
            "SendEvent": Operation(lambda: self._many(self.runs.SendEvent, [each[0] for each in parked]), _CALLS),
            "GetState": Operation(lambda: self._many(self.state.GetState, [each[1] for each in parked]), _CALLS),
            "a streamed event": Operation(lambda: self.talk()(), STREAMED),
        }

    def _many(self, method: Any, requests: list[Any]) -> None:
        under_way: deque[Any] = deque()
        for number in range(_CALLS):
            if len(under_way) == IN_FLIGHT:
                under_way.popleft().result()
            under_way.append(method.future(requests[number % len(requests)]))
        for call in under_way:
            call.result()


def _sent(web: str, run_id: str) -> Iterator[bytes]:
    """Read the server-sent events of a run in blocks, the first of which is empty."""
    connection = http.client.HTTPConnection(web)
    connection.request("GET", f"/v1/runs/{run_id}/events")
    response = connection.getresponse()
    yield b""
    while block := response.read1(1 << 16):
        yield block
    connection.close()
