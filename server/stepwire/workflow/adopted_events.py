"""Events of another library that count as the engine's own.

Pydantic's models take no part in `ABC.register`, so the metaclass of `Event` looks the adopted classes up. Only
`stepwire.workflow.llamaindex` adds any.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, Protocol

from pydantic import BaseModel

if TYPE_CHECKING:
    from pydantic._internal._model_construction import ModelMetaclass
else:
    ModelMetaclass = type(BaseModel)

__all__ = ["AdoptingMeta", "EventForm", "Subclasses", "adopt_event", "is_plain_stop"]

_adopted: dict[type, type] = {}
"""Event classes of the engine, each with the class of the other library that counts as its subclass."""

_plain_stops: set[type] = set()


class Subclasses(dict[type, bool]):
    """Tell by `subclasses[cls]` whether a class descends from `base`.

    That is a look into a dict, where `isinstance` calls functions of Python.

    Args:
        base: An event class of the engine.
    """

    __slots__ = ("_base",)

    def __init__(self, base: type) -> None:
        super().__init__()
        self._base = base
        _asked.append(self)

    def __missing__(self, cls: type) -> bool:
        """Ask once."""
        found = self[cls] = issubclass(cls, self._base)
        return found


_asked: list[Subclasses] = []


class EventForm(Protocol):
    """Write and read the events of another library as plain JSON; contracts of `event_to_json`, `event_from_json`.

    Attributes:
        data: The names of private attributes that hold what authors put into an event.
    """

    data: frozenset[str]

    def to_json(self, event: Any) -> bytes:
        """Return the event's fields as clients see them."""

    def from_json(self, cls: Any, data: bytes | str | Mapping[str, Any]) -> Any:
        """Return the event of class `cls` with these fields."""


class AdoptingMeta(ModelMetaclass):
    """Let `isinstance` and `issubclass` say yes for adopted classes; for others it is as fast as without."""

    def __instancecheck__(self, instance: Any) -> bool:
        if type.__instancecheck__(self, instance):
            return True
        return self in _adopted and isinstance(instance, _adopted[self])

    def __subclasscheck__(self, subclass: type) -> bool:
        if type.__subclasscheck__(self, subclass):
            return True
        return self in _adopted and issubclass(subclass, _adopted[self])


def adopt_event(own: type, other: type, *, form: EventForm | None = None, plain_stop: bool = False) -> None:
    """Make `other` and its subclasses count as subclasses of `own`.

    Args:
        own: An event class of the engine.
        other: The class of the other library.
        form: How `other` and its subclasses are written and read; None if a base of it says that.
        plain_stop: Whether `other` is the plain stop event, whose `result` is the run's.
    """
    _adopted[own] = other
    for known in _asked:
        known.clear()
    if form is not None:
        # What the engine asks of every event class.
        for name, value in (("__stepwire_form__", form), ("__internal__", False), ("__aliases__", ())):
            type.__setattr__(other, name, value)
    if plain_stop:
        _plain_stops.add(other)


def is_plain_stop(event_type: type) -> bool:
    """Tell whether a stop event class other than the engine's is the plain one of its library."""
    return event_type in _plain_stops
