"""How a call ends: whatever a handler raises becomes a status, and no text of an unexpected error leaves the server."""

from __future__ import annotations

import asyncio
from time import perf_counter
from types import TracebackType
from typing import Any

import grpc
from google.rpc.status_pb2 import Status

from stepwire.server.rpc.errors import status_of
from stepwire.server.rpc.gate.audit import AuditEntry
from stepwire.server.rpc.gate.call import Call
from stepwire.server.rpc.gate.calls import Calls
from stepwire.server.rpc.grpc_types import Context
from stepwire.server.runs.errors import DrainingError
from stepwire.server.telemetry.metrics import RpcMetrics

_CANCELLED: int = grpc.StatusCode.CANCELLED.value[0]


class Ending:
    """Wrap the handling of one call, and turn what it raises into `refusal`, the status to end the call with.

    Unary calls and streams end through this alone. It counts the call and its duration, and takes it out of the calls
    under way. A cancellation passes through if the client left; if this server or engine code caused it, the client
    gets a status, because gRPC would leave it waiting. A handler's BaseException (a Rust panic, a group of errors)
    becomes a status too: raised further, it would end the server's event loop.

    Args:
        calls: The calls under way.
        method: The full name of the method.
        counted: Counts the method's calls by status.
        context: gRPC's context of the call.
    """

    __slots__ = (
        "_began",
        "_calls",
        "_context",
        "_counted",
        "_entered",
        "_method",
        "answer",
        "call",
        "entry",
        "refusal",
    )

    def __init__(self, calls: Calls, method: str, counted: RpcMetrics, context: Context) -> None:
        self._calls = calls
        self._method = method
        self._counted = counted
        self._context = context
        self._entered = False
        self.call: Call | None = None
        self.refusal: Status | None = None
        self.answer: Any = None
        """What a unary call is answered, where `entry` is set."""
        self.entry: AuditEntry | None = None
        """Its record in the audit log, written when it ends."""

    def enter(self, call: Call) -> None:
        """Count a call as under way. LimitError if there are too many."""
        self.call = call
        self._calls.enter(call)
        self._entered = True

    def leave(self) -> None:
        """Count the call as ended, if it was under way."""
        if self._entered and self.call is not None:
            self._entered = False
            self._calls.leave(self.call)

    def __enter__(self) -> Ending:
        self._began = perf_counter()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> bool:
        self.leave()
        code = 0
        if error is not None:
            self.refusal = self._refusal(error)
            code = _code(self._context) if self.refusal is None else self.refusal.code
        self._counted.done(code, perf_counter() - self._began)
        if self.entry is not None:
            self.entry.end(code, self.refusal, self.answer)
        if isinstance(error, grpc.aio.InternalError):
            # A write failed because the client left. gRPC cancels this task for that, but late if the loop was busy.
            raise asyncio.CancelledError from None
        return self.refusal is not None

    def _refusal(self, error: BaseException) -> Status | None:
        """Return the status to answer with; None if the error ends the call by itself."""
        if isinstance(error, asyncio.CancelledError):
            return self._cancelled()
        if isinstance(error, (grpc.aio.AbortError, grpc.aio.InternalError)):
            return None
        if isinstance(error, GeneratorExit) and not _in_task():
            return None
        return status_of(error, self._method, self._calls.metrics)

    def _cancelled(self) -> Status | None:
        task = asyncio.current_task()
        if task is None or self._context.done():
            return None
        if self.call is not None and self.call.ended is not None:
            task.uncancel()
            return status_of(self.call.ended, self._method, self._calls.metrics)
        if task.cancelling():
            return None
        return status_of(DrainingError("The call was interrupted"), self._method, self._calls.metrics)


def interrupted(error: BaseException) -> BaseException | None:
    """Return the error for a frame or a call that was ended by an error. None if this task must end with it itself.

    A CancelledError without a cancellation comes from engine code, which dropped the run: the client must retry. The
    caller raises, not this function: a frame in the traceback that holds its own error is garbage for the collector.
    """
    if isinstance(error, GeneratorExit) and not _in_task():
        return None
    if not isinstance(error, asyncio.CancelledError):
        return error
    task = asyncio.current_task()
    if task is None or task.cancelling():
        return None
    return DrainingError("The call was interrupted")


def _in_task() -> bool:
    """Tell whether a task runs now. None does while a coroutine that was never finished is closed."""
    try:
        return asyncio.current_task() is not None
    except RuntimeError:
        return False


def _code(context: Context) -> int:
    """Return the number of the status that the context was aborted with; CANCELLED if the client left."""
    code: Any = context.code()  # 0 until one is set
    return code.value[0] if isinstance(code, grpc.StatusCode) else code or _CANCELLED
