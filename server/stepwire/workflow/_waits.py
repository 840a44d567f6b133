"""The open waiters of a run."""

from __future__ import annotations

from collections.abc import Iterator

from stepwire.workflow._delivery import Waiter
from stepwire.workflow.events import Event


class Waits:
    """Open waiters by number and by event type, each in the order of opening."""

    __slots__ = ("_by_type", "_waiters")

    def __init__(self) -> None:
        self._waiters: dict[int, Waiter] = {}
        self._by_type: dict[type[Event], dict[int, Waiter]] = {}

    def add(self, waiter: Waiter) -> None:
        """Add an open waiter; of its delivery too."""
        self._waiters[waiter.number] = waiter
        if waiter.event_type is not None:
            self._by_type.setdefault(waiter.event_type, {})[waiter.number] = waiter
        if waiter.delivery is not None:
            if waiter.delivery.waiters is None:
                waiter.delivery.waiters = {}
            waiter.delivery.waiters[waiter.number] = waiter

    def remove(self, waiter: Waiter) -> None:
        """Forget a waiter that was resolved, timed out or cancelled."""
        self._waiters.pop(waiter.number, None)
        if waiter.event_type is not None and (of_type := self._by_type.get(waiter.event_type)):
            of_type.pop(waiter.number, None)
            if not of_type:
                del self._by_type[waiter.event_type]
        if waiter.delivery is not None and waiter.delivery.waiters:
            waiter.delivery.waiters.pop(waiter.number, None)

    def matching(self, event: Event) -> list[Waiter]:
        """Return the waiters that an event resolves: for each waiter id the oldest that matches (S10)."""
        of_type = self._by_type.get(type(event))
        if not of_type:
            return []
        found: dict[str, Waiter] = {}
        for waiter in of_type.values():
            if waiter.id not in found and waiter.matches(event):
                found[waiter.id] = waiter
        return list(found.values())

    def expects(self, event_type: type[Event]) -> bool:
        """Tell whether a waiter is open for events of this type."""
        return event_type in self._by_type

    @property
    def outside(self) -> bool:
        """Whether a waiter is open that an event can answer: one that is no durable sleep."""
        return bool(self._by_type)

    def prompted(self, waiter_id: str, prompt: Event) -> bool:
        """Tell whether an open waiter of this id has an equal prompt."""
        return any(waiter.id == waiter_id and waiter.prompt == prompt for waiter in self._waiters.values())

    def __iter__(self) -> Iterator[Waiter]:
        return iter(self._waiters.values())

    def __len__(self) -> int:
        return len(self._waiters)

    def get(self, number: int) -> Waiter | None:
        """Return the open waiter of this number."""
        return self._waiters.get(number)
