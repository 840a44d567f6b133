"""The queues of a run: which deliveries wait for a worker of their step."""

from __future__ import annotations

import heapq
from collections.abc import ItemsView, Iterator, Mapping, ValuesView

from stepwire.workflow.broker.deliveries.delivery import READY, Delivery
from stepwire.workflow.definition.step_config import StepConfig

__all__ = ["Queues", "StepQueue"]


class StepQueue:
    """The deliveries of one step that wait for one of its workers."""

    __slots__ = ("_fresh", "_last", "again", "first", "num_workers", "running")

    def __init__(self, num_workers: int) -> None:
        self.num_workers = num_workers
        self.running = 0
        # The deliveries are their own list: a deque for each step of each run would take 600 bytes.
        self.first: Delivery | None = None
        self._last: Delivery | None = None
        self._fresh = 0
        self.again: list[Delivery] | None = None
        """A heap by id of those that were started before; they are older than the fresh ones."""

    def push(self, delivery: Delivery) -> None:
        """Queue a delivery: a new one at the end, one that was started before at its place by id."""
        if delivery.attempt or delivery.status == READY:
            if self.again is None:
                self.again = []
            heapq.heappush(self.again, delivery)
        else:
            self.append(delivery)

    def append(self, delivery: Delivery) -> None:
        """Queue a delivery at the end."""
        if self._last is None:
            self.first = delivery
        else:
            self._last.next = delivery
        self._last = delivery
        self._fresh += 1

    def pop(self, again_only: bool = False) -> Delivery | None:
        """Take the delivery with the lowest id when a worker is free; `again_only`: of those started before."""
        if self.running >= self.num_workers:
            return None
        first, again = self.first, self.again
        if again and (again_only or first is None or again[0].id < first.id):
            return heapq.heappop(again)
        if first is None or again_only:
            return None
        self.first, first.next = first.next, None
        if self.first is None:
            self._last = None
        self._fresh -= 1
        return first

    def remove(self, delivery: Delivery) -> None:
        """Take out one that was started before."""
        assert self.again is not None
        self.again.remove(delivery)
        heapq.heapify(self.again)

    def clear(self) -> None:
        """Take out all; no worker is busy."""
        self.first = self._last = self.again = None
        self._fresh = self.running = 0

    def __iter__(self) -> Iterator[Delivery]:
        """Give those that never started, then those that did; no order among these."""
        delivery = self.first
        while delivery is not None:
            yield delivery
            delivery = delivery.next
        yield from self.again or ()

    def __len__(self) -> int:
        return self._fresh + len(self.again or ())


class Queues:
    """The queues of all steps by name, and which of them to look at: a look at each would cost every transition."""

    __slots__ = ("_queues", "_steps", "crowded", "hot")

    def __init__(self, steps: Mapping[str, StepConfig]) -> None:
        self._steps = steps
        self._queues: dict[str, StepQueue] = {}
        """Made at the first need: few steps of a run have work at a time."""
        self.hot: dict[str, None] | None = None
        """The steps whose queues may have work for a free worker; None when there are none."""
        self.crowded: list[Delivery] | None = None
        """New deliveries that found no free worker, for who tells of them; None where nobody does."""

    def append(self, delivery: Delivery) -> None:
        """Queue a new delivery behind the others of its step."""
        queue = self._queues.get(delivery.step)
        if queue is None:
            queue = self[delivery.step]
        if self.crowded is not None and queue.running + len(queue) >= queue.num_workers:
            self.crowded.append(delivery)
        queue.append(delivery)
        if queue.running < queue.num_workers:  # else `give_back` tells
            self._heat(delivery.step)

    def push(self, delivery: Delivery) -> None:
        """Queue a delivery at its place by id."""
        self[delivery.step].push(delivery)
        self._heat(delivery.step)

    def remove(self, delivery: Delivery) -> None:
        """Take out a delivery that was started before."""
        self._queues[delivery.step].remove(delivery)

    def give_back(self, step: str) -> None:
        """Note that a worker of a step is free again."""
        queue = self._queues[step]
        queue.running -= 1
        if queue.first is not None or queue.again:
            self._heat(step)

    def _heat(self, step: str) -> None:
        if self.hot is None:
            self.hot = {step: None}
        else:
            self.hot[step] = None

    def take(self, again_only: bool = False) -> Delivery | None:
        """Take the next delivery that has a worker, and the worker; None when there is none.

        `again_only` takes none that never started.
        """
        hot = self.hot
        while hot:
            name = next(iter(hot))
            queue = self._queues[name]
            delivery = queue.pop(again_only)
            if delivery is not None:
                queue.running += 1
                if (queue.first is None and not queue.again) or queue.running >= queue.num_workers:
                    del hot[name]
                    if not hot:
                        self.hot = None  # an empty table takes 184 bytes of each waiting run
                return delivery
            del hot[name]
        self.hot = None
        return None

    def look_again(self) -> None:
        """Have `take` look at every queue, also those that it passed over with `again_only`."""
        self.hot = {name: None for name in self._steps if len(self._queues.get(name, ()))}

    def clear(self) -> None:
        """Take out all deliveries; no worker is busy."""
        for queue in self._queues.values():
            queue.clear()
        self.hot = None

    def items(self) -> ItemsView[str, StepQueue]:
        """Return the queues by step, of the steps that have had work."""
        return self._queues.items()

    def values(self) -> ValuesView[StepQueue]:
        """Return the queues of the steps that have had work."""
        return self._queues.values()

    def __getitem__(self, step: str) -> StepQueue:
        """Return the queue of a step. KeyError when there is no such step."""
        queue = self._queues.get(step)
        if queue is None:
            queue = self._queues[step] = StepQueue(self._steps[step].num_workers)
        return queue

    def __contains__(self, step: object) -> bool:
        return step in self._steps

    def __iter__(self) -> Iterator[str]:
        return iter(self._steps)

    def __len__(self) -> int:
        """Count the deliveries that wait for a worker."""
        return sum(map(len, self._queues.values()))
