"""What a state store asks and tells the run that owns it.

Only the protocol is here; `stepwire.workflow.broker.changes.state_hooks` implements it.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from typing import Any, Protocol

__all__ = ["StateHooks", "StateNotes", "StateValues"]


class StateValues(Protocol):
    """Be the store that calls the hooks; the part of it that a hook may use."""

    def value_of(self, key: str) -> Any:
        """Return a live top-level value; KeyError if there is none."""

    def own_json(self, keys: Collection[str], new: Mapping[str, Any] | None = None) -> dict[str, Any]:
        """Return the JSON that the state's class writes for some fields."""


class StateHooks(Protocol):
    """Let a run refuse reads and changes of its state, and tell it of the changes that were made."""

    def reading(self, store: StateValues) -> None:
        """Raise to refuse a read by a step; called before it."""

    def check(self, store: StateValues, values: dict[str, Any]) -> None:
        """Raise to refuse new top-level values; called before they apply."""

    def changed(self, keys: set[str]) -> None:
        """Note top-level keys that were set or removed."""

    def lent(self, key: str) -> None:
        """Note that a caller now holds the mutable value of a top-level key."""


class StateNotes(Protocol):
    """Note what values of the state are before steps change them, and who reads them."""

    def setting(
        self, store: StateValues, values: Mapping[str, Any], keys: Collection[str], same: Collection[str]
    ) -> None:
        """Note that top-level keys are about to be set.

        Args:
            store: The store.
            values: The new values by name.
            keys: All names, also of values that are removed.
            same: The names of values that are set to the objects that they are.
        """

    def seen(self, store: StateValues, keys: Collection[str]) -> None:
        """Note that the caller reads top-level keys that are watched."""

    def lent(self, store: StateValues, key: str) -> None:
        """Note that a caller now holds the mutable value of a top-level key."""
