"""The stream of a run without a store: its public events, kept while someone can read them."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from threading import get_ident

from stepwire.workflow.broker.current import running_execution
from stepwire.workflow.broker.deliveries.delivery import Execution
from stepwire.workflow.broker.futures import complete
from stepwire.workflow.broker.ledger import Answer
from stepwire.workflow.events import Event
from stepwire.workflow.state.own import Kept, given, keep, own


class Progress(asyncio.Future[None]):
    """Waits in the body of a step for what a run does next; `stream` is that of the run."""

    stream: EventStream


class Told(asyncio.Future[Answer]):
    """Waits in the body of a step, or outside the steps, for what the run tells it.

    Attributes:
        execution: The attempt whose body waits; None outside the steps, and once the wait is over.
    """

    __slots__ = ("execution",)

    def __init__(self, execution: Execution | None = None) -> None:
        super().__init__(loop=asyncio.get_running_loop())
        self.execution = execution

    def __call__(self, answer: Answer) -> None:
        """Tell the answer, unless there is one."""
        complete(self, answer)


def progress_of(stream: EventStream) -> asyncio.Future[None]:
    """Return a future that waits for what a run does next, which a step's body shows as its own waiting."""
    loop = asyncio.get_running_loop()
    if running_execution() is None:
        return loop.create_future()
    future = Progress(loop=loop)
    future.stream = stream
    return future


class EventStream:
    """An append-only list of events with any number of readers, each at its own place (S13).

    Each reader gets objects of its own: the first gets those that were written, and what they are is kept for others.
    """

    __slots__ = ("_thread", "ended", "events", "waiting")

    def __init__(self) -> None:
        self.events: list[Kept[Event] | Event] = []
        """An event by itself is for its first reader: nobody else holds it, and nothing in it can change."""
        self.ended = False
        self._thread = get_ident()
        self.waiting: set[asyncio.Future[None]] | None = None

    def append(self, event: Event, *, last: bool = False) -> None:
        """Add an event; `last` ends the stream."""
        if last:
            self.ended = True
        self.events.append((event,) if last else keep(event))
        if self.waiting:
            self.wake()

    def wake(self) -> None:
        """Tell the readers that wait for an event."""
        waiting, self.waiting = self.waiting, None
        for future in waiting or ():
            complete(future, None)

    def give(self, position: int) -> Event:
        """Return the event at a position, for the caller to do with what it likes; the last one is the run's."""
        kept = self.events[position]
        if isinstance(kept, tuple):
            return kept[0] if len(kept) == 1 and position + 1 == len(self.events) and self.ended else given(kept)
        if get_ident() == self._thread:
            self.events[position] = type(kept), kept.__dict__.copy(), tuple(kept.__pydantic_fields_set__)  # as `keep`
            return kept
        copied = own(kept)
        return copied if self.events[position] is kept else self.give(position)  # its first reader has got it meanwhile

    async def wait_beyond(self, position: int) -> bool:
        """Wait until there is an event at `position`; False when the stream ends before."""
        while len(self.events) <= position:
            if self.ended:
                return False
            future = progress_of(self)
            if self.waiting is None:
                self.waiting = set()
            self.waiting.add(future)
            try:
                await future
            finally:
                if self.waiting is not None:
                    self.waiting.discard(future)
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
        self._position = position + 1
        if stream.ended and position + 1 == len(events):
            self._finished = True
        return stream.give(position)

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
