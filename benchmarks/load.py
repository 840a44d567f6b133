"""The client's side of the figures: calls through the generated stubs, the same for a raw server and for Stepwire."""

from __future__ import annotations

import asyncio
import re
import shutil
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path
from statistics import median
from typing import Any

import grpc.aio
from benchmarks.harness import Skipped, output
from benchmarks.peer.flows import TEXT
from google.protobuf.duration_pb2 import Duration

from stepwire.v1 import run_service_pb2 as runs
from stepwire.v1 import run_service_pb2_grpc, state_service_pb2_grpc, types_pb2
from stepwire.v1 import state_service_pb2 as state

JSON = types_pb2.PAYLOAD_ENCODING_JSON
OPTIONS = runs.StreamOptions(encoding=JSON)
IN_FLIGHT = 64
CHANNELS = 4
SMALLEST_ANSWER = 100
"""Bytes of the smallest answer that h2load waits for."""

Call = Callable[[int], Awaitable[object]]
"""Makes the n-th call."""
Read = Callable[[str, int], Awaitable[int]]
"""Reads the events of a run to its end; returns how many came. RuntimeError if there are fewer than it was told."""


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
    """The stubs of a server's channels and the requests that figures make; use `open`. `raw`: of the bare server."""

    def __init__(self, address: str, channels: Sequence[grpc.aio.Channel], raw: bool) -> None:
        self.address, self.raw = address, raw
        self._stubs: list[Any] = [run_service_pb2_grpc.RunServiceStub(channel) for channel in channels]
        self.runs = self._stubs[0]
        self.state: Any = state_service_pb2_grpc.StateServiceStub(channels[0])

    @staticmethod
    @asynccontextmanager
    async def open(address: str, raw: bool = False) -> AsyncIterator[Caller]:
        """Open channels of their own (gRPC would share connections between them); each connects when it is used."""
        options = (("grpc.use_local_subchannel_pool", 1), ("grpc.max_receive_message_length", -1))
        async with AsyncExitStack() as stack:
            channels = [grpc.aio.insecure_channel(address, options) for _ in range(CHANNELS)]
            yield Caller(address, [await stack.enter_async_context(channel) for channel in channels], raw)

    async def start(self, workflow: str, payload: bytes = b"{}") -> str:
        """Start a run; return its id."""
        return str((await self.runs.StartRun(start_request(workflow, payload))).run.run_id)

    async def start_many(self, workflow: str, count: int = IN_FLIGHT) -> list[str]:
        """Start runs, 64 at a time; return their ids."""
        ids: list[str] = []

        async def call(number: int) -> None:
            ids.append(await self.start(workflow))

        await shared(call, count)
        return ids

    async def held(self, count: int) -> str:
        """Return a run that writes `count` events once it is told to; one of the raw server waits for nothing."""
        return f"raw-{count}" if self.raw else await self.start("Talk", b'{"count":0}')

    async def go(self, run_id: str, count: int) -> None:
        """Tell it to."""
        await self.send(run_id, event("Go", b'{"count":%d}' % count))

    async def written(self, count: int) -> str:
        """Return a run that has written so many events, and ended."""
        run_id = await self.held(count)
        await self.go(run_id, count)
        if not self.raw:
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

    async def read(self, run_id: str, count: int = 0, channel: int = 0) -> int:
        """Read a run's stream to its end; return how many events came. RuntimeError below `count`."""
        events = 0
        async for frame in self.stream(run_id, channel):
            events += len(frame.events.entries)
        if events < count:
            raise RuntimeError(f"a stream of {count} events gave {events}")
        return events


def _completed(run: Any) -> Any:
    if run.status != types_pb2.RUN_STATUS_COMPLETED:
        raise RuntimeError(f"a run ended as {types_pb2.RunStatus.Name(run.status)}")
    return run


async def shared(call: Call, count: int, in_flight: int = IN_FLIGHT) -> tuple[float, int]:
    """Make so many calls, `in_flight` at a time; return calls per second, and calls."""
    left = iter(range(count))
    began = time.perf_counter()

    async def worker() -> None:
        for number in left:
            await call(number)

    await asyncio.gather(*(worker() for _ in range(min(in_flight, count))))
    return count / (time.perf_counter() - began), count


async def saturate(call: Call, seconds: float) -> tuple[float, int]:
    """Keep 64 calls in flight for some seconds; return calls per second, and calls."""
    done = 0
    began = time.perf_counter()

    async def worker(number: int) -> None:
        nonlocal done
        while time.perf_counter() < began + seconds:
            await call(number)
            done += 1

    await asyncio.gather(*(worker(number) for number in range(IN_FLIGHT)))
    return done / (time.perf_counter() - began), done


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


async def live(caller: Caller, count: int, reads: Sequence[Read]) -> tuple[float, int]:
    """Read a run while it writes `count` events, in several ways at once; return events per second, and events."""
    run_id = await caller.held(count)
    began = time.perf_counter()
    reading = asyncio.gather(*(read(run_id, count) for read in reads))
    await asyncio.sleep(0)  # the streams are asked for before the run goes on
    await caller.go(run_id, count)
    events = sum(await reading)
    return events / (time.perf_counter() - began), events


async def replay(run_id: str, count: int, read: Read) -> tuple[float, int]:
    """Read a run that has written `count` events; return events per second, and events."""
    began = time.perf_counter()
    events = await read(run_id, count)
    return events / (time.perf_counter() - began), events


async def h2load(url: str, message: Path, calls: int, *options: str) -> tuple[float, int]:
    """Post a message so many times by a C client; return calls per second, and calls. RuntimeError if one fails."""
    if shutil.which("h2load") is None:
        raise Skipped("h2load is not installed (Debian: nghttp2-client)")
    text = await output(600, "h2load", "-t", "1", "-n", str(calls), "-d", message, *options, url)
    found = re.search(r"finished in .*?, ([\d.]+) req/s.* (\d+) succeeded.*\((\d+)\) data", text, re.DOTALL)
    # h2load sees HTTP only, where an error of gRPC is a success: but only an answer has data.
    if not found or int(found[2]) != calls or int(found[3]) < calls * SMALLEST_ANSWER:
        raise RuntimeError(f"h2load failed: {text[-500:]}")
    return float(found[1]), calls
