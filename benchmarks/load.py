"""The client's side of the figures: calls through the generated stubs, the same for a raw server and for Stepwire."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable, Sequence
from contextlib import asynccontextmanager
from typing import Any

import grpc.aio
from benchmarks.workflows import TEXT
from google.protobuf.duration_pb2 import Duration

from stepwire.v1 import (
    run_service_pb2 as runs,
)
from stepwire.v1 import (
    run_service_pb2_grpc,
    state_service_pb2_grpc,
    types_pb2,
)
from stepwire.v1 import (
    state_service_pb2 as state,
)

__all__ = ["Caller", "one_at_a_time", "saturate"]

JSON = types_pb2.PAYLOAD_ENCODING_JSON
WAIT = Duration(seconds=30)

Call = Callable[[int], Awaitable[object]]


class Caller:
    """The stubs of one channel and the requests that figures make; use `Caller.open`."""

    def __init__(self, channel: grpc.aio.Channel) -> None:
        self.runs: Any = run_service_pb2_grpc.RunServiceStub(channel)
        self.state: Any = state_service_pb2_grpc.StateServiceStub(channel)

    @staticmethod
    @asynccontextmanager
    async def open(address: str) -> Any:
        """Open a channel of its own (gRPC would share connections between channels)."""
        options = (("grpc.use_local_subchannel_pool", 1), ("grpc.max_receive_message_length", -1))
        async with grpc.aio.insecure_channel(address, options) as channel:
            yield Caller(channel)

    async def start(self, workflow: str, payload: bytes = b"{}") -> str:
        """Start a run; return its id."""
        request = runs.StartRunRequest(workflow=workflow, input=types_pb2.Payload(json=payload), encoding=JSON)
        answer = await self.runs.StartRun(request)
        return str(answer.run.run_id)

    async def start_many(self, workflow: str, count: int, in_flight: int = 64, payload: bytes = b"{}") -> list[str]:
        """Start runs; return their ids."""
        ids: list[str] = []

        async def worker(share: int) -> None:
            for _ in range(share):
                ids.append(await self.start(workflow, payload))

        shares = [count // in_flight + (number < count % in_flight) for number in range(in_flight)]
        await asyncio.gather(*(worker(share) for share in shares))
        return ids

    async def ended(self, run_id: str, seconds: int = 600) -> Any:
        """Wait for the end of a run; RuntimeError when it did not complete."""
        answer = await self.runs.WaitRun(
            runs.WaitRunRequest(run_id=run_id, timeout=Duration(seconds=seconds), encoding=JSON)
        )
        if answer.run.status != types_pb2.RUN_STATUS_COMPLETED:
            raise RuntimeError(f"a run ended as {types_pb2.RunStatus.Name(answer.run.status)}")
        return answer.run

    def get_state(self, ids: Sequence[str]) -> Call:
        """Return the call that reads a value of 190 bytes, of each run in turn."""
        requests = [state.GetStateRequest(run_id=run_id, path="text", encoding=JSON) for run_id in ids]
        return lambda number: self.state.GetState(requests[number % len(requests)])

    def send_event(self, ids: Sequence[str]) -> Call:
        """Return the call that sends an event of 200 bytes, to each run in turn."""
        requests = [runs.SendEventRequest(run_id=run_id, event=ping()) for run_id in ids]
        return lambda number: self.runs.SendEvent(requests[number % len(requests)])

    def publish(self, ids: Sequence[str]) -> Call:
        """Return the call that writes an event of 200 bytes to the stream of each run in turn: one commit each."""
        requests = [runs.PublishEventRequest(run_id=run_id, event=ping()) for run_id in ids]
        return lambda number: self.runs.PublishEvent(requests[number % len(requests)])

    def run_trivial(self) -> Call:
        """Return the call that starts a trivial run and gets its result."""
        request = trivial_request()

        async def call(number: int) -> None:
            answer = await self.runs.StartRun(request)
            if answer.run.status != types_pb2.RUN_STATUS_COMPLETED:
                raise RuntimeError("a trivial run did not complete")

        return call

    async def read(self, run_id: str) -> int:
        """Read a run's stream from its beginning to its end; return how many events came."""
        request = runs.StreamEventsRequest(run_id=run_id, options=runs.StreamOptions(encoding=JSON))
        events = 0
        async for answer in self.runs.StreamEvents(request):
            events += len(answer.events.entries)
        return events


def trivial_request() -> Any:
    """Return the request that starts a trivial run and waits for its end."""
    return runs.StartRunRequest(
        workflow="Trivial", input=types_pb2.Payload(json=b"{}"), encoding=JSON, wait=WAIT, labels={}
    )


def ping() -> Any:
    """Return an event that a step of `Park` takes."""
    return types_pb2.Event(type="Ping", payload=types_pb2.Payload(json=b'{"text":"%s"}' % TEXT.encode()))


def answer(number: int = 0) -> Any:
    """Return an answer to a question."""
    return types_pb2.Event(type="Answer", payload=types_pb2.Payload(json=b'{"number":%d}' % number))


def go(run_id: str, count: int) -> Any:
    """Return the request that lets a held run write events."""
    event = types_pb2.Event(type="Go", payload=types_pb2.Payload(json=b'{"count":%d}' % count))
    return runs.SendEventRequest(run_id=run_id, event=event)


async def saturate(call: Call, in_flight: int, seconds: float) -> tuple[float, int]:
    """Keep calls in flight for some seconds; return calls per second, and calls."""
    done = 0
    began = time.perf_counter()
    end = began + seconds

    async def worker(number: int) -> None:
        nonlocal done
        while time.perf_counter() < end:
            await call(number)
            done += 1

    await asyncio.gather(*(worker(number) for number in range(in_flight)))
    return done / (time.perf_counter() - began), done


async def one_at_a_time(call: Call, seconds: float) -> tuple[float, int]:
    """Call one after the other; return the median seconds of a call, and calls."""
    times: list[float] = []
    end = time.perf_counter() + seconds
    while time.perf_counter() < end:
        began = time.perf_counter()
        await call(len(times))
        times.append(time.perf_counter() - began)
    times.sort()
    return times[len(times) // 2], len(times)
