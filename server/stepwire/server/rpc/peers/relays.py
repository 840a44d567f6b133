"""Call unary methods of other replicas, many calls on one stream, so that they share what gRPC costs a caller.

gRPC's client costs this process as much as a whole served call does. So there is one long-lived stream to each replica
that calls are passed on to (`relaying` serves it). A call goes alone, as a unary call, if its request is long, if the
stream has as many calls as it may, or if the other replica does not know the stream.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator, Callable, Sequence
from contextvars import Context
from typing import Any, Final

import grpc
from google.rpc.status_pb2 import Status

from stepwire.server.rpc.local import RefusedError
from stepwire.server.rpc.peers.hop import HopSigner
from stepwire.server.rpc.peers.links import Links
from stepwire.server.rpc.peers.relay_frames import PART_BYTES, Outbox, read_frame
from stepwire.server.rpc.peers.relaying import ANSWERED, END, MOST_CALLS, REFUSED, RELAY
from stepwire.server.telemetry.metrics import Metrics
from stepwire.workflow.hosting import outside, start_task

__all__ = ["Relays"]

logger = logging.getLogger("stepwire.rpc")

Metadata = Sequence[tuple[str, str]]

_MOST_BYTES: Final = 4 << 20
"""Bytes of requests that wait on one stream: more of them means that the other replica does not read."""
_IDLE_SECONDS: Final = 60.0
"""Seconds without a call after which a stream is closed, at the earliest."""
_ALONE_SECONDS: Final = 30.0
"""Seconds for which calls go alone to a replica that does not know the stream: it may be updated meanwhile."""
_NOT_SERVED: Final = (grpc.StatusCode.UNIMPLEMENTED, grpc.StatusCode.PERMISSION_DENIED)
"""What a replica answers that opens no stream: it has done nothing of what was sent on it."""
_DETAILS: Final = "grpc-status-details-bin"


class Relays:
    """Call unary methods of other replicas. One for each server."""

    def __init__(self, links: Links, signer: HopSigner, metrics: Metrics) -> None:
        self._links = links
        self._signer = signer
        self._metrics = metrics
        self._relays: dict[str, _Relay] = {}
        self._tasks: set[asyncio.Task[bool]] = set()
        """Of these, and of those that take no more calls."""
        self._alone: dict[str, float] = {}
        """Until when calls go alone, by address."""

    async def call(self, address: str, method: str, data: bytes, metadata: Metadata, timeout: float | None) -> bytes:
        """Call a method of the replica at an address; return its response.

        Args:
            address: The address.
            method: The full name of the method.
            data: The request.
            metadata: Its metadata: the signature, the caller's credential, the trace.
            timeout: Seconds until its deadline; None without one.

        Raises:
            RefusedError: The other replica refused the call. Its code is UNAVAILABLE, without details, if it cannot be
                reached or is taken for dead meanwhile: the outcome is unknown then.
        """
        if len(data) <= PART_BYTES:
            relay = self._relay(address)
            if relay is not None and not relay.full:
                try:
                    return await relay.call(method, data, metadata, timeout)
                except _NotServedError:
                    self._alone[address] = asyncio.get_running_loop().time() + _ALONE_SECONDS
        return await self._call_alone(address, method, data, metadata, timeout)

    async def close(self) -> None:
        """Close all streams; calls under way are given up."""
        tasks = list(self._tasks)
        for task in tasks:
            task.cancel()
        if tasks:
            await asyncio.wait(tasks)

    def _relay(self, address: str) -> _Relay | None:
        """Return the stream to a replica, which is opened if there is none; None if calls go alone."""
        relay = self._relays.get(address)
        if relay is None or not relay.open:
            if address in self._alone:
                if asyncio.get_running_loop().time() < self._alone[address]:
                    return None
                del self._alone[address]
            signature = self._signer.sign(RELAY)
            # All callers share it: also gRPC's tasks, and its timer, are of none of them.
            relay = outside(lambda: _Relay(self._links, address, signature, self._metrics))
            self._relays[address] = relay
            self._tasks.add(relay.task)
            relay.task.add_done_callback(lambda task: self._ended(task, address))
        return relay

    def _ended(self, task: asyncio.Task[bool], address: str) -> None:
        self._tasks.discard(task)
        if (relay := self._relays.get(address)) is not None and relay.task is task:
            del self._relays[address]

    async def _call_alone(
        self, address: str, method: str, data: bytes, metadata: Metadata, timeout: float | None
    ) -> bytes:
        call = self._links.unary(address, method)(data, metadata=tuple(metadata), timeout=timeout)
        self._links.begin(address, call)
        try:
            response: bytes = await call
        except asyncio.CancelledError:
            task = asyncio.current_task()
            if self._links.end(address, call) and task is not None and not task.cancelling():
                raise _gone() from None
            call.cancel()
            raise
        except grpc.aio.AioRpcError as error:
            self._links.end(address, call)
            raise RefusedError(_status_of(error)) from None
        self._links.end(address, call)
        return response


class _NotServedError(Exception):
    """The other replica does not know the stream: nothing of what was sent on it was done."""


class _Relay:
    """One stream to another replica, and the calls on it."""

    def __init__(self, links: Links, address: str, signature: tuple[str, str], metrics: Metrics) -> None:
        self.open = True
        """Whether it takes calls."""
        self._calls: dict[int, asyncio.Future[bytes]] = {}
        self._parts: dict[int, list[bytes]] = {}
        """What has come of long answers."""
        self._last = 0
        self._used = False
        self._outbox = Outbox(lambda: len(self._calls))
        self._loop = asyncio.get_running_loop()
        self._links = links
        self._address = address
        self._metrics = metrics
        self._begun = asyncio.Event()
        """Set once the other replica has opened the stream."""
        self._stream = links.both(address, RELAY)(self._frames(), metadata=(signature,))
        links.begin(address, self._stream)  # it is cancelled when the other replica is taken for dead
        metrics.relays += 1
        self._timer = self._loop.call_later(_IDLE_SECONDS, self._look)
        self.task = start_task(self._read(), name="stepwire-relay", context=Context())
        self.task.add_done_callback(self._ended)

    @property
    def full(self) -> bool:
        """Whether it has as many calls or bytes as it may."""
        return len(self._calls) >= MOST_CALLS or self._outbox.size >= _MOST_BYTES

    async def call(self, method: str, data: bytes, metadata: Metadata, timeout: float | None) -> bytes:
        """Make a call; return its response. RefusedError, or _NotServedError if nothing was done."""
        self._used = True
        self._last = number = self._last + 1
        answer: asyncio.Future[bytes] = self._loop.create_future()
        self._calls[number] = answer
        self._outbox.put(number, method, metadata, timeout, data=data)
        late = None if timeout is None else self._loop.call_later(timeout, _fail, answer, _late)
        try:
            return await answer
        finally:
            if late is not None:
                late.cancel()
            if self._calls.pop(number, None) is not None:
                self._outbox.put(number)  # nobody waits for it any more
                self._parts.pop(number, None)

    def _look(self) -> None:
        if self._used or self._calls:
            self._used = False
            self._timer = self._loop.call_later(_IDLE_SECONDS, self._look)
        else:
            self._retire()

    def _retire(self) -> None:
        """Take no more calls; those under way are answered."""
        self.open = False
        self._outbox.close()

    async def _frames(self) -> AsyncIterator[bytes]:
        """Yield the frames once the stream is open. gRPC forgets why one was refused if a message is sent meanwhile."""
        await self._begun.wait()
        async for frame in self._outbox:
            yield frame

    async def _read(self) -> bool:
        """Take the answers until the stream ends. Return False if the other replica does not know the stream."""
        try:
            async for frame in self._stream:
                self._begun.set()
                for data, left, call, said in read_frame(frame)[1]:
                    if call:
                        self._take(data, left, call, said)
                    elif said[:1] == [END]:
                        self._retire()
        except grpc.aio.AioRpcError as error:
            return self._begun.is_set() or error.code() not in _NOT_SERVED
        return True

    def _ended(self, task: asyncio.Task[bool]) -> None:
        """Refuse the calls that are left."""
        self._metrics.relays -= 1
        self._begun.set()  # gRPC's task that sends ends, too
        self._timer.cancel()
        self._retire()
        self._links.end(self._address, self._stream)
        self._stream.cancel()
        lost: Callable[[], Exception] = _gone
        if not task.cancelled():
            if (error := task.exception()) is not None:
                logger.warning("replica %s sent what this one cannot read: %s", self._address, type(error).__name__)
            elif not task.result():
                lost = _NotServedError
        calls = list(self._calls.values())
        self._calls.clear()
        for answer in calls:
            _fail(answer, lost)

    def _take(self, data: bytes, left: int, call: int, said: Sequence[Any]) -> None:
        answer = self._calls.get(call)
        if answer is None:  # it was given up
            return
        if left or call in self._parts:
            self._parts.setdefault(call, []).append(data)
            if left:
                return
            data = b"".join(self._parts.pop(call))
        del self._calls[call]
        if answer.done():
            return
        if said[:1] == [ANSWERED]:
            answer.set_result(data)
        elif said[:1] == [REFUSED]:
            answer.set_exception(RefusedError(Status.FromString(data)))
        else:
            _fail(answer, _gone)


def _fail(answer: asyncio.Future[bytes], error: Callable[[], Exception]) -> None:
    if not answer.done():
        answer.set_exception(error())


def _status_of(error: grpc.aio.AioRpcError) -> Status:
    for name, value in error.trailing_metadata() or ():
        if name == _DETAILS and isinstance(value, bytes):
            return Status.FromString(value)
    return Status(code=error.code().value[0], message=error.details() or "")


def _gone() -> Exception:
    return RefusedError(Status(code=grpc.StatusCode.UNAVAILABLE.value[0], message="The replica does not answer"))


def _late() -> Exception:
    return RefusedError(Status(code=grpc.StatusCode.DEADLINE_EXCEEDED.value[0], message="Deadline Exceeded"))
