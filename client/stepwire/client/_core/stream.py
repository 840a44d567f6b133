"""`StreamEvents` and its reconnections, seen as one stream of events."""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence
from typing import Any, Protocol

from pydantic import BaseModel

from stepwire.client._core.cursor import Cursor
from stepwire.client._core.event_types import EventTypes, type_name
from stepwire.client._core.heartbeats import Heartbeats
from stepwire.client._core.payload import JSON
from stepwire.client._core.reconnect import Reconnect
from stepwire.client.errors import StepwireError
from stepwire.v1 import run_service_pb2 as runs
from stepwire.v1 import types_pb2


def stream_options(types: Sequence[str | type[BaseModel]], internal: bool) -> runs.StreamOptions:
    """Return what a stream carries: only `types` when there are any, and internal entries when `internal`."""
    return runs.StreamOptions(
        encoding=JSON,
        include_internal=internal,
        event_types=[type_name(item) for item in types],
    )


class Stream(Protocol):
    """What a driver follows over as many calls as it takes.

    Attributes:
        method: `Service.Method`.
        run_id: The run that it is of; empty if it is of many.
        heartbeats: Knows when the server has fallen silent.
        ended: Whether the last message came.
    """

    @property
    def method(self) -> str: ...
    @property
    def run_id(self) -> str: ...
    @property
    def heartbeats(self) -> Heartbeats: ...
    @property
    def ended(self) -> bool: ...
    def request(self) -> Any:
        """Return the request of the next connection."""

    def receive(self, frame: Any, /) -> None:
        """Take in a message."""

    def pop(self) -> Any:
        """Return what comes next, None when another message is needed."""

    def delay_after(self, error: StepwireError | None) -> float | None:
        """Return the seconds to wait before the next connection, None when there is none. Or raise `error`."""


class Follow:
    """A stream of a run's log, over as many calls as it takes.

    Args:
        run_id: The run.
        types: The caller's event classes.
        after: The sequence after which the stream begins.
        options: What the stream carries.
        follow: Go on until the run ends; else end at the present end of the log.
        reconnect: Decides when to connect again.
    """

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
        self.run_id = run_id
        self._types = types
        self._cursor = Cursor(run_id, after)
        self._options = options
        self._follow = follow
        self._reconnect = reconnect
        self.heartbeats = Heartbeats()
        self._entries: deque[types_pb2.LogEntry] = deque()
        self.ended = False

    def request(self) -> runs.StreamEventsRequest:
        """Return the request of the next connection: it goes on after the cursor."""
        return runs.StreamEventsRequest(
            run_id=self.run_id,
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
            self.heartbeats.take(frame.heartbeat)
        elif kind == "finished":
            self.ended = True

    def pop(self) -> Any:
        """Return the next event, None when another frame is needed."""
        return self._types.decode(self._entries.popleft()) if self._entries else None

    def delay_after(self, error: StepwireError | None) -> float | None:
        """Return the seconds to wait before the next connection, None when the stream is complete.

        Raises `error` when another connection cannot help.
        """
        if error is None and not self._follow:
            return None
        return self._reconnect.delay_after(error)
