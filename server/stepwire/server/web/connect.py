"""Serve the contract by the Connect protocol and gRPC-Web, with JSON and protobuf.

The endpoints are made from the contract's descriptors at start: a new rpc is served without a line here. Streams of
requests (Converse) need gRPC itself.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterable
from typing import Any, Final

from connectrpc.interceptor import MetadataInterceptor
from connectrpc.method import IdempotencyLevel, MethodInfo, StreamType
from connectrpc.request import RequestContext
from connectrpc.server import ConnectASGIApplication, Endpoint
from google.protobuf.descriptor import MethodDescriptor, ServiceDescriptor
from google.protobuf.message_factory import GetMessageClass
from google.rpc.status_pb2 import Status

from stepwire.server.rpc import LocalCalls, RefusedError
from stepwire.server.rpc.errors import status_with
from stepwire.server.web.codecs import BinaryCodec, Encoded, JsonCodec
from stepwire.server.web.errors import Explain, Explained, connect_error, error_answer
from stepwire.server.web.headers import metadata_of
from stepwire.server.web.http2 import is_grpc

__all__ = ["ContractApp"]

_UNIMPLEMENTED: Final = 12
"""The number of gRPC's code."""
_MESSAGE: Final = 512
"""Characters of a message that quotes a path."""


class ContractApp(ConnectASGIApplication[LocalCalls]):
    """The ASGI application of all services of the contract.

    Args:
        services: Descriptors of the services.
        calls: Makes the calls.
        max_bytes: The longest request body, before and after decompression.
        refusal: What a call of gRPC is told.
    """

    def __init__(
        self, services: Iterable[ServiceDescriptor], calls: LocalCalls, max_bytes: int, refusal: str = ""
    ) -> None:
        endpoints = {
            f"/{service.full_name}/{method.name}": _endpoint(method, calls)
            for service in services
            for method in service.methods
        }
        super().__init__(
            service=calls,
            endpoints=lambda _: endpoints,
            interceptors=(Explain(calls, max_bytes), _AdmitFirst(calls)),
            read_max_bytes=max_bytes,
            codecs=(BinaryCodec(), JsonCodec(calls)),
        )
        self.paths = frozenset(endpoints)
        self._refusal = refusal

    @property
    def path(self) -> str:
        """Where the application is mounted: each endpoint has its own full path."""
        return "/"

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        """Serve one request. A method that does not exist is UNIMPLEMENTED, in words."""
        if scope["type"] == "http" and scope["path"] not in self.paths:
            # 404 is what Connect and gRPC-Web take for UNIMPLEMENTED when they read no further. gRPC tells no reason.
            missing = Status(code=_UNIMPLEMENTED, message=f"The contract has no method {scope['path'][1:]}"[:_MESSAGE])
            await error_answer(scope, 404, missing)(scope, receive, send)
            return
        for name, value in scope.get("headers", ()):
            if name == b"content-type" and is_grpc(value):
                await error_answer(scope, 415, _unimplemented(self._refusal))(scope, receive, send)
                return
        if scope["type"] == "http" and not all(value.isascii() for _, value in scope["headers"]):
            scope = {**scope, "headers": [(name, _text(value)) for name, value in scope["headers"]]}
        await super().__call__(scope, receive, Explained(scope, receive, send))


def _text(value: bytes) -> bytes:
    """Return a header's value as UTF-8, with a mark for what is none: no header that a call takes along has such."""
    return value.decode(errors="replace").encode()


class _AdmitFirst(MetadataInterceptor[None]):
    """Refuse a caller without a good credential before the request is read."""

    def __init__(self, calls: LocalCalls) -> None:
        self._calls = calls

    async def on_start(self, ctx: RequestContext[Any, Any]) -> None:
        """Check who calls. ConnectError if that is refused."""
        method = ctx.method
        try:
            await self._calls.admit(f"/{method.service_name}/{method.name}", metadata_of(ctx.request_headers))
        except RefusedError as error:
            raise connect_error(error.status) from None


def _endpoint(method: MethodDescriptor, calls: LocalCalls) -> Any:
    name = f"/{method.containing_service.full_name}/{method.name}"
    kind = StreamType.SERVER_STREAM if method.server_streaming else StreamType.UNARY
    if method.client_streaming:
        kind = StreamType.BIDI_STREAM
    output = GetMessageClass(method.output_type)
    info: MethodInfo[Any, Any] = MethodInfo(
        name=method.name,
        service_name=method.containing_service.full_name,
        input=GetMessageClass(method.input_type),
        output=output,
        idempotency_level=IdempotencyLevel.UNKNOWN,
        stream_type=kind,
    )

    async def unary(request: Any, context: RequestContext[Any, Any]) -> Any:
        try:
            metadata = metadata_of(context.request_headers)
            return Encoded(await calls.unary(name, request, metadata, _seconds(context)), output)
        except RefusedError as error:
            raise connect_error(error.status) from None

    async def stream(request: Any, context: RequestContext[Any, Any]) -> AsyncIterator[Any]:
        call = calls.stream(name, request, metadata_of(context.request_headers), _seconds(context))
        try:
            async for response in call:
                yield Encoded(response, output)
        except RefusedError as error:
            raise connect_error(error.status) from None
        finally:
            call.close()
            await call.closed()

    def converse(requests: Any, context: RequestContext[Any, Any]) -> AsyncIterator[Any]:
        needs = "streams in both directions, which needs gRPC over HTTP/2: use StreamEvents and SendEvent"
        raise connect_error(_unimplemented(f"{method.name} {needs}"))

    if kind is StreamType.UNARY:
        return Endpoint.unary(info, unary)
    if kind is StreamType.SERVER_STREAM:
        return Endpoint.server_stream(info, stream)
    return Endpoint.bidi_stream(info, converse)


def _unimplemented(told: str) -> Status:
    status = status_with("INVALID_REQUEST", told)
    status.code = _UNIMPLEMENTED
    return status


def _seconds(context: RequestContext[Any, Any]) -> float | None:
    milliseconds = context.timeout_ms
    return None if milliseconds is None else max(0.0, milliseconds / 1000)
