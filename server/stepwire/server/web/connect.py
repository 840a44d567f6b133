"""Serve the contract by the Connect protocol and gRPC-Web, with JSON and protobuf.

The endpoints are made from the contract's descriptors at start: a new rpc is served without a line here. Streams of
requests (Converse) need gRPC itself.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from connectrpc.code import Code
from connectrpc.codec import Codec
from connectrpc.errors import ConnectError, ErrorDetail
from connectrpc.interceptor import MetadataInterceptor
from connectrpc.method import IdempotencyLevel, MethodInfo, StreamType
from connectrpc.request import RequestContext
from connectrpc.server import ConnectASGIApplication, Endpoint
from google.protobuf import json_format
from google.protobuf.descriptor import MethodDescriptor, ServiceDescriptor
from google.protobuf.message import Message
from google.protobuf.message_factory import GetMessageClass
from google.rpc.error_details_pb2 import ErrorInfo
from google.rpc.status_pb2 import Status
from protobuf.wkt import Any as PackedAny
from starlette.responses import JSONResponse

from stepwire.server.rpc import LocalCalls, RefusedError
from stepwire.server.rpc.errors import DOMAIN
from stepwire.server.web.headers import metadata_of
from stepwire.server.web.http2 import is_grpc

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

_STATUS_WORDS: Mapping[int, str] = {
    405: "This is a method of the contract: call it with POST",
    415: "Say what the body is, as with curl -H 'content-type: application/json'",
}
"""What is wrong with a request that is not one of Connect, by the status that it gets."""


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
            interceptors=(_AdmitFirst(calls),),
            read_max_bytes=max_bytes,
            codecs=(_BinaryCodec(), _JsonCodec()),
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
            body = {"code": Code.UNIMPLEMENTED.value, "message": f"The contract has no method {scope['path'][1:]}"}
            # 404 is what Connect and gRPC-Web take for UNIMPLEMENTED when they read no further.
            await JSONResponse(body, status_code=404)(scope, receive, send)
            return
        for name, value in scope.get("headers", ()):
            if name == b"content-type" and is_grpc(value):
                body = {"code": Code.UNIMPLEMENTED.value, "message": self._refusal}
                told = {"grpc-status": "12", "grpc-message": self._refusal}
                await JSONResponse(body, status_code=415, headers=told)(scope, receive, send)
                return
        if scope["type"] == "http" and not all(value.isascii() for _, value in scope["headers"]):
            scope = {**scope, "headers": [(name, _text(value)) for name, value in scope["headers"]]}
        await super().__call__(scope, receive, _Worded(scope, receive, send))


class _Worded:
    """Send a response; one of a status alone, which says nothing to a person with curl, as an error in words."""

    def __init__(self, scope: Any, receive: Any, send: Any) -> None:
        self._scope, self._receive, self._send = scope, receive, send
        self._replaced = False

    async def __call__(self, message: Any) -> None:
        """Take a message of the application."""
        if message["type"] == "http.response.start" and (told := _STATUS_WORDS.get(message["status"])):
            self._replaced = True
            headers = {name.decode(): value.decode() for name, value in message.get("headers", ())}
            kept = {name: value for name, value in headers.items() if not name.lower().startswith("content-")}
            body = {"code": Code.UNKNOWN.value, "message": told}
            answer = JSONResponse(body, status_code=message["status"], headers=kept)
            await answer(self._scope, self._receive, self._send)
        elif not self._replaced:
            await self._send(message)


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


@dataclass(frozen=True, slots=True)
class _Encoded:
    """A response: a message, or the bytes of one, and what it is."""

    response: Message | bytes
    kind: Callable[[], Message]

    def binary(self) -> bytes:
        """Return it as protobuf."""
        return self.response if isinstance(self.response, bytes) else self.response.SerializeToString()

    def message(self) -> Message:
        """Return it as a message."""
        if not isinstance(self.response, bytes):
            return self.response
        parsed = self.kind()
        parsed.MergeFromString(self.response)
        return parsed


class _BinaryCodec(Codec[_Encoded, bytes]):
    """Protobuf passes as it is: the gate checks it."""

    def name(self) -> str:
        """Return the codec's name in content types."""
        return "proto"

    def encode(self, message: _Encoded) -> bytes:
        """Write a response."""
        return message.binary()

    def decode(self, data: bytes | bytearray, message_class: Any) -> Any:
        """Return a request as protobuf."""
        return bytes(data)


class _JsonCodec(Codec[_Encoded, bytes]):
    """JSON on one line. A field that the contract does not have is refused: it is a mistake more often than news."""

    def name(self) -> str:
        """Return the codec's name in content types."""
        return "json"

    def encode(self, message: _Encoded) -> bytes:
        """Write a response."""
        return json_format.MessageToJson(message.message(), indent=None, ensure_ascii=False).encode()

    def decode(self, data: bytes | bytearray, message_class: Any) -> Any:
        """Return a request as protobuf. ConnectError (MALFORMED_MESSAGE)."""
        try:
            if bytes(data[:64]).lstrip()[:1] not in (b"{", b""):
                raise json_format.ParseError("a message is a JSON object")
            parsed: Message = json_format.Parse(bytes(data), message_class())
        except (json_format.ParseError, ValueError, RecursionError) as error:
            status = Status(code=3, message=f"The message is not valid JSON of this method's request type: {error}")
            status.details.add().Pack(ErrorInfo(reason="MALFORMED_MESSAGE", domain=DOMAIN))
            raise connect_error(status) from None
        return parsed.SerializeToString()


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
            return _Encoded(await calls.unary(name, request, metadata, _seconds(context)), output)
        except RefusedError as error:
            raise connect_error(error.status) from None

    async def stream(request: Any, context: RequestContext[Any, Any]) -> AsyncIterator[Any]:
        call = calls.stream(name, request, metadata_of(context.request_headers), _seconds(context))
        try:
            async for response in call:
                yield _Encoded(response, output)
        except RefusedError as error:
            raise connect_error(error.status) from None
        finally:
            call.close()
            await call.closed()

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
