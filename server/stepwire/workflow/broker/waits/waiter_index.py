"""Find among many waiters for one type of event those that an event may resolve, without looking at all."""

from __future__ import annotations

from collections.abc import Iterable
from operator import attrgetter
from typing import Any, Final

from stepwire.workflow.broker.deliveries.delivery import Waiter
from stepwire.workflow.broker.ledger import MISSING, field_of
from stepwire.workflow.events import Event

__all__ = ["WaiterIndex"]

_PLAIN: Final = frozenset({bool, int, float, str})
"""Types whose equal values have equal hashes, also with each other."""
_number = attrgetter("number")

_Waiters = dict[int, Waiter]


class WaiterIndex:
    """Hold the waiters for one type of event by the value that they ask for in one field.

    Args:
        waiters: The open ones, in the order of opening.
    """

    __slots__ = ("_by_value", "_others")

    def __init__(self, waiters: Iterable[Waiter]) -> None:
        self._by_value: dict[str, dict[Any, _Waiters]] = {}
        self._others: _Waiters = {}
        """Those that ask for no plain value."""
        for waiter in waiters:
            self.add(waiter)

    def add(self, waiter: Waiter) -> None:
        """Add a waiter that was opened after the others."""
        name = _indexed(waiter)
        if name is None:
            self._others[waiter.number] = waiter
        else:
            self._by_value.setdefault(name, {}).setdefault(waiter.requirements[name], {})[waiter.number] = waiter

    def remove(self, waiter: Waiter) -> None:
        """Forget a waiter."""
        name = _indexed(waiter)
        if name is None:
            self._others.pop(waiter.number, None)
            return
        values = self._by_value.get(name, {})
        value = waiter.requirements[name]
        if (same := values.get(value)) is not None:
            same.pop(waiter.number, None)
            if not same:
                del values[value]
            if not values:
                del self._by_value[name]

    def candidates(self, event: Event) -> list[Waiter] | None:
        """Return the waiters that an event may match, in the order of opening; None if each must be looked at."""
        found = list(self._others.values())
        for name, values in self._by_value.items():
            value = field_of(event, name)
            if value is MISSING:
                continue
            if type(value) not in _PLAIN:
                return None
            found += values.get(value, {}).values()
        found.sort(key=_number)
        return found


def _indexed(waiter: Waiter) -> str | None:
    """Return the first field of which a waiter asks for a plain value; None if there is none."""
    for name, value in waiter.requirements.items():
        if type(value) in _PLAIN:
            return name
    return None
