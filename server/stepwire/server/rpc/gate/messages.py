"""Receive the messages of a call as bytes, check their size, then parse them."""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Any

from stepwire.server.rpc.gate.admission import Admission
from stepwire.server.rpc.gate.call import Call
from stepwire.server.runs.errors import InvalidError

Parse = Callable[[bytes], Any]
Receive = Callable[[Call, Any], Awaitable[Any]]
"""From a call and what gRPC gives its handler to what the handler gets, checked."""


def parser(deserialize: Any) -> Parse:
    """Return a function that parses a message, or raises InvalidError (MALFORMED_MESSAGE)."""

    def parse(data: bytes) -> Any:
        if deserialize is None:
            return data
        try:
            return deserialize(data)
        except Exception as error:  # protobuf raises several kinds; gRPC would answer UNKNOWN
            message = "The message is not valid protobuf of this method's request type"
            raise InvalidError("MALFORMED_MESSAGE", message) from error

    return parse


def passing(serialize: Any) -> Callable[[Any], bytes]:
    """Return a function that serializes a message, and passes on bytes that are serialized already."""

    def serialized(message: Any) -> bytes:
        if type(message) is bytes:
            return message
        data: bytes = serialize(message)
        return data

    return serialized


def one(parse: Parse, admission: Admission) -> Receive:
    """Return a function that parses and admits the one message of a stream's request."""

    async def receive(call: Call, data: bytes) -> Any:
        call.limits.check_message(len(data))
        call.limits.check_held(call.kind, len(data))
        request = call.request = parse(data)
        if (pending := admission.admit(call, request)) is not None:
            await pending
        return request

    return receive


def many(parse: Parse) -> Receive:
    """Return a function that parses the frames of a conversation; the session has the gate admit each of them."""

    async def frames(call: Call, messages: AsyncIterator[bytes]) -> AsyncIterator[Any]:
        async for data in messages:
            call.check_alive()
            call.limits.check_message(len(data))
            yield parse(data)

    async def receive(call: Call, messages: AsyncIterator[bytes]) -> AsyncIterator[Any]:
        return frames(call, messages)

    return receive
