"""The outer interceptor: no exception's text ever reaches a client."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Any

import grpc

from stepwire.server import failpoints
from stepwire.server.rpc.errors import abort, status_of
from stepwire.server.rpc.grpc_types import Context
from stepwire.server.runs.errors import DrainingError, InvalidError


class _Malformed:
    """What stands in for a message that is no valid protobuf."""


_MALFORMED = _Malformed()


class ErrorInterceptor(grpc.aio.ServerInterceptor):
    """Translate what handlers raise, and messages that cannot be parsed, to statuses.

    It also lets handlers of streams give messages that are serialized already.
    """

    async def intercept_service(
        self,
        continuation: Callable[[grpc.HandlerCallDetails], Awaitable[Any]],
        details: grpc.HandlerCallDetails,
    ) -> Any:
        """Wrap the handler of a method."""
        handler = await continuation(details)
        if handler is None:
            return handler
        method = str(details.method)
        deserialize = _tolerant(handler.request_deserializer)
        serialize = _passing(handler.response_serializer)
        if handler.request_streaming and handler.response_streaming:
            wrapped = _stream(handler.stream_stream, method, _checked_messages)
            return grpc.stream_stream_rpc_method_handler(wrapped, deserialize, serialize)
        if handler.response_streaming:
            wrapped = _stream(handler.unary_stream, method, _checked)
            return grpc.unary_stream_rpc_method_handler(wrapped, deserialize, serialize)
        if handler.request_streaming:
            return handler
        unary = _unary(handler.unary_unary, method)
        return grpc.unary_unary_rpc_method_handler(unary, deserialize, serialize)


def _unary(call: Any, method: str) -> Any:
    async def handle(request: Any, context: Context) -> Any:
        if failpoints.ACTIVE:
            context.add_done_callback(lambda _: failpoints.hit("ack.after"))
        try:
            return await call(_checked(request), context)
        except asyncio.CancelledError:
            await _cancelled(context, method)
            raise
        except grpc.aio.AbortError:
            raise
        except Exception as error:  # noqa: BLE001 - whatever it is, the client gets a status and no text of ours
            await abort(context, status_of(error, method))

    return handle


def _stream(call: Any, method: str, check: Callable[[Any], Any]) -> Any:
    async def handle(request: Any, context: Context) -> AsyncIterator[Any]:
        try:
            async for response in call(check(request), context):
                yield response
        except asyncio.CancelledError:
            await _cancelled(context, method)
            raise
        except grpc.aio.AbortError:
            raise
        except Exception as error:  # noqa: BLE001 - whatever it is, the client gets a status and no text of ours
            await abort(context, status_of(error, method))

    return handle


async def _cancelled(context: Context, method: str) -> None:
    """Answer when engine code was cancelled inside a call; a client that cancelled itself needs no answer."""
    task = asyncio.current_task()
    if task is not None and not task.cancelling() and not context.done():
        await abort(context, status_of(DrainingError("The call was interrupted"), method))


def _tolerant(deserialize: Any) -> Any:
    def tolerant(data: bytes) -> Any:
        try:
            return deserialize(data)
        except Exception:  # noqa: BLE001 - protobuf raises several kinds; gRPC would answer UNKNOWN
            return _MALFORMED

    return tolerant


def _passing(serialize: Any) -> Any:
    def passing(message: Any) -> bytes:
        if type(message) is bytes:
            return message
        data: bytes = serialize(message)
        return data

    return passing


def _checked(message: Any) -> Any:
    if message is _MALFORMED:
        raise InvalidError("MALFORMED_MESSAGE", "The message is not valid protobuf of this method's request type")
    return message


async def _checked_messages(messages: AsyncIterator[Any]) -> AsyncIterator[Any]:
    async for message in messages:
        yield _checked(message)
