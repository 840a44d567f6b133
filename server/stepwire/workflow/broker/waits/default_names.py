"""The names of waits and buffers that a step has not named: they are made from where the classes of events are.

A run that waits may meet code in which a class, its module or the step has another name. What was saved under the old
name is read under the new one, or the step would not find it: it would ask again what was answered.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Collection
from typing import Any, Final

from stepwire.workflow.codec.names import Names
from stepwire.workflow.errors import SnapshotError
from stepwire.workflow.events import Event

__all__ = ["current_buffer_id", "current_waiter_id", "default_buffer_id", "path_of", "with_step", "with_type"]

_WAITER: Final = re.compile(r"waiter_([\w<>]+(?:\.[\w<>]+)+)(_\{.*\})?", re.DOTALL)
_BUFFER: Final = re.compile(r"(\w*):([\w<>]+(?:\.[\w<>]+)+(?:,[\w<>]+(?:\.[\w<>]+)+)*)")


def path_of(cls: type[Any]) -> str:
    """Return where a class is: a local class has `<locals>` in it."""
    return f"{cls.__module__}.{cls.__qualname__}"


def default_buffer_id(step: str, expected: Collection[type[Event]]) -> str:
    """Name the buffer of a step and the *set* of expected types, so that two different collects do not share (S8).

    `expected` has each type once.
    """
    return f"{step}:{','.join(sorted(map(path_of, expected)))}"


def current_waiter_id(saved: str, names: Names) -> str:
    """Return the name that a saved wait has now; one that its step has chosen stays as it is."""
    found = _WAITER.fullmatch(saved)
    if found is None or (cls := _event_at(found[1], names)) is None:
        return saved
    return f"waiter_{path_of(cls)}{found[2] or ''}"


def current_buffer_id(saved: str, names: Names, current: Callable[[str], str]) -> str:
    """Return the name that a saved buffer has now; one that its step has chosen stays as it is.

    Args:
        saved: The name that it was saved with.
        names: The types, by the names that they have and had.
        current: Gives the name that a step has now.
    """
    found = _BUFFER.fullmatch(saved)
    if found is None:
        return saved
    expected = [_event_at(path, names) for path in found[2].split(",")]
    if None in expected:
        return saved
    return default_buffer_id(current(found[1]), {cls for cls in expected if cls is not None})


def with_type(saved: str, old: str, new: str) -> str:
    """Return a saved name of a wait or a buffer with another name of a class."""
    if (found := _WAITER.fullmatch(saved)) is not None:
        return f"waiter_{_renamed(found[1], old, new)}{found[2] or ''}"
    if (found := _BUFFER.fullmatch(saved)) is not None:
        return f"{found[1]}:{','.join(_renamed(path, old, new) for path in found[2].split(','))}"
    return saved


def with_step(saved: str, old: str, new: str) -> str:
    """Return a saved name of a buffer with another name of its step."""
    found = _BUFFER.fullmatch(saved)
    return saved if found is None or found[1] != old else f"{new}:{found[2]}"


def _renamed(path: str, old: str, new: str) -> str:
    begin, dot, name = path.rpartition(".")
    return f"{begin}{dot}{new}" if name == old else path


def _event_at(path: str, names: Names) -> type[Event] | None:
    try:
        cls = names.lookup(path.rpartition(".")[2])
    except SnapshotError:
        return None
    return cls if issubclass(cls, Event) else None
