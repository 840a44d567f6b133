"""A bare grpc.aio server that answers the contract's methods with fixed messages: the limit that figures are held to.

The answers have the sizes of real ones. Nothing is looked up, checked, kept or committed.

    python -m benchmarks.raw_server [--address 127.0.0.1:0]

A run's id says how many events its stream has: "raw-100000".
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import signal
import sys
import time
from collections.abc import AsyncIterator, Callable
from typing import Any

import grpc
from benchmarks.workflows import TEXT

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

BATCH = 64
"""Events in a batch of a raw stream."""


def _run() -> types_pb2.Run:
    run = types_pb2.Run(
        run_id="0" * 32,
        workflow="Trivial",
        workflow_version="0" * 12,
        status=types_pb2.RUN_STATUS_COMPLETED,
        last_sequence=3,
        first_available=1,
        outcome=types_pb2.Outcome(
            status=types_pb2.RUN_STATUS_COMPLETED,
            event_type="StopEvent",
            result=types_pb2.Payload(json=b'"done"'),
        ),
    )
    now = time.time_ns()
    for field in (run.created_at, run.updated_at, run.ended_at):
        field.FromNanoseconds(now)
    return run


def _entries(first: int, count: int) -> types_pb2.EventBatch:
    batch = types_pb2.EventBatch(from_sequence=first, to_sequence=first + count - 1)
    payload = types_pb2.Payload(json=b'{"text":"%s"}' % TEXT.encode())
    now = time.time_ns()
    for sequence in range(first, first + count):
        entry = batch.entries.add(
            sequence=sequence, kind=types_pb2.ENTRY_KIND_STREAM, type="Token", payload=payload, step="talk"
        )
        entry.time.FromNanoseconds(now)
    return batch


class RawRuns(run_service_pb2_grpc.RunServiceServicer):
    """The methods of RunService that are measured."""

    def __init__(self) -> None:
        self._started = runs.StartRunResponse(run=_run())
        self._sent = runs.SendEventResponse(sequence=100, delivered=1)
        self._batch = runs.StreamEventsResponse(events=_entries(1, BATCH))
        self._one = runs.ConverseResponse(events=_entries(1, 1))

    async def StartRun(self, request: Any, context: Any) -> Any:  # noqa: N802 - named by the contract
        """Answer a run that has ended."""
        return self._started

    async def SendEvent(self, request: Any, context: Any) -> Any:  # noqa: N802
        """Answer a sequence."""
        return self._sent

    async def StreamEvents(self, request: Any, context: Any) -> AsyncIterator[Any]:  # noqa: N802
        """Send the batches, then the end."""
        for _ in range(-(-int(request.run_id.removeprefix("raw-")) // BATCH)):
            yield self._batch
        yield runs.StreamEventsResponse(finished=runs.RunFinished(outcome=_run().outcome))

    async def Converse(self, requests: AsyncIterator[Any], context: Any) -> AsyncIterator[Any]:  # noqa: N802
        """Open, then answer each send with an event."""
        async for request in requests:
            if request.HasField("send"):
                yield self._one
            else:
                yield runs.ConverseResponse(opened=runs.ConverseOpened(run=_run(), first_available=1, next_sequence=1))


class RawState(state_service_pb2_grpc.StateServiceServicer):
    """The method of StateService that is measured."""

    def __init__(self) -> None:
        self._value = state.GetStateResponse(value=types_pb2.Payload(json=b'"%s"' % TEXT.encode()), etag="0" * 16)

    async def GetState(self, request: Any, context: Any) -> Any:  # noqa: N802
        """Answer a value."""
        return self._value


async def serve(address: str) -> None:
    """Serve until SIGTERM."""
    server = grpc.aio.server(options=(("grpc.so_reuseport", 0),))
    run_service_pb2_grpc.add_RunServiceServicer_to_server(RawRuns(), server)
    state_service_pb2_grpc.add_StateServiceServicer_to_server(RawState(), server)
    port = server.add_insecure_port(address)
    stopping = asyncio.Event()
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, stopping.set)
    await server.start()
    sys.stderr.write(f"raw: listening on {address.rpartition(':')[0]}:{port}\n")
    sys.stderr.flush()
    await stopping.wait()
    await server.stop(0)


def _loop_factory() -> Callable[[], asyncio.AbstractEventLoop] | None:
    with contextlib.suppress(ImportError):  # not made for Windows
        import uvloop

        return uvloop.new_event_loop
    return None


def main() -> None:
    """Serve."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--address", default="127.0.0.1:0")
    with asyncio.Runner(loop_factory=_loop_factory()) as runner:
        runner.run(serve(parser.parse_args().address))


if __name__ == "__main__":
    main()
