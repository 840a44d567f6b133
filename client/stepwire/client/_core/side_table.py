"""Values kept beside objects that cannot carry them."""

from __future__ import annotations

import threading
import weakref
from typing import Any, Generic, TypeVar

T = TypeVar("T")


class SideTable(Generic[T]):
    """Map objects to values by identity, for as long as each object lives. Safe for threads.

    `weakref.WeakKeyDictionary` does not serve: its keys must be hashable, and pydantic models compare by value.
    """

    def __init__(self) -> None:
        # Reentrant: `put` may trigger a garbage collection, which calls `forget` in the same thread.
        self._lock = threading.RLock()
        self._entries: dict[int, tuple[weakref.ref[Any], T]] = {}

    def __len__(self) -> int:
        return len(self._entries)

    def put(self, owner: Any, value: T) -> None:
        """Keep a value for an object; it replaces an earlier one."""
        key = id(owner)

        def forget(dead: weakref.ref[Any]) -> None:
            with self._lock:
                entry = self._entries.get(key)
                if entry is not None and entry[0] is dead:
                    del self._entries[key]

        with self._lock:
            self._entries[key] = (weakref.ref(owner, forget), value)

    def get(self, owner: Any) -> T | None:
        """Return the value of an object, None when there is none."""
        entry = self._entries.get(id(owner))
        return entry[1] if entry is not None and entry[0]() is owner else None
