"""Call the gRPC server of this process for HTTP callers.

The channel is a Unix socket in a folder that only this user can enter. A call carries the HTTP caller's credential,
deadline and trace; gRPC admits it like any other. Errors come back with the same code, message and details.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping
from typing import Any

import grpc
from google.protobuf.descriptor import MethodDescriptor
from google.protobuf.message import Message
from google.protobuf.message_factory import GetMessageClass
from google.rpc.status_pb2 import Status

__all__ = ["FORWARDED", "Upstream", "UpstreamError"]

FORWARDED = ("authorization", "traceparent", "tracestate")
"""Request headers that a call takes along."""

_ACCEPTED = "stepwire-accepted"
"""The name of the first metadata of a stream that was not refused (see RunService.StreamEvents)."""
_DETAILS = "grpc-status-details-bin"
_OPTIONS = (
    ("grpc.max_receive_message_length", -1),
    ("grpc.max_send_message_length", -1),
    # A slow reader of HTTP leaves frames unread here: probing for bandwidth would let megabytes pile up.
    ("grpc.http2.bdp_probe", 0),
    ("grpc.enable_retries", 0),
)


class UpstreamError(Exception):
    """A call was refused or failed: `status` is what a gRPC client would have seen, details included."""

    def __init__(self, status: Status) -> None:
        super().__init__(status.message)
        self.status = status


class Upstream:
    """A client of the server's own gRPC services, by method descriptor."""

    def __init__(self, target: str) -> None:
        self._channel = grpc.aio.insecure_channel(target, options=_OPTIONS)
        self._stubs: dict[str, Any] = {}

    async def close(self) -> None:
        """Close the channel; calls under way are cancelled."""
        await self._channel.close()

    def _stub(self, method: MethodDescriptor) -> Any:
        stub = self._stubs.get(method.full_name)
        if stub is None:
            make = self._channel.unary_stream if method.server_streaming else self._channel.unary_unary
            stub = self._stubs[method.full_name] = make(
                f"/{method.containing_service.full_name}/{method.name}",
                request_serializer=GetMessageClass(method.input_type).SerializeToString,
                response_deserializer=GetMessageClass(method.output_type).FromString,
            )
        return stub

    async def unary(
        self, method: MethodDescriptor, request: Message, headers: Mapping[str, str], timeout: float | None
    ) -> Message:
        """Make a unary call.

        Args:
            method: Which method.
            request: Its request.
            headers: The HTTP caller's headers; only `FORWARDED` are used.
            timeout: Seconds until the caller's deadline.

        Raises:
            UpstreamError: The call was refused or failed.
        """
        try:
            response: Message = await self._stub(method)(request, metadata=metadata_of(headers), timeout=timeout)
        except grpc.aio.AioRpcError as error:
            raise UpstreamError(_status_of(error)) from None
        return response

    def stream(
        self, method: MethodDescriptor, request: Message, headers: Mapping[str, str], timeout: float | None
    ) -> UpstreamStream:
        """Begin a call with a stream of responses; the arguments are those of `unary`."""
        return UpstreamStream(self._stub(method)(request, metadata=metadata_of(headers), timeout=timeout))


class UpstreamStream:
    """The responses of a streaming call. Iterate it once; `close` it in any case."""

    def __init__(self, call: Any) -> None:
        self._call = call
        self._first: Any = None

    async def accepted(self) -> None:
        """Return once the server has accepted the call. UpstreamError when it refused."""
        try:
            metadata = await self._call.initial_metadata()
            if _ACCEPTED not in {name for name, _ in metadata or ()}:
                self._first = await self._call.read()  # raises the status of a refusal
        except grpc.aio.AioRpcError as error:
            raise UpstreamError(_status_of(error)) from None

    async def __aiter__(self) -> AsyncIterator[Any]:
        try:
            response = self._first or await self._call.read()
            while response is not grpc.aio.EOF:
                yield response
                response = await self._call.read()
        except grpc.aio.AioRpcError as error:
            raise UpstreamError(_status_of(error)) from None

    def close(self) -> None:
        """Cancel the call unless it has ended."""
        self._call.cancel()


def metadata_of(headers: Mapping[str, str]) -> tuple[tuple[str, str], ...]:
    """Return the metadata that a call takes along from HTTP headers (lower-case names)."""
    return tuple((name, value) for name in FORWARDED if (value := headers.get(name)))


def _status_of(error: grpc.aio.AioRpcError) -> Status:
    for name, value in error.trailing_metadata() or ():
        if name == _DETAILS and isinstance(value, bytes):
            return Status.FromString(value)
    return Status(code=error.code().value[0], message=error.details() or "")
