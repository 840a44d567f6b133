"""A bare grpc.aio server that answers the contract's methods with fixed messages: the limit of the figures.

The answers have the sizes of real ones. Nothing is looked up, checked, kept or committed.

    python -m benchmarks.raw_server serve … [FRAMES]        started like `stepwire serve`, whose options it ignores

The id of a run says how many events its stream has: "raw-100000". With a file of frames (`marshal`, a list of bytes)
every stream has those frames, and nothing else is served.
"""

import asyncio
import marshal
import sys
import time
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import grpc
import uvloop
from benchmarks.peer.flows import TEXT

from stepwire.v1 import run_service_pb2 as runs
from stepwire.v1 import run_service_pb2_grpc, state_service_pb2_grpc, types_pb2
from stepwire.v1 import state_service_pb2 as state

BATCH = 64
"""Events in a batch of a raw stream."""


def _run() -> types_pb2.Run:
    run = types_pb2.Run(run_id="0" * 32, workflow="Trivial", workflow_version="0" * 12, last_sequence=3)
    run.status = run.outcome.status = types_pb2.RUN_STATUS_COMPLETED
    run.first_available = 1
    run.outcome.event_type = "StopEvent"
    run.outcome.result.json = b'"done"'
    for field in (run.created_at, run.updated_at, run.ended_at):
        field.FromNanoseconds(time.time_ns())
    return run


def _entries(count: int) -> types_pb2.EventBatch:
    batch = types_pb2.EventBatch(from_sequence=1, to_sequence=count)
    payload = types_pb2.Payload(json=b'{"text":"%s"}' % TEXT.encode())
    for sequence in range(1, count + 1):
        kind = types_pb2.ENTRY_KIND_STREAM
        entry = batch.entries.add(sequence=sequence, kind=kind, type="Token", payload=payload, step="talk")
        entry.time.FromNanoseconds(time.time_ns())
    return batch


class RawService(run_service_pb2_grpc.RunServiceServicer, state_service_pb2_grpc.StateServiceServicer):
    """The methods that are measured; each answers what it has ready."""

    def __init__(self) -> None:
        self._started = runs.StartRunResponse(run=_run())
        self._sent = runs.SendEventResponse(sequence=100, delivered=1)
        self._batch = runs.StreamEventsResponse(events=_entries(BATCH))
        self._opened = runs.ConverseResponse(opened=runs.ConverseOpened(run=_run(), first_available=1, next_sequence=1))
        self._one = runs.ConverseResponse(events=_entries(1))
        self._value = state.GetStateResponse(value=types_pb2.Payload(json=b'"%s"' % TEXT.encode()), etag="0" * 16)

    async def StartRun(self, request: Any, context: Any) -> Any:
        return self._started

    async def SendEvent(self, request: Any, context: Any) -> Any:
        return self._sent

    async def GetState(self, request: Any, context: Any) -> Any:
        return self._value

    async def StreamEvents(self, request: Any, context: Any) -> AsyncIterator[Any]:
        for _ in range(-(-int(request.run_id.removeprefix("raw-")) // BATCH)):
            yield self._batch
        yield runs.StreamEventsResponse(finished=runs.RunFinished(outcome=_run().outcome))

    async def Converse(self, requests: AsyncIterator[Any], context: Any) -> AsyncIterator[Any]:
        async for request in requests:
            if not request.HasField("send"):
                yield self._opened
            yield self._one


def _stream_of(frames: list[bytes]) -> grpc.GenericRpcHandler:
    async def stream(request: bytes, context: Any) -> AsyncIterator[bytes]:
        for frame in frames:
            yield frame

    method: Any = grpc.unary_stream_rpc_method_handler(stream, None, None)
    return grpc.method_handlers_generic_handler("stepwire.v1.RunService", {"StreamEvents": method})


async def serve(frames: list[bytes] | None) -> None:
    """Serve until the process is ended."""
    server = grpc.aio.server(options=(("grpc.so_reuseport", 0),))
    if frames is None:
        service = RawService()
        run_service_pb2_grpc.add_RunServiceServicer_to_server(service, server)
        state_service_pb2_grpc.add_StateServiceServicer_to_server(service, server)
    else:
        server.add_generic_rpc_handlers((_stream_of(frames),))
    port = server.add_insecure_port("127.0.0.1:0")
    await server.start()
    print(f"raw: listening on 127.0.0.1:{port}", file=sys.stderr, flush=True)
    await server.wait_for_termination()


if __name__ == "__main__":
    files = [argument for argument in sys.argv[1:] if argument.startswith("/")]
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        runner.run(serve(marshal.loads(Path(files[0]).read_bytes()) if files else None))
