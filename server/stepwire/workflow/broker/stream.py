"""The stream of a run without a store: its public events, kept while someone can read them."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable

from stepwire.workflow.events import Event, StopEvent
from stepwire.workflow.state.own import own


class EventStream:
    """An append-only list of events with any number of readers, each at its own place (S13)."""

    __slots__ = ("_waiting", "ended", "events")

    def __init__(self) -> None:
        self.events: list[Event] = []
        self.ended = False
        self._waiting: set[asyncio.Future[None]] | None = None

    def append(self, event: Event, *, last: bool = False) -> None:
        """Add an event; `last` ends the stream."""
        self.events.append(event)
        if last:
            self.ended = True
        if self._waiting:
            waiting, self._waiting = self._waiting, None
            for future in waiting:
                if not future.done():
                    future.set_result(None)

    async def wait_beyond(self, position: int) -> bool:
        """Wait until there is an event at `position`; False when the stream ends before."""
        while len(self.events) <= position:
            if self.ended:
                return False
            future = asyncio.get_running_loop().create_future()
            if self._waiting is None:
                self._waiting = set()
            self._waiting.add(future)
            try:
                await future
            finally:
                if self._waiting is not None:
                    self._waiting.discard(future)
        return True


class StreamReader(AsyncIterator[Event]):
    """Read a stream from a place; `on_abandon` gets the place when reading stops before the end."""

    def __init__(
        self,
        stream: EventStream,
        position: int,
        on_abandon: Callable[[int], None] | None = None,
    ) -> None:
        self._stream = stream
        self._position = position
        self._on_abandon = on_abandon
        self._finished = False

    def __aiter__(self) -> StreamReader:
        return self

    async def __anext__(self) -> Event:
        stream, position = self._stream, self._position
        events = stream.events
        if self._finished or (position >= len(events) and not await stream.wait_beyond(position)):
            self._finished = True
            raise StopAsyncIteration
        event = events[position]
        self._position = position + 1
        if stream.ended and position + 1 == len(events):
            self._finished = True
        return event if isinstance(event, StopEvent) else own(event)

    async def aclose(self) -> None:
        """Stop reading."""
        self._abandon()

    def _abandon(self) -> None:
        if not self._finished:
            self._finished = True
            if self._on_abandon is not None:
                self._on_abandon(self._position)

    def __del__(self) -> None:
        self._abandon()
