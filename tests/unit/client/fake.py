"""A scripted server on a loopback port: tests say what each method does, and see what came."""

from __future__ import annotations

import asyncio
from collections import defaultdict
from collections.abc import AsyncIterator, Callable
from typing import Any

import grpc
import grpc.aio
from google.protobuf import any_pb2
from google.protobuf.duration_pb2 import Duration
from google.protobuf.message import Message
from google.protobuf.message_factory import GetMessageClass
from google.rpc import error_details_pb2, status_pb2
from grpc_status import rpc_status

from stepwire.v1 import run_service_pb2 as runs
from stepwire.v1 import server_service_pb2, snapshot_service_pb2, state_service_pb2, types_pb2, workflow_service_pb2

FILES = (runs, server_service_pb2, snapshot_service_pb2, state_service_pb2, workflow_service_pb2)


class Fault(Exception):
    """A status to answer with, details included."""

    def __init__(self, code: grpc.StatusCode, reason: str = "", *details: Message, **metadata: str) -> None:
        super().__init__(reason)
        info = error_details_pb2.ErrorInfo(reason=reason, domain="stepwire", metadata=metadata)
        packed = []
        for detail in [info, *details] if reason else details:
            packed.append(any_pb2.Any())
            packed[-1].Pack(detail)
        self.status = status_pb2.Status(code=code.value[0], message=f"message of {reason}", details=packed)


def unavailable(retry_after: float | None = None) -> Fault:
    if retry_after is None:
        return Fault(grpc.StatusCode.UNAVAILABLE, "DRAINING")
    delay = Duration()
    delay.FromNanoseconds(int(retry_after * 1e9))
    return Fault(grpc.StatusCode.UNAVAILABLE, "DRAINING", error_details_pb2.RetryInfo(retry_delay=delay))


class FakeServer:
    """Serve what `on` was told; `seen` has the requests by method, `metadata` and `left` what came with them."""

    def __init__(self) -> None:
        self.seen: dict[str, list[Any]] = defaultdict(list)
        self.metadata: dict[str, list[dict[str, Any]]] = defaultdict(list)
        self.left: dict[str, list[float]] = defaultdict(list)
        self._scripts: dict[str, Callable[..., Any]] = {}
        self.port = 0
        self._server: grpc.aio.Server | None = None

    @property
    def address(self) -> str:
        return f"127.0.0.1:{self.port}"

    def on(self, method: str, script: Callable[..., Any]) -> None:
        """Let `script` answer: a function of the request (an async generator function for streams)."""
        self._scripts[method] = script

    def answers(self, method: str, *answers: Any) -> None:
        """Give these answers in turn, the last again and again; exceptions are raised."""
        left = list(answers)

        async def script(_: Any) -> Any:
            answer = left.pop(0) if len(left) > 1 else left[0]
            if isinstance(answer, Exception):
                raise answer
            return answer

        self.on(method, script)

    async def start(self, credentials: grpc.ServerCredentials | None = None) -> None:
        self._server = grpc.aio.server(options=[("grpc.so_reuseport", 0)])
        for file in FILES:
            for service in file.DESCRIPTOR.services_by_name.values():
                handlers = {method.name: self._handler(method) for method in service.methods}
                generic = grpc.method_handlers_generic_handler(service.full_name, handlers)
                self._server.add_generic_rpc_handlers((generic,))
        if credentials is None:
            self.port = self._server.add_insecure_port(self.address)
        else:
            self.port = self._server.add_secure_port(self.address, credentials)
        await self._server.start()

    async def stop(self) -> None:
        if self._server is not None:
            await self._server.stop(None)
            self._server = None

    def _note(self, name: str, request: Any, context: Any) -> None:
        self.seen[name].append(request)
        self.metadata[name].append(dict(context.invocation_metadata()))
        self.left[name].append(context.time_remaining())

    def _handler(self, method: Any) -> grpc.RpcMethodHandler[Any, Any]:
        name = method.name
        kinds: dict[str, Any] = {
            "request_deserializer": GetMessageClass(method.input_type).FromString,
            "response_serializer": GetMessageClass(method.output_type).SerializeToString,
        }

        async def unary(request: Any, context: Any) -> Any:
            self._note(name, request, context)
            try:
                return await self._scripts[name](request)
            except Fault as fault:
                await context.abort_with_status(rpc_status.to_status(fault.status))

        async def stream(request: Any, context: Any) -> AsyncIterator[Any]:
            self._note(name, request, context)
            try:
                async for frame in self._scripts[name](request):
                    yield frame
            except Fault as fault:
                await context.abort_with_status(rpc_status.to_status(fault.status))

        if method.client_streaming:
            return grpc.stream_stream_rpc_method_handler(stream, **kinds)
        if method.server_streaming:
            return grpc.unary_stream_rpc_method_handler(stream, **kinds)
        return grpc.unary_unary_rpc_method_handler(unary, **kinds)


def entry(sequence: int, type: str = "Tick", json: bytes = b"{}", **fields: Any) -> types_pb2.LogEntry:
    fields.setdefault("kind", types_pb2.ENTRY_KIND_STREAM)
    return types_pb2.LogEntry(sequence=sequence, type=type, payload=types_pb2.Payload(json=json), **fields)


def batch(first: int, last: int, *entries: types_pb2.LogEntry) -> types_pb2.EventBatch:
    """Return a batch; without entries given, one Tick for each sequence."""
    made = entries or tuple(entry(n) for n in range(first, last + 1))
    return types_pb2.EventBatch(from_sequence=first, to_sequence=last, entries=made)


def events(first: int, last: int, *entries: types_pb2.LogEntry) -> runs.StreamEventsResponse:
    return runs.StreamEventsResponse(events=batch(first, last, *entries))


def outcome(status: str = "COMPLETED", **fields: Any) -> types_pb2.Outcome:
    fields.setdefault("event_type", "StopEvent")
    return types_pb2.Outcome(status=f"RUN_STATUS_{status}", **fields)


def finished(status: str = "COMPLETED") -> runs.StreamEventsResponse:
    return runs.StreamEventsResponse(finished=runs.RunFinished(outcome=outcome(status)))


async def forever() -> None:
    await asyncio.Event().wait()
