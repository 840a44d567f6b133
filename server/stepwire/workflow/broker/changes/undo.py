"""Undo half-done changes in place when a delivery begins again (semantics.md#half-done-changes).

What a step *sets* is a call: it stays, and the step can look whether it is there. A change in place of a value that it
got (a list that grows, a memory that takes a message) leaves no such mark, and a step that is repeated after a crash, a
release or in a fork would make it twice. So what the value was is noted and put back when the delivery begins again,
unless another step has read or changed the value since, or somebody outside has changed it.

Nothing is written for a delivery that finishes before the next commit.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Iterator
from typing import Any, Protocol

from pydantic_core import from_json

from stepwire.workflow.broker.deliveries.delivery import Delivery, Execution
from stepwire.workflow.broker.ledger import Encoded, OwnForm
from stepwire.workflow.broker.log.journal import Journal
from stepwire.workflow.codec.decoder import fields_from_tagged
from stepwire.workflow.errors import SnapshotError

__all__ = ["Undone", "Undos"]

Undone = dict[str, Any]
"""By name what a value of the state was: an Encoded, an OwnForm, or the value itself."""


class UndoStore(Protocol):
    """The store of the run."""

    watched: set[str] | None

    def put_back(self, values: dict[str, Any], own: dict[str, Any]) -> None:
        """Make values of the state what they were."""


class Undos:
    """Note what was there before the changes of each delivery that is not through.

    Args:
        store: The store of the run.
    """

    __slots__ = ("_deliveries", "_gone", "_holders", "_store")

    def __init__(self, store: UndoStore) -> None:
        self._store = store
        self._deliveries: dict[int, Delivery] = {}
        self._gone: list[int] = []
        self._holders: dict[int, Execution] = {}
        """The attempts that hold values which they may change in place."""

    @property
    def notes(self) -> bool:
        """Whether anything is noted, or a note went that was saved."""
        return bool(self._deliveries or self._holders or self._gone)

    def record(self, delivery: Delivery, name: str, before: Any) -> None:
        """Note what a value was before the first change of a delivery; later ones count for nothing."""
        if delivery.undo is None:
            delivery.undo = {}
        elif name in delivery.undo:
            return
        delivery.undo[name] = before
        delivery.undo_changed = True
        self.watch(delivery)

    def watch(self, delivery: Delivery) -> None:
        """Have the store tell when others read or change what a delivery has changed."""
        self._deliveries[delivery.id] = delivery
        self._watch(delivery.undo or ())

    def setting(self, execution: Execution | None, replaced: Collection[str], keys: Collection[str]) -> None:
        """Note that a call sets values: what it sets stays.

        Args:
            execution: The attempt that calls; None outside the steps.
            replaced: The names of values that get other objects, or change inside.
            keys: The names of all values that are set. One that is set to the object that it is was changed in place.
        """
        if self._deliveries or self._holders:
            self.seen(execution, keys)
        if execution is None:
            return
        for name in replaced:
            if execution.lent_before is not None:
                execution.lent_before.pop(name, None)
            if execution.lent is not None:
                execution.lent.discard(name)
            self._keep(execution.delivery, name)

    def lent(self, execution: Execution, name: str, before: Any) -> None:
        """Note what a value is that an attempt may change in place from now on. What several hold is nobody's alone.

        Args:
            execution: The attempt.
            name: The name of the value.
            before: What it is: a value of its own, or an Encoded.
        """
        shared = False
        for other in self._holders.values():
            if other is not execution and other.lent_before and other.lent_before.pop(name, None) is not None:
                shared = True
        if not shared:
            if execution.lent_before is None:
                execution.lent_before = {}
            execution.lent_before.setdefault(name, before)
            self._holders[execution.delivery.id] = execution
            self._watch((name,))

    def seen(self, execution: Execution | None, keys: Collection[str]) -> None:
        """Keep the changes of all deliveries but the caller's in these values: somebody else builds on them."""
        delivery = None if execution is None else execution.delivery
        for other in list(self._deliveries.values()):
            if other is not delivery:
                for name in keys:
                    self._keep(other, name)
        for holder in self._holders.values():
            if holder is not execution and holder.lent_before:
                for name in keys:
                    holder.lent_before.pop(name, None)

    def _keep(self, delivery: Delivery, name: str) -> None:
        """Keep what a delivery has changed in one value."""
        if delivery.undo is not None and delivery.undo.pop(name, None) is not None:
            delivery.undo_changed = True
            if not delivery.undo:
                self.forget(delivery)

    def changed_in_place(self, written: dict[str, bytes]) -> None:
        """Note which lent values differ from what they were, by what a commit writes of them (name to JSON)."""
        for execution in self._holders.values():
            for name, before in (execution.lent_before or {}).items():
                data = written.get(name)
                if data is not None and not (isinstance(before, Encoded) and before.data == data):
                    self.record(execution.delivery, name, before)

    def let_go(self, execution: Execution, encode: Callable[[str], bytes | None] | None) -> None:
        """Note what an attempt that ends has changed in place; `encode` gives values as they are, if it is repeated."""
        for name, before in (execution.lent_before or {}).items():
            if encode is not None and not (isinstance(before, Encoded) and encode(name) == before.data):
                self.record(execution.delivery, name, before)
        execution.lent_before = None
        self._holders.pop(execution.delivery.id, None)
        self._unwatch()

    def forget(self, delivery: Delivery) -> None:
        """Keep the changes of a delivery for good."""
        self._deliveries.pop(delivery.id, None)
        delivery.undo = None
        if delivery.undo_saved:
            delivery.undo_saved = False
            self._gone.append(delivery.id)
        self._unwatch()

    def _watch(self, names: Iterable[str]) -> None:
        if self._store.watched is None:
            self._store.watched = set()
        self._store.watched.update(names)

    def _unwatch(self) -> None:
        if not self._deliveries and not self._holders:
            self._store.watched = None

    def unsaved(self) -> Iterator[int]:
        """Give the ids of the deliveries whose notes differ from those that were saved."""
        yield from self._gone
        self._gone = []
        for delivery in self._deliveries.values():
            if delivery.undo_changed:
                delivery.undo_changed = False
                delivery.undo_saved = True
                yield delivery.id

    def begin_again(self, delivery: Delivery, journal: Journal | None) -> None:
        """Put back what a delivery had changed: it begins from the start."""
        values: dict[str, Any] = {}
        own: dict[str, Any] = {}
        for name, before in (delivery.undo or {}).items():
            if isinstance(before, OwnForm):
                own[name] = before.data
            elif isinstance(before, Encoded) and journal is not None:
                try:
                    read, read_own = fields_from_tagged({name: from_json(before.data)}, journal.names, validate=False)
                except SnapshotError:  # its type has lost its name meanwhile: the change stays
                    continue
                values |= read
                own |= read_own
            else:
                values[name] = before
        self.forget(delivery)
        self._store.put_back(values, own)
