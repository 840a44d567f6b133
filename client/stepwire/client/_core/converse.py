"""`Converse` and its reconnections, seen as one conversation.

The drivers write the frames that `ConverseCore` returns and hand it the frames that arrive. After a lost connection it
attaches again where the stream was, and repeats the sends that have no result yet. A repeated send keeps its
`request_id`, so the server takes each once.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from typing import Any, Protocol

import grpc

from stepwire.client._core.answers import to_outcome, to_run_info, to_send_result
from stepwire.client._core.call import new_request_id
from stepwire.client._core.cursor import Cursor
from stepwire.client._core.event_types import EventTypes, encode_event
from stepwire.client._core.heartbeats import Heartbeats
from stepwire.client._core.reconnect import Reconnect
from stepwire.client._core.status import from_status
from stepwire.client.errors import FailedPreconditionError, StepwireError
from stepwire.client.events import EventLike
from stepwire.client.models import Outcome, RunInfo
from stepwire.v1 import run_service_pb2 as runs
from stepwire.v1 import types_pb2

METHOD = "RunService.Converse"
MAX_UNACKED = 256


class FutureLike(Protocol):
    """What the futures of asyncio and concurrent.futures have in common."""

    def done(self) -> bool:
        """Say whether it has a result or an exception, or was cancelled."""

    def set_result(self, result: Any, /) -> None:
        """Set the result."""

    def set_exception(self, exception: Any, /) -> None:
        """Set the exception."""


class ConverseCore:
    """The state of a conversation. Not safe for threads: the driver locks.

    Args:
        run_id: The run.
        types: The caller's event classes.
        after: The sequence after which the stream begins.
        options: What the stream carries.
        max_unacked: How many entries may wait in this client before the server pauses.
        reconnect: Decides when to connect again.
        new_future: Makes the driver's futures.

    Attributes:
        info: The run as it was when the last connection opened; None before the first.
        outcome: How the run ended; None until the server has sent everything.
    """

    def __init__(
        self,
        run_id: str,
        types: EventTypes,
        *,
        after: int,
        options: runs.StreamOptions,
        max_unacked: int,
        reconnect: Reconnect,
        new_future: Callable[[], FutureLike],
    ) -> None:
        if max_unacked < 1:
            raise ValueError(f"max_unacked must be 1 or more, not {max_unacked}")
        self.run_id = run_id
        self._types = types
        self._cursor = Cursor(run_id, after)
        self._options = options
        self._max_unacked = max_unacked
        self._reconnect = reconnect
        self.heartbeats = Heartbeats()
        self._new_future = new_future
        self._entries: deque[types_pb2.LogEntry] = deque()
        self._acked = after
        self._consumed = after
        self._sends: dict[str, tuple[runs.ConverseRequest, FutureLike]] = {}
        self._failure: BaseException | None = None
        self.info: RunInfo | None = None
        self.outcome: Outcome | None = None

    @property
    def ended(self) -> bool:
        """Say whether the server has sent everything."""
        return self.outcome is not None

    @property
    def pending(self) -> list[Any]:
        """Return the futures of the sends that have no result yet."""
        return [future for _, future in self._sends.values()]

    def opening(self) -> list[runs.ConverseRequest]:
        """Return the first frames of a connection."""
        self._acked = self._cursor.sequence  # each attachment has its own window
        attach = runs.ConverseAttach(
            run_id=self.run_id,
            after_sequence=self._cursor.sequence,
            options=self._options,
            max_unacked=self._max_unacked,
        )
        resends = [frame for frame, _ in self._sends.values()]
        return [runs.ConverseRequest(attach=attach), *resends]

    def send(self, event: EventLike, step: str | None) -> tuple[Any, runs.ConverseRequest | None]:
        """Return the future of a send and the frame to write. The frame is None when the conversation is over."""
        message = runs.ConverseSend(request_id=new_request_id(), event=encode_event(event), step=step or "")
        frame = runs.ConverseRequest(send=message)
        future = self._new_future()
        if self._failure is not None:
            future.set_exception(self._failure)
            return future, None
        self._sends[message.request_id] = (frame, future)
        return future, frame

    def receive(self, frame: runs.ConverseResponse) -> None:
        """Take in a frame."""
        self._reconnect.heard()
        kind = frame.WhichOneof("frame")
        if kind == "opened":
            self._cursor.expect(frame.opened.next_sequence - 1)
            self.info = to_run_info(frame.opened.run, self._types)
        elif kind == "events":
            self._entries.extend(self._cursor.take(frame.events))
        elif kind == "heartbeat":
            self._cursor.expect(frame.heartbeat.sequence)
            self.heartbeats.take(frame.heartbeat)
        elif kind == "send_result":
            self._resolve(frame.send_result)
        elif kind == "finished":
            self.outcome = to_outcome(frame.finished.outcome)
            self.fail(
                FailedPreconditionError(
                    f"run {self.run_id} has ended",
                    code=grpc.StatusCode.FAILED_PRECONDITION,
                    reason="RUN_ENDED",
                )
            )

    def _resolve(self, result: runs.ConverseSendResult) -> None:
        _, future = self._sends.pop(result.request_id, (None, None))
        if future is None or future.done():
            return  # the answer to a repeat, or to a future that was cancelled
        if result.WhichOneof("result") == "error":
            future.set_exception(from_status(result.error))
        else:
            future.set_result(to_send_result(result))

    def pop(self) -> Any:
        """Return the next event, None when there is none yet."""
        if not self._entries:
            return None
        entry = self._entries.popleft()
        self._consumed = entry.sequence
        return self._types.decode(entry)

    def ack(self) -> runs.ConverseRequest | None:
        """Return the acknowledgement that is due, None when none is.

        One is due when the caller has taken half of the window, so that the server need not pause.
        """
        taken = self._consumed if self._entries else self._cursor.sequence
        if self.ended or taken - self._acked < max(1, self._max_unacked // 2):
            return None
        self._acked = taken
        return runs.ConverseRequest(ack=runs.ConverseAck(sequence=taken))

    def delay_after(self, error: StepwireError | None) -> float:
        """Return the seconds to wait before the next connection. Raises `error` when none can help."""
        return self._reconnect.delay_after(error)

    def fail(self, error: BaseException) -> None:
        """Fail the sends that have no result yet, and all later ones."""
        self._failure = self._failure or error
        for _, future in self._sends.values():
            if not future.done():
                future.set_exception(error)
        self._sends.clear()
