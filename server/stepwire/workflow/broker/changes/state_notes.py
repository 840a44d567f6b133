"""Have a run note what values of its state are before steps change them (see `undo`)."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from typing import Any

from stepwire.workflow.broker.current import current_execution, running_execution
from stepwire.workflow.broker.deliveries.delivery import Execution, RunBroker
from stepwire.workflow.state.copying import is_mutable
from stepwire.workflow.state.hooks import StateValues
from stepwire.workflow.state.own import own_value

__all__ = ["LOCAL_NOTES", "DurableNotes"]


class LocalNotes:
    """Take notes in a run without a store, and only for steps that wait in their own code.

    A saved context begins those again. Other steps pay nothing.
    """

    __slots__ = ()

    def setting(
        self, store: StateValues, values: Mapping[str, Any], keys: Collection[str], same: Collection[str]
    ) -> None:
        """Note what a step sets: it may change that in place afterwards."""
        execution = _caller(store)
        if execution is None or execution.broker is None:
            return
        undos = execution.broker.undos
        replaced = [key for key in keys if key not in same]
        undos.setting(execution, replaced, keys)
        if execution.broker.may_wait(execution):
            for key in replaced:
                if key in values and is_mutable(values[key]):
                    undos.record(execution.delivery, key, own_value(values[key]))

    def seen(self, store: StateValues, keys: Collection[str]) -> None:
        """Keep what other deliveries have changed in these values, if a step reads them now."""
        execution = _caller(store)
        if execution is not None and execution.broker is not None:
            execution.broker.undos.seen(execution, keys)

    def lent(self, store: StateValues, key: str) -> None:
        """Note what a value is that a step may change in place."""
        execution = _caller(store)
        if execution is None or execution.broker is None or not execution.broker.may_wait(execution):
            return
        if key not in (execution.delivery.undo or ()):
            execution.broker.undos.record(execution.delivery, key, own_value(store.value_of(key)))


class DurableNotes:
    """Take notes in a durable run; what a step gets as a mutable object is noted where it is lent."""

    __slots__ = ("_broker",)

    def __init__(self, broker: RunBroker) -> None:
        self._broker = broker

    def setting(
        self, store: StateValues, values: Mapping[str, Any], keys: Collection[str], same: Collection[str]
    ) -> None:
        """Note what is set."""
        execution = current_execution(self._broker)
        self._broker.undos.setting(execution, [key for key in keys if key not in same], keys)

    def seen(self, store: StateValues, keys: Collection[str]) -> None:
        """Keep what other deliveries have changed in these values, if a step reads them now."""
        execution = current_execution(self._broker)
        if execution is not None:  # callers outside only look
            self._broker.undos.seen(execution, keys)

    def lent(self, store: StateValues, key: str) -> None:
        """Do nothing: the hook of the same name does it."""


def _caller(store: StateValues) -> Execution | None:
    """Return the attempt that calls, if the state is that of its run."""
    execution = running_execution()
    if execution is None or execution.dead or execution.finished or execution.broker is None:
        return None
    return execution if execution.broker.store is store else None


LOCAL_NOTES = LocalNotes()
