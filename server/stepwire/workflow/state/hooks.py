"""What a run has a say in when its state changes."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from stepwire.workflow.broker.delivery import current_execution, running_execution
from stepwire.workflow.codec.encoder import encode_keys
from stepwire.workflow.errors import DeadAttemptError, RunEndedError

if TYPE_CHECKING:
    from stepwire.workflow.broker.broker import Broker
    from stepwire.workflow.broker.journal import Journal
    from stepwire.workflow.state.store import InMemoryStateStore


class StateHooks:
    """The say of a run in process: a step whose attempt was abandoned sets nothing."""

    __slots__ = ()

    def check(self, store: InMemoryStateStore[Any], values: dict[str, Any]) -> None:
        """Refuse new top-level values before they apply, by raising."""
        execution = running_execution()
        if execution is not None and execution.dead and not execution.finished and execution.broker.store is store:
            raise DeadAttemptError(f"step '{execution.delivery.step}' sets state after its attempt was abandoned")

    def changed(self, keys: set[str]) -> None:
        """Take note of keys that were set or removed."""

    def lent(self, key: str) -> None:
        """Take note that a caller holds the mutable value of a key now."""


class DurableHooks(StateHooks):
    """The say of a durable run: what cannot be saved is refused, what changed is written (DESIGN: Cost)."""

    __slots__ = ("_broker", "_journal")

    def __init__(self, broker: Broker, journal: Journal) -> None:
        self._broker = broker
        self._journal = journal

    def check(self, store: InMemoryStateStore[Any], values: dict[str, Any]) -> None:
        """Refuse what cannot be saved, too, and all of a run that is not in memory any more."""
        super().check(store, values)
        if self._broker.frozen:
            raise RunEndedError("the run is not in memory any more")
        encode_keys(values, self._journal.names, lambda key: store.own_json(key, values))

    def changed(self, keys: set[str]) -> None:
        """Have the keys written with the next commit."""
        for key in keys:
            self._journal.touch(f"s/{key}")
        self._journal.touch("h")

    def lent(self, key: str) -> None:
        """Have the key looked at again when the step that holds its value may have changed it."""
        execution = current_execution(self._broker)
        if execution is not None and not execution.dead:
            if execution.lent is None:
                execution.lent = set()
            execution.lent.add(key)


class GoneHooks(StateHooks):
    """Of a run that has left memory: nothing keeps its state any more."""

    __slots__ = ()

    def check(self, store: InMemoryStateStore[Any], values: dict[str, Any]) -> None:
        """Refuse whatever it is."""
        raise RunEndedError("the run is not in memory any more")


IN_PROCESS = StateHooks()
GONE = GoneHooks()
