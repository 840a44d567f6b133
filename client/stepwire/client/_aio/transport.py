"""Make the core's calls over grpc.aio."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, AsyncIterator
from typing import Any, TypeVar

import grpc
import grpc.aio

from stepwire.client._aio.alarm import Alarm
from stepwire.client._core.call import Call, Operation, Pages, find_method, make_stubs
from stepwire.client._core.channel import Endpoint
from stepwire.client._core.reachability import check_reached, probe
from stepwire.client._core.reconnect import STREAM_DEADLINE
from stepwire.client._core.retry import Attempts
from stepwire.client._core.status import from_rpc_error
from stepwire.client._core.stream import Follow
from stepwire.client.errors import StepwireError

T = TypeVar("T")


class AioTransport:
    """A channel of the running loop. The first call opens it."""

    def __init__(self, endpoint: Endpoint, channel: grpc.aio.Channel | None) -> None:
        self._endpoint = endpoint
        self._channel = channel
        self._owned = channel is None
        self._stubs: dict[str, Any] | None = None
        self._closed = False

    def channel(self) -> grpc.aio.Channel:
        """Return the channel; the first call opens it."""
        if self._closed:
            raise RuntimeError("the client is closed")
        if self._channel is None:
            self._channel = self._endpoint.open_aio()
        return self._channel

    def method(self, name: str) -> Any:
        """Return the multi-callable of `Service.Method`."""
        channel = self.channel()
        if self._stubs is None:
            self._stubs = make_stubs(channel)
        return find_method(self._stubs, name)

    async def connect(self, timeout: float) -> None:
        """Connect within `timeout` seconds. Raises UnavailableError, which says why it failed."""
        try:
            async with asyncio.timeout(timeout):
                await self.channel().channel_ready()
        except TimeoutError:
            try:
                await self.unary(probe())
            except StepwireError as error:
                check_reached(error, self._endpoint.address, timeout)

    def open(self, name: str, request: Any) -> Any:
        """Start a call of a stream."""
        return self.method(name)(request, timeout=STREAM_DEADLINE, metadata=self._endpoint.metadata())

    async def close(self) -> None:
        """Close the channel, unless the caller passed it."""
        self._closed = True
        if self._channel is not None and self._owned:
            await self._channel.close()

    async def unary(self, call: Call[T]) -> T:
        """Make a call, and repeat it while that is safe and can help."""
        attempts = Attempts(call.budget, safe=call.safe)
        while True:
            try:
                response = await self.method(call.method)(
                    call.request, timeout=attempts.timeout(), metadata=self._endpoint.metadata()
                )
                return call.parse(response)
            except grpc.RpcError as error:
                failure = from_rpc_error(error)
                delay = attempts.delay_after(failure)
            await asyncio.sleep(delay)

    async def run(self, operation: Operation[T]) -> T:
        """Make the calls of an operation."""
        try:
            step = next(operation)
            while True:
                try:
                    answer: Any = None
                    if isinstance(step, Call):
                        answer = await self.unary(step)
                    else:
                        await asyncio.sleep(step)
                except StepwireError as error:
                    step = operation.throw(error)
                else:
                    step = operation.send(answer)
        except StopIteration as stop:
            result: T = stop.value
            return result
        finally:
            operation.close()

    async def pages(self, pages: Pages[T]) -> AsyncIterator[T]:
        """Iterate over the items of all pages."""
        while (call := pages.call()) is not None:
            for item in await self.unary(call):
                yield item

    async def follow(self, follow: Follow) -> AsyncGenerator[Any, None]:
        """Iterate over the events of a log, over as many connections as it takes."""
        while True:
            call = self.open(follow.method, follow.request())
            failure: StepwireError | None = None
            try:
                with Alarm(follow.heartbeats, call) as alarm:
                    async for frame in call:
                        follow.receive(frame)
                        alarm.received()
                        while (event := follow.pop()) is not None:
                            yield event
                        if follow.ended:
                            return
                        alarm.waiting()
            except asyncio.CancelledError:
                failure = alarm.loss()
                if failure is None:
                    raise
            except grpc.RpcError as error:
                failure = from_rpc_error(error)
            finally:
                call.cancel()
            delay = follow.delay_after(failure)
            if delay is None:
                return
            await asyncio.sleep(delay)
