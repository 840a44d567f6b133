"""Make the core's calls over grpc's blocking API."""

from __future__ import annotations

import threading
import time
from collections.abc import Generator, Iterator
from typing import Any, TypeVar

import grpc

from stepwire.client._core.call import Call, Operation, Pages, find_method, make_stubs
from stepwire.client._core.channel import Endpoint
from stepwire.client._core.heartbeats import Heartbeats
from stepwire.client._core.reachability import check_reached, probe
from stepwire.client._core.reconnect import STREAM_DEADLINE
from stepwire.client._core.retry import Attempts
from stepwire.client._core.status import from_rpc_error
from stepwire.client._core.stream import Follow
from stepwire.client._sync.alarm import Alarm, Alarms
from stepwire.client.errors import StepwireError

T = TypeVar("T")


class SyncTransport:
    """A channel that threads share. The first call opens it."""

    def __init__(self, endpoint: Endpoint, channel: grpc.Channel | None) -> None:
        self._endpoint = endpoint
        self._channel = channel
        self._owned = channel is None
        self._stubs: dict[str, Any] | None = None
        self._lock = threading.Lock()
        self._closed = False
        self._alarms = Alarms()

    def channel(self) -> grpc.Channel:
        """Return the channel; the first call opens it."""
        with self._lock:
            if self._closed:
                raise RuntimeError("the client is closed")
            if self._channel is None:
                self._channel = self._endpoint.open()
            return self._channel

    def method(self, name: str) -> Any:
        """Return the multi-callable of `Service.Method`."""
        channel = self.channel()
        if self._stubs is None:
            self._stubs = make_stubs(channel)
        return find_method(self._stubs, name)

    def connect(self, timeout: float) -> None:
        """Connect within `timeout` seconds. Raises UnavailableError, which says why it failed."""
        ready = grpc.channel_ready_future(self.channel())
        try:
            ready.result(timeout)
        except grpc.FutureTimeoutError:
            try:
                self.unary(probe())
            except StepwireError as error:
                check_reached(error, self._endpoint.address, timeout)
        finally:
            ready.cancel()

    def open(self, name: str, request: Any) -> Any:
        """Start a call of a stream."""
        return self.method(name)(request, timeout=STREAM_DEADLINE, metadata=self._endpoint.metadata())

    def alarm(self, heartbeats: Heartbeats, call: Any) -> Alarm:
        """Return what cancels the call of a stream when the server has fallen silent."""
        return Alarm(self._alarms, heartbeats, call)

    def close(self) -> None:
        """Close the channel, unless the caller passed it."""
        with self._lock:
            self._closed = True
            if self._channel is not None and self._owned:
                self._channel.close()

    def unary(self, call: Call[T]) -> T:
        """Make a call, and repeat it while that is safe and can help."""
        attempts = Attempts(call.budget, safe=call.safe)
        while True:
            try:
                response = self.method(call.method)(
                    call.request, timeout=attempts.timeout(), metadata=self._endpoint.metadata()
                )
                return call.parse(response)
            except grpc.RpcError as error:
                failure = from_rpc_error(error)
                delay = attempts.delay_after(failure)
            time.sleep(delay)

    def run(self, operation: Operation[T]) -> T:
        """Make the calls of an operation."""
        try:
            step = next(operation)
            while True:
                try:
                    answer: Any = None
                    if isinstance(step, Call):
                        answer = self.unary(step)
                    else:
                        time.sleep(step)
                except StepwireError as error:
                    step = operation.throw(error)
                else:
                    step = operation.send(answer)
        except StopIteration as stop:
            result: T = stop.value
            return result
        finally:
            operation.close()

    def pages(self, pages: Pages[T]) -> Iterator[T]:
        """Iterate over the items of all pages."""
        while (call := pages.call()) is not None:
            yield from self.unary(call)

    def follow(self, follow: Follow) -> Generator[Any, None, None]:
        """Iterate over the events of a log, over as many connections as it takes."""
        while True:
            call = self.open(follow.method, follow.request())
            failure: StepwireError | None = None
            try:
                with self.alarm(follow.heartbeats, call) as alarm:
                    for frame in call:
                        follow.receive(frame)
                        alarm.received()
                        while (event := follow.pop()) is not None:
                            yield event
                        if follow.ended:
                            return
                        alarm.waiting()
            except grpc.RpcError as error:
                failure = alarm.loss() or from_rpc_error(error)
            finally:
                call.cancel()
            delay = follow.delay_after(failure)
            if delay is None:
                return
            time.sleep(delay)
