"""Call the services of this process without a connection of the call's own: for the web, and for other replicas.

A call goes through the same gatekeeper as a call over gRPC: who calls, may they, how much. What gRPC itself does for
a call is done here: metadata, the deadline, the flow of a stream, the status. Only bytes on a socket are left out.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Callable, Coroutine, Sequence
from typing import Any, Final, NamedTuple, cast

import grpc
from google.protobuf.message import Message
from google.rpc.status_pb2 import Status

from stepwire.server.rpc.errors import status_of
from stepwire.server.rpc.gate.gatekeeper import Gatekeeper
from stepwire.server.rpc.grpc_types import Context
from stepwire.workflow.hosting import outside, start_task

__all__ = ["LocalCalls", "LocalStream", "RefusedError"]

Metadata = Sequence[tuple[str, str]]
Response = bytes | Message
"""A message, or one that is serialized already."""

_DETAILS: Final = "grpc-status-details-bin"


class RefusedError(Exception):
    """A call was refused or failed: `status` is what a gRPC client would have seen, details included."""

    def __init__(self, status: Status) -> None:
        super().__init__(status.message)
        self.status = status


class LocalCalls:
    """The methods of this process.

    Args:
        gatekeeper: Has the handlers of all methods, and admits the calls.
    """

    def __init__(self, gatekeeper: Gatekeeper) -> None:
        self._gatekeeper = gatekeeper

    async def unary(
        self, method: str, request: bytes, metadata: Metadata, timeout: float | None = None, peer: str = ""
    ) -> Response:
        """Make a unary call. It runs in the caller's task, which must make one call only.

        Args:
            method: The full name of the method, as in `/stepwire.v1.RunService/StartRun`.
            request: Its request, as protobuf.
            metadata: The caller's credential, trace and address.
            timeout: Seconds until the caller's deadline.
            peer: The address that the call comes from, as gRPC has it, if the metadata do not tell.

        Raises:
            RefusedError: The call was refused or failed.
        """
        context = _Context(metadata, timeout, peer)
        try:
            async with asyncio.timeout(timeout):
                handler = self._handler(method, metadata)
                if handler.unary_unary is None:
                    if not self._gatekeeper.refuses:
                        raise RefusedError(_unknown())
                    await handler.stream_stream(None, _given(context))  # it refuses
                return cast("Response", await handler.unary_unary(request, _given(context)))
        except grpc.aio.AbortError:
            raise RefusedError(context.refusal) from None
        except TimeoutError:
            raise RefusedError(_late()) from None
        finally:
            context.end()

    async def admit(self, method: str, metadata: Metadata) -> None:
        """Check who calls, before anything of the request is received; it costs nothing where nobody has to say that.

        Raises:
            RefusedError: The credential is missing or not valid, or the caller may not use the method.
        """
        if not self._gatekeeper.authenticates:
            return
        handler = self._handler(method, metadata)
        if self._gatekeeper.refuses:
            context = _Context(metadata, None)
            try:
                await handler.stream_stream(None, _given(context))
            except grpc.aio.AbortError:
                raise RefusedError(context.refusal) from None
            finally:
                context.end()

    def status_of(self, error: Exception, method: str) -> Status:
        """Return the status that a gRPC client would get for an error of a method; count and log it likewise."""
        return status_of(error, method, self._gatekeeper.metrics)

    def stream(self, method: str, request: bytes, metadata: Metadata, timeout: float | None = None) -> LocalStream:
        """Begin a call with a stream of responses; the arguments are those of `unary`."""

        async def run(context: _Context) -> None:
            handler = self._handler(method, metadata)
            await (handler.unary_stream or handler.stream_stream)(request, _given(context))

        return LocalStream(run, _Context(metadata, timeout))

    def _handler(self, method: str, metadata: Metadata) -> Any:
        handler = self._gatekeeper.service(cast("grpc.HandlerCallDetails", _Details(method, metadata)))
        if handler is None:
            raise RefusedError(_unknown())
        return handler


class LocalStream:
    """The responses of a streaming call: iterate it once, and `close` it in any case.

    The handler goes on when the next response is asked for. So a reader that is slow holds one response, and a reader
    that does not read is seen by the gate, which ends the call.
    """

    def __init__(self, run: Callable[[_Context], Coroutine[Any, Any, None]], context: _Context) -> None:
        self._context = context
        self._loop = asyncio.get_running_loop()
        self._next: Response | None = None
        self._asked: asyncio.Future[None] | None = None
        """The handler waits for this after a response."""
        self._news: asyncio.Future[None] | None = None
        """The reader waits for this: a response, or the end."""
        self._accepted: asyncio.Future[None] = self._loop.create_future()
        context.stream = self
        self._task = start_task(self._run(run), name="stepwire-local-stream")
        self._task.add_done_callback(self._ended)

    async def accepted(self) -> None:
        """Return once the call is accepted. RefusedError if it is not."""
        await self._accepted
        if self._task.done():
            self._check()

    def __aiter__(self) -> LocalStream:
        return self

    async def __anext__(self) -> Response:
        """Return the next response. RefusedError if the call failed."""
        _resolve(self._asked)
        if self._next is None and not self._task.done():
            self._news = self._loop.create_future()
            await self._news
        response, self._next = self._next, None
        if response is None:
            self._check()
            raise StopAsyncIteration
        return response

    def close(self) -> None:
        """Cancel the call unless it has ended."""
        self._context.left = True
        outside(self._task.cancel)

    async def closed(self) -> None:
        """Return when the handler has ended; call it after `close`."""
        await asyncio.wait((self._task,))

    async def write(self, response: Response) -> None:
        """Give a response to the reader, and wait until it asks for the next one."""
        self.accept()
        self._next = response
        self._asked = self._loop.create_future()
        _resolve(self._news)
        await self._asked

    def accept(self) -> None:
        """Tell the reader that the call is accepted."""
        _resolve(self._accepted)

    async def _run(self, run: Callable[[_Context], Coroutine[Any, Any, None]]) -> None:
        try:
            async with asyncio.timeout(self._context.time_remaining()):
                await run(self._context)
        except TimeoutError:
            self._context.refusal = _late()
        except grpc.aio.AbortError:
            pass  # the context has the status

    def _ended(self, task: asyncio.Task[None]) -> None:
        self._context.end()
        self.accept()
        _resolve(self._news)

    def _check(self) -> None:
        """Raise what the call ended with unless it was well."""
        if self._task.cancelled():
            raise RefusedError(Status(code=grpc.StatusCode.CANCELLED.value[0], message="The call was cancelled"))
        self._task.result()
        if self._context.refusal.code:
            raise RefusedError(self._context.refusal)


class _Details(NamedTuple):
    method: str
    invocation_metadata: Metadata


class _Context:
    """What the gatekeeper and the services ask of gRPC's context of a call."""

    def __init__(self, metadata: Metadata, timeout: float | None, peer: str = "") -> None:
        self._peer = peer
        self._metadata = metadata
        self._deadline = None if timeout is None else asyncio.get_running_loop().time() + timeout
        self._callbacks: list[Callable[[Any], object]] = []
        self.stream: LocalStream | None = None
        self.refusal = Status()
        """What the call was aborted with."""
        self.left = False
        """Whether the caller has left."""

    def invocation_metadata(self) -> Metadata:
        return self._metadata

    def peer(self) -> str:
        return self._peer  # empty for the web: the metadata tell the address of the HTTP request

    def auth_context(self) -> dict[str, Any]:
        return {}  # client certificates are for gRPC

    def time_remaining(self) -> float | None:
        return None if self._deadline is None else self._deadline - asyncio.get_running_loop().time()

    def done(self) -> bool:
        return self.left

    def code(self) -> int:
        return int(self.refusal.code)

    def add_done_callback(self, callback: Callable[[Any], object]) -> None:
        self._callbacks.append(callback)

    def set_trailing_metadata(self, metadata: Metadata) -> None:
        """Leave them out: callers over HTTP have no use for them."""

    async def send_initial_metadata(self, metadata: Metadata) -> None:
        if self.stream is not None:
            self.stream.accept()

    async def write(self, response: Response) -> None:
        assert self.stream is not None, "a unary call has no stream"
        await self.stream.write(response)

    async def abort(
        self, code: grpc.StatusCode, details: str = "", trailing: Sequence[tuple[str, str | bytes]] = ()
    ) -> None:
        found = next((value for name, value in trailing if name == _DETAILS), None)
        self.refusal = Status(code=code.value[0], message=details)
        if isinstance(found, bytes):
            self.refusal = Status.FromString(found)
        raise grpc.aio.AbortError(details)

    def end(self) -> None:
        """Call back those who wait for the end."""
        for callback in self._callbacks:
            with contextlib.suppress(Exception):
                callback(self)


def _given(context: _Context) -> Context:
    return cast("Context", context)


def _late() -> Status:
    return Status(code=grpc.StatusCode.DEADLINE_EXCEEDED.value[0], message="Deadline Exceeded")


def _unknown() -> Status:
    return Status(code=grpc.StatusCode.UNIMPLEMENTED.value[0], message="There is no such method")


def _resolve(future: asyncio.Future[None] | None) -> None:
    if future is not None and not future.done():
        future.set_result(None)
