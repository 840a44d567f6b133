"""Proxies between clients and the server: one that loses answers, one that cuts connections."""

from __future__ import annotations

import asyncio
import contextlib
import random
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Any

import grpc
import grpc.aio
from tests.connections import Connections
from tests.system.chaos.server import CHANNEL_OPTIONS

_STREAMS = ("/stepwire.v1.RunService/StreamEvents", "/stepwire.internal.Replicas/Follow")
_RELAY = "/stepwire.internal.Replicas/Relay"
_OWN = ("user-agent", "grpc-", ":")
"""What the names of metadata begin with that a connection makes by itself."""


class LosingProxy:
    """Forward calls, and lose a share of the answers after the server has given them."""

    def __init__(self, target: str, *, share: float, seed: int) -> None:
        self.calls = 0
        self.lost = 0
        self.address = ""
        self._share = share
        self._random = random.Random(f"proxy/{seed}")
        self._channel = grpc.aio.insecure_channel(target, options=CHANNEL_OPTIONS)
        self._server = grpc.aio.server()

    async def __aenter__(self) -> LosingProxy:
        proxy = self

        class Handler(grpc.GenericRpcHandler):
            def service(self, handler_call_details: Any) -> Any:
                return proxy._handler(handler_call_details.method)

        self._server.add_generic_rpc_handlers((Handler(),))
        port = self._server.add_insecure_port("127.0.0.1:0")
        self.address = f"127.0.0.1:{port}"
        await self._server.start()
        return self

    async def __aexit__(self, *exc: object) -> None:
        await self._server.stop(0.5)
        await self._channel.close()

    def _handler(self, method: str) -> Any:
        if method in _STREAMS:
            stream: Any = self._channel.unary_stream(method)

            async def forward_stream(request: bytes, context: Any) -> AsyncIterator[bytes]:
                async with _statuses(context):
                    async for message in stream(request, metadata=_metadata(context)):
                        yield message

            return grpc.unary_stream_rpc_method_handler(forward_stream)
        if method == _RELAY:
            both: Any = self._channel.stream_stream(method)

            async def forward_calls(requests: AsyncIterator[bytes], context: Any) -> AsyncIterator[bytes]:
                """Forward frames of calls; lose a share of those with answers, and the stream with each."""
                async with _statuses(context):
                    async for frame in both(requests, metadata=_metadata(context)):
                        self.calls += 1
                        if self._random.random() < self._share:
                            self.lost += 1
                            await context.abort(grpc.StatusCode.UNAVAILABLE, "the answers were lost")
                        yield frame

            return grpc.stream_stream_rpc_method_handler(forward_calls)
        call: Callable[..., Awaitable[bytes]] = self._channel.unary_unary(method)

        async def forward(request: bytes, context: Any) -> bytes:
            answer = b""
            async with _statuses(context):
                answer = await call(
                    request, metadata=_metadata(context), timeout=context.time_remaining(), wait_for_ready=True
                )
            self.calls += 1
            if self._random.random() < self._share:
                self.lost += 1
                await context.abort(grpc.StatusCode.UNAVAILABLE, "the answer was lost")
            return answer

        return grpc.unary_unary_rpc_method_handler(forward)


def _metadata(context: Any) -> tuple[tuple[str, Any], ...]:
    """Return what the caller sent along."""
    return tuple((name, value) for name, value in context.invocation_metadata() or () if not name.startswith(_OWN))


@contextlib.asynccontextmanager
async def _statuses(context: Any) -> AsyncIterator[None]:
    """Pass the server's status on, details included."""
    try:
        yield
    except grpc.aio.AioRpcError as error:
        details = tuple(error.trailing_metadata() or ())
        await context.abort(error.code(), error.details() or "", details)


class CuttingProxy:
    """Forward bytes, and cut each connection after a random number of them came from the server."""

    def __init__(self, target: str, *, most: int, seed: int) -> None:
        self.cuts = 0
        self.address = ""
        self._host, _, port = target.rpartition(":")
        self._port = int(port)
        self._most = most
        self._random = random.Random(f"cuts/{seed}")
        self._connections = Connections(self._serve)

    async def __aenter__(self) -> CuttingProxy:
        self.address = await self._connections.open()
        return self

    async def __aexit__(self, *exc: object) -> None:
        await self._connections.close()

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            up_reader, up_writer = await asyncio.open_connection(self._host, self._port)
        except OSError:
            writer.transport.abort()
            return
        upward = asyncio.create_task(_pump(reader, up_writer))
        with contextlib.suppress(asyncio.CancelledError):  # the proxy ends; no one else cancels this task
            try:
                if await _pump(up_reader, writer, self._random.randint(100, self._most)):
                    self.cuts += 1
            finally:
                # Not closed: aborted, so that what is under way is lost as with a pulled cable.
                writer.transport.abort()
                up_writer.transport.abort()
                upward.cancel()


async def _pump(source: asyncio.StreamReader, sink: asyncio.StreamWriter, budget: int | None = None) -> bool:
    """Forward bytes; True when the budget ended it, in the middle of whatever it was."""
    with contextlib.suppress(OSError):
        while data := await source.read(65536):
            if budget is not None and len(data) >= budget:
                sink.write(data[:budget])
                await sink.drain()
                return True
            if budget is not None:
                budget -= len(data)
            sink.write(data)
            await sink.drain()
    return False
