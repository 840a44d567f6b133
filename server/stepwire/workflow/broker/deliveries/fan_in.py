"""Streams of events: what a step returned as a list, until all of it has been worked on, and the steps that join it.

A step that returns a list opens a stream. Its events, and what steps return for them, belong to it. A step that
collects gets the events of a stream at once: when nothing of the stream is in progress any more, or when so many have
come as it wants. A stream inside a stream keeps the outer one open. A step may also collect one event for each of its
parameters, whatever stream they are of.

Only steps whose configuration says so collect; for other workflows none of this is made.
"""

from __future__ import annotations

import logging
from collections.abc import Iterator, Sequence
from typing import Any

from stepwire.workflow.broker.deliveries.buffers import Buffers
from stepwire.workflow.broker.deliveries.delivery import Delivery, Lineage
from stepwire.workflow.broker.deliveries.work import Work
from stepwire.workflow.broker.ledger import Buffered
from stepwire.workflow.broker.snapshot import parts
from stepwire.workflow.definition.routing import Routing
from stepwire.workflow.definition.step_config import CollectSpec
from stepwire.workflow.events import Event
from stepwire.workflow.state.own import own

__all__ = ["FanIn", "OpenStream"]

logger = logging.getLogger("stepwire.workflow")


class OpenStream:
    """A stream that is not closed.

    Attributes:
        number: Unique in the run.
        source: The step that opened it.
        path: The streams that it is inside of, outermost first.
        released: The steps that have got what they wanted of it.
        count: The deliveries in progress that belong to it, or to a stream inside it.
        opening: Whether its first events are still being taken.
    """

    __slots__ = ("count", "number", "opening", "path", "released", "source")

    def __init__(self, number: int, source: str, path: tuple[int, ...]) -> None:
        self.number = number
        self.source = source
        self.path = path
        self.released: list[str] = []
        self.count = 0
        self.opening = False


