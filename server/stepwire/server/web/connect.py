"""Serve the contract by the Connect protocol and gRPC-Web, with JSON and protobuf.

The endpoints are made from the contract's descriptors at start: a new rpc is served without a line here. Streams of
requests (Converse) need gRPC itself.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterable, Mapping
from typing import Any

from connectrpc.code import Code
from connectrpc.codec import Codec
from connectrpc.compat import google_protobuf_binary_codec
from connectrpc.errors import ConnectError, ErrorDetail
from connectrpc.method import IdempotencyLevel, MethodInfo, StreamType
from connectrpc.request import RequestContext
from connectrpc.server import ConnectASGIApplication, Endpoint
from google.protobuf import json_format
from google.protobuf.descriptor import MethodDescriptor, ServiceDescriptor
from google.protobuf.message import Message
from google.protobuf.message_factory import GetMessageClass
from google.rpc.status_pb2 import Status
from protobuf.wkt import Any as PackedAny

from stepwire.server.web.upstream import Upstream, UpstreamError

__all__ = ["ContractApp", "connect_error"]

_CODES: Mapping[int, Code] = {
    1: Code.CANCELED,
    2: Code.UNKNOWN,
    3: Code.INVALID_ARGUMENT,
    4: Code.DEADLINE_EXCEEDED,
    5: Code.NOT_FOUND,
    6: Code.ALREADY_EXISTS,
    7: Code.PERMISSION_DENIED,
    8: Code.RESOURCE_EXHAUSTED,
    9: Code.FAILED_PRECONDITION,
    10: Code.ABORTED,
    11: Code.OUT_OF_RANGE,
    12: Code.UNIMPLEMENTED,
    13: Code.INTERNAL,
    14: Code.UNAVAILABLE,
    15: Code.DATA_LOSS,
    16: Code.UNAUTHENTICATED,
}


class ContractApp(ConnectASGIApplication[Upstream]):
    """The ASGI application of all services of the contract.

    Args:
        services: Descriptors of the services.
        upstream: Where calls go on to.
        max_bytes: The longest request body, before and after decompression.
    """

    def __init__(self, services: Iterable[ServiceDescriptor], upstream: Upstream, max_bytes: int) -> None:
        endpoints = {
            f"/{service.full_name}/{method.name}": _endpoint(method, upstream)
            for service in services
            for method in service.methods
        }
        super().__init__(
            service=upstream,
            endpoints=lambda _: endpoints,
            read_max_bytes=max_bytes,
            codecs=(google_protobuf_binary_codec(), _JsonCodec()),
        )
        self.paths = frozenset(endpoints)

    @property
    def path(self) -> str:
        """Where the application is mounted: each endpoint has its own full path."""
        return "/"


class _JsonCodec(Codec[Message, Any]):
    """JSON on one line. A field that the contract does not have is refused: it is a mistake more often than news."""

    def name(self) -> str:
        """Return the codec's name in content types."""
        return "json"

    def encode(self, message: Message) -> bytes:
        """Write a message."""
        return json_format.MessageToJson(message, indent=None, ensure_ascii=False).encode()

    def decode(self, data: bytes | bytearray, message_class: Any) -> Any:
        """Read a message. ParseError."""
        return json_format.Parse(bytes(data), message_class())


def _endpoint(method: MethodDescriptor, upstream: Upstream) -> Any:
    kind = StreamType.SERVER_STREAM if method.server_streaming else StreamType.UNARY
    if method.client_streaming:
        kind = StreamType.BIDI_STREAM
    info: MethodInfo[Any, Any] = MethodInfo(
        name=method.name,
        service_name=method.containing_service.full_name,
        input=GetMessageClass(method.input_type),
        output=GetMessageClass(method.output_type),
        idempotency_level=IdempotencyLevel.UNKNOWN,
        stream_type=kind,
    )

    async def unary(request: Any, context: RequestContext[Any, Any]) -> Any:
        try:
            return await upstream.unary(method, request, context.request_headers, _seconds(context))
        except UpstreamError as error:
            raise connect_error(error.status) from None

    async def stream(request: Any, context: RequestContext[Any, Any]) -> AsyncIterator[Any]:
        call = upstream.stream(method, request, context.request_headers, _seconds(context))
        try:
            async for response in call:
                yield response
        except UpstreamError as error:
            raise connect_error(error.status) from None
        finally:
            call.close()

    def converse(requests: Any, context: RequestContext[Any, Any]) -> AsyncIterator[Any]:
        raise ConnectError(
            Code.UNIMPLEMENTED,
            f"{method.name} streams in both directions, which needs gRPC over HTTP/2: use StreamEvents and SendEvent",
        )

    if kind is StreamType.UNARY:
        return Endpoint.unary(info, unary)
    if kind is StreamType.SERVER_STREAM:
        return Endpoint.server_stream(info, stream)
    return Endpoint.bidi_stream(info, converse)


def _seconds(context: RequestContext[Any, Any]) -> float | None:
    milliseconds = context.timeout_ms
    return None if milliseconds is None else max(0.0, milliseconds / 1000)


def connect_error(status: Status) -> ConnectError:
    """Return a gRPC status as Connect's error, with the same details."""
    details = [ErrorDetail(PackedAny(type_url=each.type_url, value=each.value)) for each in status.details]
    return ConnectError(_CODES.get(status.code, Code.UNKNOWN), status.message, details)
