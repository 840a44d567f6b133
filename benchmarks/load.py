"""The client's side of the figures: calls through the generated stubs, the same for a raw server and for Stepwire."""

import asyncio
import re
import shutil
import tempfile
import time
from collections.abc import Awaitable, Callable, Sequence
from itertools import count, takewhile
from statistics import median
from typing import Any

import grpc.aio
from benchmarks.harness import Skipped, output
from benchmarks.peer.flows import TEXT
from benchmarks.peer.loads import IN_FLIGHT, together
from google.protobuf.duration_pb2 import Duration

from stepwire.v1 import run_service_pb2 as runs
from stepwire.v1 import run_service_pb2_grpc, state_service_pb2_grpc, types_pb2
from stepwire.v1 import state_service_pb2 as state

JSON = types_pb2.PAYLOAD_ENCODING_JSON
OPTIONS = runs.StreamOptions(encoding=JSON)
CHANNELS = 4
SMALLEST_ANSWER = 100
"""Bytes of the smallest answer that h2load waits for."""

Call = Callable[[int], Awaitable[object]]
"""Makes the n-th call."""
Read = Callable[[str], Awaitable[int]]
"""Reads the events of a run to its end; returns how many came."""


def start_request(workflow: str, payload: bytes = b"{}", *, wait: int = 0) -> Any:
    """Return the request that starts a run, and waits up to `wait` seconds for its end."""
    request = runs.StartRunRequest(workflow=workflow, input=types_pb2.Payload(json=payload), encoding=JSON)
    if wait:
        request.wait.FromSeconds(wait)
    return request


def event(name: str, payload: bytes = b'{"text":"%s"}' % TEXT.encode()) -> Any:
    """Return an event, of 200 bytes unless told otherwise."""
    return types_pb2.Event(type=name, payload=types_pb2.Payload(json=payload))


class Caller:
    """The stubs of a server and the requests that figures make; close it. `raw`: of the bare server.

    Its channels are its own (gRPC would share connections between them); each connects when it is used.
    """

    def __init__(self, address: str, raw: bool = False) -> None:
        options = (("grpc.use_local_subchannel_pool", 1), ("grpc.max_receive_message_length", -1))
        self._channels = [grpc.aio.insecure_channel(address, options) for _ in range(CHANNELS)]
        self._stubs: list[Any] = [run_service_pb2_grpc.RunServiceStub(channel) for channel in self._channels]
        self.address, self.raw, self.runs = address, raw, self._stubs[0]
        self.state: Any = state_service_pb2_grpc.StateServiceStub(self._channels[0])

    async def aclose(self) -> None:
        """Close the channels."""
        await asyncio.gather(*(channel.close() for channel in self._channels))

    async def start(self, workflow: str, payload: bytes = b"{}") -> str:
        """Start a run; return its id."""
        return str((await self.runs.StartRun(start_request(workflow, payload))).run.run_id)

    async def start_many(self, workflow: str, runs: int = IN_FLIGHT) -> list[str]:
        """Start runs, 64 at a time; return their ids."""
        ids: list[str] = []

        async def call(number: int) -> None:
            ids.append(await self.start(workflow))

        await together(call, range(runs))
        return ids

    async def held(self, events: int) -> str:
        """Return a run that writes so many events once `Go` says it; one of the raw server waits for nothing."""
        return f"raw-{events}" if self.raw else await self.start("Talk", b'{"count":0}')

    async def written(self, events: int) -> str:
        """Return a run that has written so many events, and ended."""
        if self.raw:
            return f"raw-{events}"
        run_id = await self.start("Talk", b'{"count":%d}' % events)
        await self.ended(run_id)
        return run_id

    async def ended(self, run_id: str) -> Any:
        """Wait for the end of a run; RuntimeError when it did not complete."""
        request = runs.WaitRunRequest(run_id=run_id, timeout=Duration(seconds=600), encoding=JSON)
        return _completed((await self.runs.WaitRun(request)).run)

    async def send(self, run_id: str, message: Any) -> None:
        """Send an event to a run."""
        await self.runs.SendEvent(runs.SendEventRequest(run_id=run_id, event=message))

    def each(self, method: str, ids: Sequence[str]) -> Call:
        """Return the call of a method for each run in turn, with a value or an event of 200 bytes."""
        if method == "GetState":
            reads = [state.GetStateRequest(run_id=run_id, path="text", encoding=JSON) for run_id in ids]
            return lambda number: self.state.GetState(reads[number % len(ids)])
        kind = {"SendEvent": runs.SendEventRequest, "PublishEvent": runs.PublishEventRequest}[method]
        sends = [kind(run_id=run_id, event=event("Ping")) for run_id in ids]
        call = getattr(self.runs, method)
        return lambda number: call(sends[number % len(ids)])

    def run_to_end(self, workflow: str = "Trivial", payload: bytes = b"{}") -> Call:
        """Return the call that starts a run and gets its result."""
        request = start_request(workflow, payload, wait=30)

        async def call(number: int) -> None:
            _completed((await self.runs.StartRun(request)).run)

        return call

    def stream(self, run_id: str, channel: int = 0) -> Any:
        """Open the stream of a run, from its beginning."""
        return self._stubs[channel % CHANNELS].StreamEvents(runs.StreamEventsRequest(run_id=run_id, options=OPTIONS))

    async def read(self, run_id: str, channel: int = 0) -> int:
        """Read a run's stream to its end; return how many events came."""
        return sum([len(frame.events.entries) async for frame in self.stream(run_id, channel)])


