"""Make the core's calls over grpc's blocking API."""

from __future__ import annotations

import queue
import threading
import time
from collections.abc import Generator, Iterator
from functools import partial
from typing import Any, TypeVar

import grpc

from stepwire.client._core.call import Call, Operation, Pages, find_method, make_stubs
from stepwire.client._core.channel import Endpoint
from stepwire.client._core.first_contact import FirstContact
from stepwire.client._core.heartbeats import Heartbeats
from stepwire.client._core.reachability import check_reached, probe
from stepwire.client._core.reconnect import STREAM_DEADLINE, is_connection_loss
from stepwire.client._core.replicas import Replicas, run_of
from stepwire.client._core.retry import Attempts
from stepwire.client._core.status import from_rpc_error
from stepwire.client._core.stream import Stream
from stepwire.client._core.unanswered import explained
from stepwire.client._sync.alarm import Alarm, Alarms
from stepwire.client.errors import StepwireError

T = TypeVar("T")


class SyncTransport:
    """Channels that threads share, one for each address. The first call opens one."""

    def __init__(self, endpoint: Endpoint, channel: grpc.Channel | None, contact: FirstContact) -> None:
        self._endpoint = endpoint
        self.contact = contact
        self._owned = channel is None
        self.replicas = Replicas(endpoint.addresses if channel is None else endpoint.addresses[:1])
        self._channels: list[Any] = [channel] if channel is not None else [None] * len(self.replicas)
        self._stubs: dict[int, dict[str, Any]] = {}
        self._lock = threading.Lock()
        self._closed = False
        self._alarms = Alarms()

    def channel(self, index: int = 0) -> grpc.Channel:
        """Return the channel to an address; the first call opens it."""
        with self._lock:
            if self._closed:
                raise RuntimeError("the client is closed")
            channel: grpc.Channel | None = self._channels[index]
            if channel is None:
                channel = self._channels[index] = self._endpoint.open(index)
            return channel

    def method(self, name: str, index: int = 0) -> Any:
        """Return the multi-callable of `Service.Method` at an address."""
        channel = self.channel(index)
        if index not in self._stubs:
            self._stubs[index] = make_stubs(channel)
        return find_method(self._stubs[index], name)

    def connect(self, timeout: float) -> None:
        """Connect within `timeout` seconds. Raises UnavailableError, which says why it failed."""
        connected: queue.SimpleQueue[int] = queue.SimpleQueue()
        waits = [grpc.channel_ready_future(self.channel(index)) for index in range(len(self.replicas))]
        for index, each in enumerate(waits):
            each.add_done_callback(partial(_put, connected, index))
        try:
            self.replicas.prefer(connected.get(timeout=timeout))
            self.contact.made()
        except queue.Empty:
            try:
                self.unary(probe())
            except StepwireError as error:
                check_reached(error, self._endpoint.address, timeout)
        finally:
            for each in waits:
                each.cancel()

    def open(self, name: str, request: Any, index: int = 0) -> Any:
        """Start a call of a stream at an address."""
        return self.method(name, index)(request, timeout=STREAM_DEADLINE, metadata=self._endpoint.metadata())

    def alarm(self, heartbeats: Heartbeats, call: Any) -> Alarm:
        """Return what cancels the call of a stream when the server has fallen silent."""
        return Alarm(self._alarms, heartbeats, call)

    def close(self) -> None:
        """Close the channel, unless the caller passed it."""
        with self._lock:
            self._closed = True
            for channel in self._channels if self._owned else ():
                if channel is not None:
                    channel.close()

    def unary(self, call: Call[T]) -> T:
        """Make a call, and repeat it while that is safe and can help."""
        several = len(self.replicas) > 1
        attempts = Attempts(call.budget, safe=call.safe, addresses=len(self.replicas))
        run_id = run_of(call.request) if several else ""
        while True:
            index = self.replicas.pick(run_id)
            try:
                response, made = self.method(call.method, index).with_call(
                    call.request, timeout=attempts.timeout(), metadata=self._endpoint.metadata()
                )
                self.contact.made()
                if several:
                    self.replicas.heard(run_of(call.request, response), made.trailing_metadata())
                return call.parse(response)
            except grpc.RpcError as error:
                failure = self.contact.judge(from_rpc_error(error), index)
                if several and is_connection_loss(failure):
                    self.replicas.failed(run_id, index)
                where = self._endpoint.address if several else self._endpoint.addresses[0]
                delay = attempts.delay_after(explained(failure, call, where, attempts.elapsed()))
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

    def follow(self, follow: Stream) -> Generator[Any, None, None]:
        """Iterate over the events of a log, over as many connections as it takes."""
        while True:
            index = self.replicas.pick(follow.run_id)
            call = self.open(follow.method, follow.request(), index)
            failure: StepwireError | None = None
            try:
                with self.alarm(follow.heartbeats, call) as alarm:
                    for frame in call:
                        self.contact.made()
                        follow.receive(frame)
                        alarm.received()
                        while (event := follow.pop()) is not None:
                            yield event
                        if follow.ended:
                            return
                        alarm.waiting()
            except grpc.RpcError as error:
                failure = alarm.loss() or self.contact.judge(from_rpc_error(error), index)
            finally:
                call.cancel()
            delay = follow.delay_after(failure)
            if delay is None:
                return
            self.replicas.failed(follow.run_id, index)
            time.sleep(delay)


def _put(connected: queue.SimpleQueue[int], index: int, _: object) -> None:
    connected.put(index)