class FanIn:
    """Keep the open streams of a run, and give steps that collect their events.

    Args:
        routing: Says which steps collect, and which step feeds which.
        work: Gets the deliveries of steps that collect.
        buffers: Hold the events until then.
    """

    __slots__ = ("_buffers", "_routing", "_touched", "_work", "streams")

    def __init__(self, routing: Routing, work: Work, buffers: Buffers) -> None:
        self._routing = routing
        self._work = work
        self._buffers = buffers
        self.streams: dict[int, OpenStream] = {}
        self._touched: dict[int, None] = {}

    def open(self, source: str, lineage: Lineage | None) -> Lineage:
        """Open a stream; return the lineage of its events. `settle` ends its opening."""
        work = self._work
        work.numbers += 1
        path = () if lineage is None else lineage.scope
        stream = OpenStream(work.numbers, source, path)
        stream.opening = True
        self.streams[stream.number] = stream
        self._touched[stream.number] = None
        self._touch(stream.number)
        return Lineage((*path, stream.number), {} if lineage is None else lineage.recoveries)

    def take(
        self,
        targets: Sequence[str],
        event: Event,
        sequence: int,
        encoded: bytes | None,
        lineage: Lineage | None,
        only: Event | None = None,
    ) -> int:
        """Take an event for steps, of which some collect; return for how many of them it is of no use.

        `only` is what the only one gets, if it needs no copy.
        """
        lost = 0
        for name in targets:
            if name in self._routing.collects:
                lost += not self.arrive(name, event, encoded, lineage, sequence)
            else:
                self._work.enqueue(name, own(event) if only is None else only, sequence, encoded, lineage)
                self.born(self._work.deliveries[self._work.delivery_ids])
        return lost

    def born(self, delivery: Delivery) -> None:
        """Count a new delivery in the streams that it belongs to."""
        for number in delivery.lineage.scope if delivery.lineage is not None else ():
            if (stream := self.streams.get(number)) is not None:
                stream.count += 1

    def gone(self, delivery: Delivery) -> None:
        """Count a delivery that is through; `settle` looks whether its streams close."""
        for number in delivery.lineage.scope if delivery.lineage is not None else ():
            if (stream := self.streams.get(number)) is not None:
                stream.count -= 1
                self._touched[number] = None

    def arrive(self, step: str, event: Event, encoded: bytes | None, lineage: Lineage | None, sequence: int) -> bool:
        """Take an event for a step that collects; False if it can never get it."""
        spec = self._routing.collects[step]
        if spec.slots:
            self._add(f"each/{step}", event, encoded)
            self._match(step, spec, lineage, sequence)
            return True
        stream = self.streams.get(lineage.scope[-1]) if lineage is not None and lineage.scope else None
        if stream is None or step not in self._routing.steps[stream.source].feeds:
            logger.warning(
                "Ignoring %s for collect step '%s': it was sent outside any collection stream of that step",
                type(event).__name__,
                step,
            )
            return False
        if step not in stream.released:
            self._add(_buffer(stream.number, step), event, encoded)
            self._touched[stream.number] = None
            if spec.most is not None and self._buffers.count_of(_buffer(stream.number, step)) >= spec.most:
                self._release(stream, step, sequence)
        return True

    def settle(self, sequence: int) -> None:
        """Close the streams that nothing is in progress of any more, inner ones first."""
        while self._touched:
            number = max(self._touched)  # a stream inside another one was opened later
            del self._touched[number]
            stream = self.streams.get(number)
            if stream is None:
                continue
            stream.opening = False
            if stream.count == 0:
                for step in self._routing.steps[stream.source].feeds:
                    if step not in stream.released:
                        self._release(stream, step, sequence)
                    self._discard(_buffer(number, step))
                del self.streams[number]
                self._touch(number)
                if stream.path:
                    self._touched[stream.path[-1]] = None

    def clear(self) -> None:
        """Forget all streams, of a run that has ended."""
        for number in self.streams:
            self._touch(number)
        self.streams.clear()
        self._touched.clear()

    def restored(self) -> None:
        """Count the deliveries of a run that was restored."""
        for delivery in self._work.deliveries.values():
            self.born(delivery)

    def __iter__(self) -> Iterator[OpenStream]:
        return iter(self.streams.values())

    # -- releasing ----------------------------------------------------------------------------------------------------

    def _release(self, stream: OpenStream, step: str, sequence: int) -> None:
        """Give a step what it collects of a stream."""
        spec = self._routing.collects[step]
        items = self._buffers.all_of(_buffer(stream.number, step))
        taken = items if spec.most is None else items[: spec.most]
        stream.released.append(step)
        self._touch(stream.number)
        lineage = Lineage(stream.path, {}) if stream.path else None
        self._deliver(step, spec, _buffer(stream.number, step), taken, lineage, sequence)

    def _match(self, step: str, spec: CollectSpec, lineage: Lineage | None, sequence: int) -> None:
        """Give a step one event for each of its parameters, once all are there."""
        subclasses = self._routing.steps[step].accept_subclasses
        free = self._buffers.all_of(f"each/{step}")
        taken = _assign(list(spec.slots), free, subclasses)
        if taken is not None:
            self._deliver(step, spec, f"each/{step}", taken, lineage, sequence)

    def _deliver(
        self,
        step: str,
        spec: CollectSpec,
        buffer_id: str,
        items: list[Buffered],
        lineage: Lineage | None,
        sequence: int,
    ) -> None:
        batch = spec.make([item.give() for item in items])
        encoded = None if self._work.journal is None else self._work.journal.encode(batch)
        self._work.enqueue(step, batch, sequence, encoded, lineage)
        self.born(self._work.deliveries[self._work.delivery_ids])
        self._buffers.pull(buffer_id, items)

    def _add(self, buffer_id: str, event: Event, encoded: bytes | None) -> None:
        work = self._work
        work.numbers += 1
        self._buffers.add(Buffered(work.numbers, buffer_id, event, encoded))
        if work.journal is not None:
            work.journal.touch(parts.buffered(work.numbers))

    def _discard(self, buffer_id: str) -> None:
        if items := self._buffers.all_of(buffer_id):
            self._buffers.pull(buffer_id, items)

    def _touch(self, number: int) -> None:
        if self._work.journal is not None:
            self._work.journal.touch(parts.stream(number))


def _buffer(number: int, step: str) -> str:
    return f"stream/{number}/{step}"


def _assign(slots: list[Any], free: list[Buffered], subclasses: bool) -> list[Buffered] | None:
    """Find an event for each slot, the oldest that fit; None if there are not enough."""
    if not slots:
        return []
    for item in free:
        fits = issubclass(item.type, slots[0]) if subclasses else item.type is slots[0]
        if fits:
            rest = _assign(slots[1:], [other for other in free if other is not item], subclasses)
            if rest is not None:
                return [item, *rest]
    return None
