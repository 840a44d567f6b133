"""The open waiters of a run."""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Iterator

from stepwire.workflow.broker.delivery import Waiter
from stepwire.workflow.events import Event


class Waits:
    """Open waiters by event type (None: durable sleeps), each in the order of opening."""

    __slots__ = ("_by_type",)

    def __init__(self) -> None:
        self._by_type: dict[type[Event] | None, list[Waiter]] = {}

    def add(self, waiter: Waiter) -> None:
        """Add an open waiter; to its delivery too."""
        self._by_type.setdefault(waiter.event_type, []).append(waiter)
        delivery = waiter.delivery
        if delivery is not None:
            if delivery.waiters is None:
                delivery.waiters = []
            delivery.waiters.append(waiter)

    def remove(self, waiter: Waiter) -> None:
        """Forget a waiter that was resolved, timed out or cancelled."""
        of_type = self._by_type.get(waiter.event_type)
        if of_type is None or (place := _place(of_type, waiter.number)) is None:
            return
        del of_type[place]
        if not of_type:
            del self._by_type[waiter.event_type]
        if waiter.delivery is not None and waiter.delivery.waiters is not None:
            waiter.delivery.waiters.remove(waiter)

    def matching(self, event: Event) -> list[Waiter]:
        """Return the waiters that an event resolves: for each waiter id the oldest that matches (S10)."""
        of_type = self._by_type.get(type(event))
        if not of_type:
            return []
        found: dict[str, Waiter] = {}
        for waiter in of_type:
            if waiter.id not in found and waiter.matches(event):
                found[waiter.id] = waiter
        return list(found.values())

    def expects(self, event_type: type[Event]) -> bool:
        """Tell whether a waiter is open for events of this type."""
        return event_type in self._by_type

    @property
    def outside(self) -> bool:
        """Whether a waiter is open that an event can answer: one that is no durable sleep."""
        return len(self._by_type) > (None in self._by_type)

    def prompted(self, waiter_id: str, prompt: Event) -> bool:
        """Tell whether an open waiter of this id has an equal prompt."""
        return any(
            waiter.id == waiter_id and waiter.prompt == prompt
            for of_type in self._by_type.values()
            for waiter in of_type
        )

    def __iter__(self) -> Iterator[Waiter]:
        """Give the waiters in the order of opening."""
        found = [waiter for of_type in self._by_type.values() for waiter in of_type]
        return iter(sorted(found, key=_number) if len(self._by_type) > 1 else found)

    def __bool__(self) -> bool:
        return bool(self._by_type)

    def __len__(self) -> int:
        return sum(map(len, self._by_type.values()))

    def get(self, number: int) -> Waiter | None:
        """Return the open waiter of this number."""
        for of_type in self._by_type.values():
            if (place := _place(of_type, number)) is not None:
                return of_type[place]
        return None


def _place(waiters: list[Waiter], number: int) -> int | None:
    """Return the place of the waiter of this number: they are opened, and restored, in the order of their numbers."""
    place = bisect_left(waiters, number, key=_number)
    return place if place < len(waiters) and waiters[place].number == number else None


def _number(waiter: Waiter) -> int:
    return waiter.number
