"""Collect buffers: events that wait until a set is complete."""

from __future__ import annotations

from collections import Counter, deque
from collections.abc import Collection, Iterable, Iterator, Sequence

from stepwire.workflow.broker.ledger import Buffered
from stepwire.workflow.checks import check_expected
from stepwire.workflow.events import Event


def default_buffer_id(step: str, expected: Collection[type[Event]]) -> str:
    """Name the buffer of a step and the *set* of expected types, so that two different collects do not share (S8).

    `expected` has each type once.
    """
    names = sorted(f"{cls.__module__}.{cls.__qualname__}" for cls in expected)
    return f"{step}:{','.join(names)}"


_NOTHING: tuple[Sequence[type[Event]], Counter[type[Event]]] = ((), Counter())


class Buffers:
    """Events by buffer id and type, in the order of arrival; by number also those that ledgers hold."""

    __slots__ = ("_counted", "_events", "_numbered")

    def __init__(self) -> None:
        self._counted = _NOTHING
        self._events: dict[str, dict[type[Event], deque[Buffered]]] = {}
        self._numbered: dict[int, Buffered] = {}

    def count(self, expected: Sequence[type[Event]]) -> Counter[type[Event]]:
        """Count the expected types. A tuple that comes again is not looked at again, however long it is."""
        if type(expected) is not tuple or self._counted[0] is not expected:
            try:
                counted = Counter(expected)
            except TypeError:  # a class by itself; events, which have no hash
                check_expected(expected)
                raise
            check_expected(counted)
            self._counted = expected, counted
        return self._counted[1]

    def add(self, item: Buffered) -> None:
        """Append an event to its buffer."""
        self.hold(item)
        by_type = self._events.setdefault(item.buffer_id, {})
        by_type.setdefault(type(item.event), deque()).append(item)

    def take(self, buffer_id: str, expected: Sequence[type[Event]]) -> list[Buffered] | None:
        """Take the oldest events of the expected types, in the order of `expected`; None when one is missing.

        They can be found by number until they are dropped.
        """
        by_type = self._events.get(buffer_id)
        if by_type is None:
            return None if expected else []
        counted = self._counted[1] if self._counted[0] is expected else self.count(expected)
        for cls, count in counted.items():
            if len(by_type.get(cls, ())) < count:
                return None
        taken = [by_type[cls].popleft() for cls in expected]
        for cls in counted:
            if not by_type[cls]:
                del by_type[cls]
        if not by_type:
            del self._events[buffer_id]
        return taken

    def put_back(self, items: Iterable[Buffered]) -> None:
        """Undo a `take`: the events are the oldest of their buffer again."""
        for item in sorted(items, key=lambda each: each.number, reverse=True):
            by_type = self._events.setdefault(item.buffer_id, {})
            by_type.setdefault(type(item.event), deque()).appendleft(item)

    def hold(self, item: Buffered) -> None:
        """Make an event that a ledger holds findable by its number."""
        self._numbered[item.number] = item

    def drop(self, items: Iterable[Buffered]) -> None:
        """Forget events that were taken."""
        for item in items:
            self._numbered.pop(item.number, None)

    def get(self, number: int) -> Buffered | None:
        """Return the event of this number, also one that a ledger holds."""
        return self._numbered.get(number)

    def numbers(self) -> list[int]:
        """Return the numbers of all events, also of those that ledgers hold."""
        return list(self._numbered)

    def __iter__(self) -> Iterator[Buffered]:
        for by_type in self._events.values():
            for items in by_type.values():
                yield from items

    def __len__(self) -> int:
        return sum(len(items) for by_type in self._events.values() for items in by_type.values())