def _completed(run: Any) -> Any:
    if run.status != types_pb2.RUN_STATUS_COMPLETED:
        raise RuntimeError(f"a run ended as {types_pb2.RunStatus.Name(run.status)}")
    return run


async def saturate(call: Call, seconds: float) -> tuple[float, int]:
    """Keep 64 calls in flight for some seconds; return calls per second, and calls."""
    end = time.perf_counter() + seconds
    return await together(call, takewhile(lambda _: time.perf_counter() < end, count()))


async def one_at_a_time(call: Call, seconds: float) -> tuple[float, int]:
    """Call one after the other; return the median seconds of a call, and calls.

    A call that returns a number has measured itself: that is its seconds.
    """
    times: list[float] = []
    end = time.perf_counter() + seconds
    while time.perf_counter() < end:
        began = time.perf_counter()
        found = await call(len(times))
        times.append(found if isinstance(found, float) else time.perf_counter() - began)
    return median(times), len(times)


async def live(caller: Caller, written: int, reads: Sequence[Read]) -> tuple[float, int]:
    """Read a run while it writes so many events, in several ways at once; return events per second, and events."""
    run_id = await caller.held(written)
    began = time.perf_counter()
    reading = asyncio.gather(*(read(run_id) for read in reads))
    await asyncio.sleep(0)  # the streams are asked for before the run goes on
    await caller.send(run_id, event("Go", b'{"count":%d}' % written))
    return _rate(sum(await reading), written * len(reads), began)


async def replay(run_id: str, written: int, read: Read) -> tuple[float, int]:
    """Read a run that has written so many events; return events per second, and events."""
    began = time.perf_counter()
    return _rate(await read(run_id), written, began)


def _rate(events: int, written: int, began: float) -> tuple[float, int]:
    if events < written:
        raise RuntimeError(f"{written} events gave {events}")
    return events / (time.perf_counter() - began), events


async def h2load(url: str, message: bytes, calls: int, *options: str) -> tuple[float, int]:
    """Post a message so many times by a C client; return calls per second, and calls. RuntimeError if one fails."""
    if shutil.which("h2load") is None:
        raise Skipped("h2load is not installed (Debian: nghttp2-client)")
    with tempfile.NamedTemporaryFile(buffering=0) as file:
        file.write(message)
        text = await output(600, "h2load", "-t", "1", "-n", str(calls), "-d", file.name, *options, url)
    found = re.search(r"finished in .*?, ([\d.]+) req/s.* (\d+) succeeded.*\((\d+)\) data", text, re.DOTALL)
    # h2load sees HTTP only, where an error of gRPC is a success: but only an answer has data.
    if not found or int(found[2]) != calls or int(found[3]) < calls * SMALLEST_ANSWER:
        raise RuntimeError(f"h2load failed: {text[-500:]}")
    return float(found[1]), calls
