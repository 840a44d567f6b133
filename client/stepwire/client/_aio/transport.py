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
from stepwire.client._core.first_contact import FirstContact
from stepwire.client._core.reachability import check_reached, probe
from stepwire.client._core.reconnect import STREAM_DEADLINE, is_connection_loss
from stepwire.client._core.replicas import Replicas, run_of
from stepwire.client._core.retry import Attempts
from stepwire.client._core.status import from_rpc_error
from stepwire.client._core.stream import Stream
from stepwire.client._core.unanswered import explained
from stepwire.client.errors import StepwireError

T = TypeVar("T")


class AioTransport:
    """Channels of the running loop, one for each address. The first call opens one."""

    def __init__(self, endpoint: Endpoint, channel: grpc.aio.Channel | None, contact: FirstContact) -> None:
        self._endpoint = endpoint
        self.contact = contact
        self._owned = channel is None
        self.replicas = Replicas(endpoint.addresses if channel is None else endpoint.addresses[:1])
        self._channels: list[Any] = [channel] if channel is not None else [None] * len(self.replicas)
        self._stubs: dict[int, dict[str, Any]] = {}
        self._closed = False

    def channel(self, index: int = 0) -> grpc.aio.Channel:
        """Return the channel to an address; the first call opens it."""
        if self._closed:
            raise RuntimeError("the client is closed")
        channel: grpc.aio.Channel | None = self._channels[index]
        if channel is None:
            channel = self._channels[index] = self._endpoint.open_aio(index)
        return channel

    def method(self, name: str, index: int = 0) -> Any:
        """Return the multi-callable of `Service.Method` at an address."""
        channel = self.channel(index)
        if index not in self._stubs:
            self._stubs[index] = make_stubs(channel)
        return find_method(self._stubs[index], name)

    async def connect(self, timeout: float) -> None:
        """Connect within `timeout` seconds. Raises UnavailableError, which says why it failed."""
        try:
            async with asyncio.timeout(timeout):
                self.replicas.prefer(await self._first_ready())
            self.contact.made()
        except TimeoutError:
            try:
                await self.unary(probe())
            except StepwireError as error:
                check_reached(error, self._endpoint.address, timeout)

    async def _first_ready(self) -> int:
        """Return the number of the address that is connected first."""
        waits = [asyncio.ensure_future(self.channel(index).channel_ready()) for index in range(len(self.replicas))]
        try:
            await asyncio.wait(waits, return_when=asyncio.FIRST_COMPLETED)
            return next(index for index, each in enumerate(waits) if each.done())
        finally:
            for each in waits:
                each.cancel()

    def open(self, name: str, request: Any, index: int = 0) -> Any:
        """Start a call of a stream at an address."""
        return self.method(name, index)(request, timeout=STREAM_DEADLINE, metadata=self._endpoint.metadata())

    async def close(self) -> None:
        """Close the channel, unless the caller passed it."""
        self._closed = True
        for channel in self._channels if self._owned else ():
            if channel is not None:
                await channel.close()

    async def unary(self, call: Call[T]) -> T:
        """Make a call, and repeat it while that is safe and can help."""
        several = len(self.replicas) > 1
        attempts = Attempts(call.budget, safe=call.safe, addresses=len(self.replicas))
        run_id = run_of(call.request) if several else ""
        while True:
            index = self.replicas.pick(run_id)
            try:
                made = self.method(call.method, index)(
                    call.request, timeout=attempts.timeout(), metadata=self._endpoint.metadata()
                )
                response = await made
                self.contact.made()
                if several:
                    self.replicas.heard(run_of(call.request, response), await made.trailing_metadata())
                return call.parse(response)
            except grpc.RpcError as error:
                failure = self.contact.judge(from_rpc_error(error), index)
                if several and is_connection_loss(failure):
                    self.replicas.failed(run_id, index)
                where = self._endpoint.address if several else self._endpoint.addresses[0]
                delay = attempts.delay_after(explained(failure, call, where, attempts.elapsed()))
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

    async def follow(self, follow: Stream) -> AsyncGenerator[Any, None]:
        """Iterate over the events of a log, over as many connections as it takes."""
        while True:
            index = self.replicas.pick(follow.run_id)
            call = self.open(follow.method, follow.request(), index)
            failure: StepwireError | None = None
            try:
                with Alarm(follow.heartbeats, call) as alarm:
                    async for frame in call:
                        self.contact.made()
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
                failure = self.contact.judge(from_rpc_error(error), index)
            finally:
                call.cancel()
            delay = follow.delay_after(failure)
            if delay is None:
                return
            self.replicas.failed(follow.run_id, index)
            await asyncio.sleep(delay)
