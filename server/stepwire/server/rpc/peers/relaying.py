"""Carry out the calls that other replicas pass on: the internal method Relay.

One long-lived stream from each replica brings its calls and takes their answers. Each call goes through the gate as if
it had come alone: with the metadata that belong to it, under a task of its own, and with the same checks. The stream
itself is for replicas alone, and says nothing about callers.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from typing import Any, Final

import grpc
from google.rpc.status_pb2 import Status

from stepwire.server.rpc.grpc_types import Context
from stepwire.server.rpc.handlers import Handlers
from stepwire.server.rpc.local import LocalCalls, RefusedError
from stepwire.server.rpc.peers.content import drop, texts
from stepwire.server.rpc.peers.following import INTERNAL
from stepwire.server.rpc.peers.hop import HopSigner
from stepwire.server.rpc.peers.relay_frames import Item, Outbox, read_frame
from stepwire.workflow.hosting import start_task

__all__ = ["ANSWERED", "BEGIN", "END", "MOST_CALLS", "REFUSED", "RELAY", "Relayed"]

RELAY: Final = INTERNAL + "Relay"
ANSWERED: Final = 0
"""Said of a call with the bytes of its response."""
REFUSED: Final = 1
"""Said of a call with its status, as a google.rpc.Status."""
BEGIN: Final = "begin"
"""Said of the stream in its first frame: the other replica may send now."""
END: Final = "end"
"""Said of the stream: the other replica is to send no more, because this one stops."""
MOST_CALLS: Final = 1024
"""Calls under way on one stream."""
_MOST_BYTES: Final = 8 << 20
"""Bytes of answers that wait for a replica that does not read. Beyond that no calls are received from it."""


class Relayed:
    """Serve Relay."""

    def __init__(self, local: LocalCalls, signer: HopSigner) -> None:
        """Carry calls out by the services of this process."""
        self._local = local
        self._signer = signer
        self._streams: dict[asyncio.Task[Any], Outbox] = {}
        self._ending = False

    def add_to(self, server: Handlers) -> None:
        """Serve on a gRPC server that is not started."""
        handlers: dict[str, Any] = {RELAY.rpartition("/")[2]: grpc.stream_stream_rpc_method_handler(self._serve)}
        server.add_generic_rpc_handlers((grpc.method_handlers_generic_handler(INTERNAL.strip("/"), handlers),))

    async def end(self, seconds: float) -> None:
        """Have the other replicas send no more, and answer what came; give up after so many seconds."""
        self._ending = True
        for outbox in self._streams.values():
            outbox.put(0, END)
        if self._streams:
            await asyncio.wait(list(self._streams), timeout=seconds)

    async def _serve(self, requests: AsyncIterator[bytes], context: Context) -> None:
        if self._signer.verify(context.invocation_metadata() or (), RELAY) is None:
            await drop(requests)
            await context.abort(grpc.StatusCode.PERMISSION_DENIED, "This method is for replicas")
        if self._ending:
            await context.abort(grpc.StatusCode.UNAVAILABLE, "This replica stops")
        task = asyncio.current_task()
        assert task is not None
        stream = _Stream(self._local, context.peer() or "")
        self._streams[task] = stream.outbox
        stream.outbox.put(0, BEGIN)
        reading = start_task(stream.read(requests), name="stepwire-relay-read")
        try:
            async for frame in stream.outbox:
                await context.write(frame)
            await reading
        except grpc.aio.InternalError:
            pass  # a write failed because the other replica left
        except (ValueError, TypeError):
            await drop(requests)
            await context.abort(grpc.StatusCode.INVALID_ARGUMENT, "This is no frame of calls")
        finally:
            del self._streams[task]
            reading.cancel()
            stream.cancel()


class _Stream:
    """The calls of one stream."""

    def __init__(self, local: LocalCalls, peer: str) -> None:
        self._local = local
        self._peer = peer
        self._calls: dict[int, asyncio.Task[None]] = {}
        self._under_way = 0
        self.outbox = Outbox(lambda: self._under_way)

    async def read(self, requests: AsyncIterator[bytes]) -> None:
        """Carry out what comes, and close the outbox behind the last answer. ValueError, TypeError: it is no frame."""
        try:
            async for frame in requests:
                self._under_way, items = read_frame(frame)
                for item in items:
                    self._take(item)
                await self.outbox.room(_MOST_BYTES)
            if self._calls:
                await asyncio.wait(list(self._calls.values()))
        finally:
            self.outbox.close()

    def cancel(self) -> None:
        """Cancel all calls: the replica that passed them on is not there any more."""
        for task in self._calls.values():
            task.cancel()

    def _take(self, item: Item) -> None:
        if not item.said:  # the call is given up
            if (task := self._calls.pop(item.call, None)) is not None:
                task.cancel()
            return
        if len(self._calls) >= MOST_CALLS:
            status = Status(code=grpc.StatusCode.UNAVAILABLE.value[0], message="Too many calls on one stream")
            self.outbox.put(item.call, REFUSED, data=status.SerializeToString())
            return
        if item.left:
            raise ValueError("a request in parts: this version sends long ones alone")
        method, metadata, timeout = item.said[:3]
        if not isinstance(method, str) or not isinstance(timeout, int | float | None):
            raise ValueError("this is no method and no time")
        headers = [(name, value) for name, value in (texts(each, 2) for each in metadata)]
        carried = self._carry(item.call, method, item.data, headers, timeout)
        self._calls[item.call] = start_task(carried, name="stepwire-relay")

    async def _carry(self, call: int, method: str, data: bytes, metadata: Any, timeout: float | None) -> None:
        try:
            if method.startswith(INTERNAL):
                raise RefusedError(Status(code=grpc.StatusCode.UNIMPLEMENTED.value[0], message="It goes alone"))
            answer = await self._local.unary(method, data, metadata, timeout, self._peer)
            said, told = ANSWERED, answer if isinstance(answer, bytes) else answer.SerializeToString()
        except RefusedError as error:
            said, told = REFUSED, error.status.SerializeToString()
        except Exception as error:  # noqa: BLE001 - whatever it is becomes a status
            said, told = REFUSED, self._local.status_of(error, method).SerializeToString()
        finally:
            self._calls.pop(call, None)
        self.outbox.put(call, said, data=told)
