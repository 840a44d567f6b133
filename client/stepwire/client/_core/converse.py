"""`Converse` and its reconnections, seen as one conversation.

The drivers write the frames that `ConverseCore` returns and hand it the frames that arrive. After a lost connection it
attaches again where the stream was, and repeats the sends that have no result yet. A repeated send keeps its
`request_id`, so the server takes each once. `sends` tells when one that was refused is repeated.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from typing import Any

import grpc

from stepwire.client._core.answers import to_outcome, to_run_info, to_send_result
from stepwire.client._core.call import Operation, new_request_id
from stepwire.client._core.cursor import Cursor
from stepwire.client._core.event_types import EventTypes, encode_event
from stepwire.client._core.heartbeats import Heartbeats
from stepwire.client._core.reconnect import Reconnect
from stepwire.client._core.sends import FutureLike, Sends
from stepwire.client._core.status import from_status
from stepwire.client.errors import FailedPreconditionError, StepwireError
from stepwire.client.events import EventLike
from stepwire.client.models import Outcome, RunInfo
from stepwire.v1 import run_service_pb2 as runs
from stepwire.v1 import types_pb2

METHOD = "RunService.Converse"
MAX_UNACKED = 256


class ConverseCore:
    """The state of a conversation. Not safe for threads: the driver locks.

    Args:
        run_id: The run.
        types: The caller's event classes.
        after: The sequence after which the stream begins.
        options: What the stream carries.
        max_unacked: How many entries may wait in this client before the server pauses.
        reconnect: Decides when to connect again.
        sends: Decides when sends are repeated.
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
        sends: Sends,
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
        self._sends = sends
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
        return self._sends.pending

    def opening(self) -> list[runs.ConverseRequest]:
        """Return the first frames of a connection."""
        self._acked = self._cursor.sequence  # each attachment has its own window
        attach = runs.ConverseAttach(
            run_id=self.run_id,
            after_sequence=self._cursor.sequence,
            options=self._options,
            max_unacked=self._max_unacked,
        )
        return [runs.ConverseRequest(attach=attach), *self._sends.reopened()]

    def send(self, event: EventLike, step: str | None) -> tuple[Any, runs.ConverseRequest | None]:
        """Return the future of a send and the frame to write.

        The frame is None when the conversation is over, or when it is written later: `repeats` returns it then.
        """
        message = runs.ConverseSend(request_id=new_request_id(), event=encode_event(event), step=step or "")
        frame = runs.ConverseRequest(send=message)
        future = self._new_future()
        if self._failure is not None:
            future.set_exception(self._failure)
            return future, None
        return future, frame if self._sends.add(frame, future) else None

    def cancel(self, reason: str) -> runs.ConverseRequest | None:
        """Return the frame of a cancel; None as for a send."""
        frame = runs.ConverseRequest(cancel=runs.ConverseCancel(reason=reason))
        return frame if self._failure is None and self._sends.add(frame, None) else None

    def repeats(self) -> tuple[list[runs.ConverseRequest], float | None]:
        """Return the held frames to write now, and when to ask again, by `time.monotonic`; None if that is not needed.

        Ask after each frame that was received, too.
        """
        return self._sends.due()

    @property
    def unserved(self) -> StepwireError | None:
        """Return the refusal of a send for which to go on at another address; None while there is none."""
        return self._sends.unserved

    def settle(self) -> Operation[None]:
        """Find out the results of sends whose effect the end of the run left in doubt."""
        return self._sends.settle()

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
            self._failure = FailedPreconditionError(
                f"run {self.run_id} has ended",
                code=grpc.StatusCode.FAILED_PRECONDITION,
                reason="RUN_ENDED",
            )
            self._sends.fail(self._failure, doubtful=False)

    def _resolve(self, result: runs.ConverseSendResult) -> None:
        error = from_status(result.error) if result.WhichOneof("result") == "error" else None
        if error is not None and self._sends.refused(result.request_id, error):
            return
        future = self._sends.answered(result.request_id)
        if future is None:
            return  # the answer to a repeat, or to a future that was cancelled
        if error is not None:
            future.set_exception(error)
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
        delay = self._reconnect.delay_after(error)
        return max(delay, self._sends.lost(error))

    def fail(self, error: BaseException) -> None:
        """Fail the sends that have no result yet, and all later ones."""
        self._failure = self._failure or error
        self._sends.fail(error)
