"""Following a log: the cursor, the check for gaps, and when to come back after a loss."""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Iterable, Sequence
from typing import Any

from pydantic import BaseModel

from stepwire.client._core.payload import JSON
from stepwire.client._core.retry import Backoff, Clock
from stepwire.client._core.status import is_connection_loss
from stepwire.client.errors import DeadlineError, StepwireError, StreamGapError, UnavailableError
from stepwire.client.events import EventTypes, type_name
from stepwire.v1 import run_service_pb2 as runs
from stepwire.v1 import types_pb2

# No call is open without end: after this a stream is taken up again where it was.
STREAM_DEADLINE = 3600.0


def stream_options(types: Sequence[str | type[BaseModel]], internal: bool) -> runs.StreamOptions:
    """Return what a stream should carry."""
    return runs.StreamOptions(
        encoding=JSON,
        include_internal=internal,
        event_types=[type_name(item) for item in types],
    )


class Cursor:
    """The last sequence that a stream covered; sees to it that ranges are contiguous."""

    def __init__(self, run_id: str, sequence: int) -> None:
        if sequence < 0:
            raise ValueError("after is negative")
        self._run_id = run_id
        self.sequence = sequence

    def take(self, batch: types_pb2.EventBatch) -> Iterable[types_pb2.LogEntry]:
        """Advance over a batch and return its entries."""
        self.expect(batch.from_sequence - 1)
        if batch.to_sequence < batch.from_sequence:
            raise self._gap(f"a range from {batch.from_sequence} to {batch.to_sequence}")
        last = self.sequence
        for entry in batch.entries:
            if not last < entry.sequence <= batch.to_sequence:
                raise self._gap(f"entry {entry.sequence} where more than {last} was due")
            last = entry.sequence
        self.sequence = batch.to_sequence
        return batch.entries

    def expect(self, sequence: int) -> None:
        """Raise StreamGapError unless `sequence` is where the cursor stands."""
        if sequence != self.sequence:
            raise self._gap(f"the server is at {sequence}, this client at {self.sequence}")

    def _gap(self, what: str) -> StreamGapError:
        return StreamGapError(f"the stream of run {self._run_id} is not contiguous: {what}")


class Reconnect:
    """Say when to come back after a stream was lost, and when to give up.

    Gives up when nothing was heard for `timeout` seconds (None: never); a stream that lives
    starts the time anew.
    """

    def __init__(self, timeout: float | None, clock: Clock = time.monotonic) -> None:
        self._timeout = timeout
        self._clock = clock
        self._backoff = Backoff()
        self._heard = clock()

    def heard(self) -> None:
        """Note that the stream lives."""
        self._heard = self._clock()
        self._backoff.reset()

    def delay_after(self, error: StepwireError | None) -> float:
        """Return the seconds to wait after a loss, or raise `error`.

        None is a stream that the server ended, without an error, before the end of the log.
        """
        if isinstance(error, DeadlineError):
            return self._backoff.next(error)  # our own STREAM_DEADLINE
        if error is None:
            error = UnavailableError("the server ended the stream before the run's end")
        elif not is_connection_loss(error):
            raise error
        delay = self._backoff.next(error)
        if self._timeout is not None and self._clock() + delay > self._heard + self._timeout:
            raise error
        return delay


class Follow:
    """A StreamEvents call and its repeats, seen as one stream of events."""

    method = "RunService.StreamEvents"

    def __init__(
        self,
        run_id: str,
        types: EventTypes,
        *,
        after: int,
        options: runs.StreamOptions,
        follow: bool,
        reconnect: Reconnect,
    ) -> None:
        self._run_id = run_id
        self._types = types
        self._cursor = Cursor(run_id, after)
        self._options = options
        self._follow = follow
        self._reconnect = reconnect
        self._entries: deque[types_pb2.LogEntry] = deque()
        self.ended = False

    def request(self) -> runs.StreamEventsRequest:
        """Return the request that goes on from the cursor."""
        return runs.StreamEventsRequest(
            run_id=self._run_id,
            after_sequence=self._cursor.sequence,
            options=self._options,
            no_follow=not self._follow,
        )

    def receive(self, frame: runs.StreamEventsResponse) -> None:
        """Take in a frame."""
        self._reconnect.heard()
        kind = frame.WhichOneof("frame")
        if kind == "events":
            self._entries.extend(self._cursor.take(frame.events))
        elif kind == "heartbeat":
            self._cursor.expect(frame.heartbeat.sequence)
        elif kind == "finished":
            self.ended = True

    def pop(self) -> Any:
        """Return the next event, None when another frame is needed."""
        return self._types.decode(self._entries.popleft()) if self._entries else None

    def delay_after(self, error: StepwireError | None) -> float | None:
        """Return the seconds to wait before `request` again, None when the stream is complete.

        Raises `error` when another call would be in vain.
        """
        if error is None and not self._follow:
            return None
        return self._reconnect.delay_after(error)
