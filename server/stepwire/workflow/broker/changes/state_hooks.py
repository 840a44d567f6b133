"""What a run does when a step changes its state: the implementations of `stepwire.workflow.state.hooks`."""

from __future__ import annotations

from typing import Any

from stepwire.workflow.broker.current import current_execution, running_execution
from stepwire.workflow.broker.deliveries.delivery import RunBroker
from stepwire.workflow.broker.ledger import Encoded
from stepwire.workflow.broker.log.journal import Journal
from stepwire.workflow.errors import DeadAttemptError, RunEndedError
from stepwire.workflow.state.copying import is_mutable
from stepwire.workflow.state.hooks import StateValues

__all__ = ["GONE", "IN_PROCESS", "DurableHooks", "LocalHooks"]


class LocalHooks:
    """Refuse attempts that were abandoned; used by a run without a store."""

    __slots__ = ()

    def reading(self, store: StateValues) -> None:
        """Raise DeadAttemptError when the calling step's attempt was abandoned."""
        _refuse_dead(store, "reads")

    def check(self, store: StateValues, values: dict[str, Any]) -> None:
        """Raise DeadAttemptError when the calling step's attempt was abandoned."""
        _refuse_dead(store, "sets")

    def changed(self, keys: set[str]) -> None:
        """Do nothing: nothing is written."""

    def lent(self, key: str) -> None:
        """Do nothing: nothing is written."""


class DurableHooks:
    """Refuse values that cannot be saved too, and have every change written with the next commit."""

    __slots__ = ("_broker", "_journal")

    def __init__(self, broker: RunBroker, journal: Journal) -> None:
        self._broker = broker
        self._journal = journal

    def reading(self, store: StateValues) -> None:
        """Raise DeadAttemptError when the calling step's attempt was abandoned."""
        _refuse_dead(store, "reads")

    def check(self, store: StateValues, values: dict[str, Any]) -> None:
        """Refuse new top-level values.

        Raises:
            DeadAttemptError: The calling step's attempt was abandoned.
            RunEndedError: The run has left memory.
            SerializationError: A value cannot be saved, or is too large; names every such key.
        """
        _refuse_dead(store, "sets")
        if self._broker.frozen:
            raise RunEndedError("the run is not in memory any more")
        self._journal.check_values(values, lambda keys: store.own_json(keys, values))

    def changed(self, keys: set[str]) -> None:
        """Have the keys written with the next commit."""
        self._journal.note_changed(keys, self._broker.store)
        for key in keys:
            if self._is_held(key):
                self.lent(key)

    def _is_held(self, key: str) -> bool:
        """Tell whether the step that has set a value may still change it in place."""
        try:
            return is_mutable(self._broker.store.value_of(key))
        except KeyError:
            return False

    def lent(self, key: str) -> None:
        """Have the key compared again when the calling execution ends: it may change the value in place."""
        execution = current_execution(self._broker)
        if execution is not None and not execution.dead:
            if execution.lent is None:
                execution.lent = set()
            if key not in execution.lent:
                wanted = key not in (execution.delivery.undo or ())
                encoded = self._journal.lend(key, self._broker.store, wanted=wanted)
                execution.lent.add(key)
                if wanted and encoded is not None:
                    self._broker.undos.lent(execution, key, Encoded(encoded))


class _GoneHooks:
    """Refuse every change: the run has left memory, so nothing would keep it."""

    __slots__ = ()

    def reading(self, store: StateValues) -> None:
        """Raise DeadAttemptError when the calling step's attempt was abandoned."""
        _refuse_dead(store, "reads")

    def check(self, store: StateValues, values: dict[str, Any]) -> None:
        """Raise RunEndedError."""
        raise RunEndedError("the run is not in memory any more")

    def changed(self, keys: set[str]) -> None:
        """Do nothing: no change gets this far."""

    def lent(self, key: str) -> None:
        """Do nothing: nothing is written."""


def _refuse_dead(store: StateValues, does: str) -> None:
    """Raise DeadAttemptError when the attempt that does something with the state was abandoned."""
    execution = running_execution()
    if execution is None or not execution.dead or execution.finished:
        return
    if (owner := execution.owner) is not None and owner.store is store:
        raise DeadAttemptError(f"step '{execution.delivery.step}' {does} state after its attempt was abandoned")


IN_PROCESS = LocalHooks()
GONE = _GoneHooks()
