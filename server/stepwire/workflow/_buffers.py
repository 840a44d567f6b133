"""Collect buffers: events that wait until a set is complete."""

from __future__ import annotations

from collections import Counter, deque
from collections.abc import Iterator, Sequence

from stepwire.workflow._delivery import Buffered
from stepwire.workflow.events import Event


def default_buffer_id(step: str, expected: Sequence[type[Event]]) -> str:
    """Name the buffer of a step and the *set* of expected types, so that two different collects do not share (S8)."""
    names = sorted({f"{cls.__module__}.{cls.__qualname__}" for cls in expected})
    return f"{step}:{','.join(names)}"


class Buffers:
    """Events by buffer id and type, in the order of arrival."""

    __slots__ = ("_events",)

    def __init__(self) -> None:
        self._events: dict[str, dict[type[Event], deque[Buffered]]] = {}

    def add(self, item: Buffered) -> None:
        """Append an event to its buffer."""
        by_type = self._events.setdefault(item.buffer_id, {})
        by_type.setdefault(type(item.event), deque()).append(item)

    def take(self, buffer_id: str, expected: Sequence[type[Event]]) -> list[Buffered] | None:
        """Take the oldest events of the expected types, in the order of `expected`; None when one is missing."""
        by_type = self._events.get(buffer_id)
        if by_type is None:
            return None if expected else []
        for cls, count in Counter(expected).items():
            if len(by_type.get(cls, ())) < count:
                return None
        taken = [by_type[cls].popleft() for cls in expected]
        for cls in set(expected):
            if not by_type[cls]:
                del by_type[cls]
        if not by_type:
            del self._events[buffer_id]
        return taken

    def __iter__(self) -> Iterator[Buffered]:
        for by_type in self._events.values():
            for items in by_type.values():
                yield from items

    def __len__(self) -> int:
        return sum(len(items) for by_type in self._events.values() for items in by_type.values())
