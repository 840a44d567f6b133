"""What a run did since its last commit, for a host that makes runs durable."""

from __future__ import annotations

import sys
from collections.abc import Collection, Iterable, Mapping, Set
from typing import Any, Final

from stepwire.workflow.broker.bounds import UNBOUNDED, Bounds
from stepwire.workflow.broker.changes.lent_values import LentValues
from stepwire.workflow.broker.deliveries.delivery import Execution
from stepwire.workflow.broker.deliveries.executions import LOG_NONE, Attempted
from stepwire.workflow.broker.host import Host
from stepwire.workflow.broker.log.entries import CHILD, EXECUTION, ChildNews, LogEntry
from stepwire.workflow.broker.log.received import Received
from stepwire.workflow.broker.snapshot import parts
from stepwire.workflow.codec.decoder import decode
from stepwire.workflow.codec.encoder import OwnJson, encode, encode_keys
from stepwire.workflow.codec.names import Names
from stepwire.workflow.definition.roles import role_of
from stepwire.workflow.errors import EventTooLargeError, SerializationError, StateTooLargeError
from stepwire.workflow.events import Event, event_to_json
from stepwire.workflow.state.hooks import StateValues
from stepwire.workflow.state.store import InMemoryStateStore


class Journal:
    """Collect the keys of parts that changed, and log entries, until a commit takes them."""

    __slots__ = (
        "_checked",
        "_encoded",
        "_executions",
        "_host",
        "_scheduled",
        "_store",
        "ahead",
        "attempts",
        "bounds",
        "dirty",
        "effects",
        "entries",
        "last_entry",
        "lent",
        "names",
        "received",
    )

    def __init__(
        self, names: Names, host: Host | None = None, bounds: Bounds = UNBOUNDED, attempts: int = LOG_NONE
    ) -> None:
        """Make an empty journal.

        Args:
            names: The names of the types that may be saved.
            host: Told of the first change since the last `take`; None for nobody.
            bounds: What the run may hold.
            attempts: Which attempts at deliveries get entries in the log: LOG_NONE, LOG_FAILURES or LOG_ALL.
        """
        self.names = names
        self.attempts = attempts
        self._host = host
        self.bounds = bounds
        self._store: InMemoryStateStore[Any] | None = None
        self._executions: Collection[Execution] = ()
        self._scheduled = False
        self._checked: Set[str] = _NONE
        """Names of the values that were encoded for the change that is being made."""
        self._encoded: dict[str, tuple[Any, bytes]] | None = None
        """Values of the state that were encoded since the last commit, with what was made of them; None for none."""
        self.dirty: dict[str, None] = {}
        self.effects: dict[int, int] | None = None
        """Deliveries that got effects, with the first page of them that changed; None for none."""
        self.entries: list[LogEntry] = []
        self.last_entry = bounds.entries
        """The sequence that the steps of the run may bring its log to."""
        self.ahead: dict[str, bytes] | None = None
        """Parts of the next commit that `encode_ahead` has encoded; None as long as no commit is large."""
        self.received: Received | None = None
        """The event of a client that the broker is about to accept, encoded already if it is large."""
        self.lent: LentValues | None = None
        """Values of the state that steps hold or held as mutable objects; None before the first."""

    def watch(self, store: InMemoryStateStore[Any], executions: Collection[Execution]) -> None:
        """Find changes of this state, also those that attempts under way make in place."""
        self._store = store
        self._executions = executions

    def bound_log(self, first: int) -> None:
        """Let the log, whose oldest kept entry is `first`, grow up to its bound."""
        if self.bounds.entries < sys.maxsize:
            self.last_entry = first - 1 + self.bounds.entries

    @property
    def uncommitted(self) -> bool:
        """Whether there is anything that no commit has taken."""
        return bool(self.dirty or self.entries or (self.lent is not None and self.lent.returned))

    def touch(self, key: str) -> None:
        """Note that a part changed or went."""
        self.dirty[key] = None
        if self.ahead:
            self.ahead.pop(key, None)
        if not self._scheduled:
            self.schedule()

    def touch_all(self, keys: Iterable[str]) -> None:
        """Note that parts changed; faster than one by one."""
        self.dirty.update(dict.fromkeys(keys))
        self.ahead = None
        self.schedule()

    def touch_effects(self, delivery: int, size: int) -> None:
        """Note that a delivery gets effects, beyond those that take `size` bytes."""
        if self.effects is None:
            self.effects = {}
        if delivery not in self.effects:
            self.effects[delivery] = size // parts.EFFECT_PAGE_BYTES
            self.schedule()

    def schedule(self) -> None:
        """Tell the host, once until the next `take`."""
        if not self._scheduled:
            self._scheduled = True
            if self._host is not None:
                self._host.changed()

    def leave(self) -> None:
        """Forget the host: the run has left memory."""
        self._host = None

    def take(self) -> tuple[dict[str, None], list[LogEntry]]:
        """Hand over the keys and entries since the last call."""
        taken = self.dirty, self.entries
        self.dirty, self.entries = {}, []
        self.effects = self.received = self.ahead = self._encoded = None
        self._scheduled = False
        if self.lent is not None:
            self.lent.returned.clear()
        return taken

    def encode(self, event: Event) -> bytes:
        """Return the event as a snapshot holds it; SerializationError when it cannot be saved."""
        received = self.received
        if received is not None and received.event is event and received.saved is not None:
            return received.saved
        return encode(event, self.names)

    def decode(self, data: bytes) -> Event:
        """Return an event from what a snapshot of this process holds of it."""
        event: Event = decode(data, self.names, validate=False)
        return event

    def check_wait(self, event_type: type[Event] | None, requirements: dict[str, Any], prompt: Event | None) -> None:
        """Raise SerializationError for a wait that cannot be saved."""
        if event_type is not None:
            self.names.name_of(event_type)
        if requirements:
            encode(requirements, self.names)
        if prompt is not None:
            self.wire(prompt)
            self.encode(prompt)

    def note_encoded(self, name: str, value: Any, data: bytes) -> None:
        """Note that a value which is about to be set is encoded already."""
        self._known()[name] = value, data

    def _known(self) -> dict[str, tuple[Any, bytes]]:
        """Return the values that were encoded since the last commit, to add more."""
        if self._encoded is None:
            self._encoded = {}
        return self._encoded

    def check_values(self, values: Mapping[str, Any], own: OwnJson) -> None:
        """Encode values that are about to be set, for the next commit.

        Raises:
            SerializationError: Values cannot be saved; names each.
            StateTooLargeError: They are too large for a state.
        """
        self._checked = _NONE
        known = self._known()
        todo = {name: value for name, value in values.items() if name not in known or known[name][0] is not value}
        by_class: set[str] = set()

        def noted(names: Collection[str]) -> dict[str, Any]:
            by_class.update(names)
            return dict(own(names))

        written = encode_keys(todo, self.names, noted)
        self.check_size(written)
        for name, data in written.items():
            if name not in by_class:  # what a class writes may change with other fields
                known[name] = todo[name], data
        self._checked = values.keys() & known.keys()

    def note_changed(self, names: Collection[str], store: StateValues) -> None:
        """Note that values of the state were set or removed, once the change is made.

        A change inside a value is checked on a copy and then made in the value itself: what was encoded is its content.
        """
        for name in names:
            self.touch(parts.state(name))
            if name in self._checked and self._encoded is not None:
                self._encoded[name] = store.value_of(name), self._encoded[name][1]
        self._checked = _NONE
        if self.lent is not None:
            self.lent.replaced(names)
        self.touch(parts.HEAD)

    def lend(self, name: str, store: StateValues, *, wanted: bool) -> bytes | None:
        """Note that a step gets a mutable value of the state, so that changes in place are found.

        Returns:
            The value as a snapshot holds it, if it is `wanted`.
        """
        if self.lent is None:
            self.lent = LentValues()
        known = self.lent.encoded(name)
        set_now = None if self._encoded is None else self._encoded.get(name)
        if set_now is not None and set_now[0] is store.value_of(name):
            known = set_now[1]
        if known is not None and self.lent.may_differ(name, self._executions):
            known = None
        clean = name not in self.lent and parts.state(name) not in self.dirty
        if clean or (wanted and known is None):
            written, _ = self._encode_values([name], {name: store.value_of(name)}, store.own_json)
            known = written.get(name)
        if name not in self.lent:
            self.lent.lend(name, known if clean else None)
        return known

    def encoded_now(self, name: str) -> bytes | None:
        """Return a value of the state as a snapshot would hold it; None if it is not there or cannot be saved."""
        store = self._store
        if store is None:
            return None
        return self._encode_values([name], store.saved(), store.own_json)[0].get(name)

    def give_back(self, names: Collection[str]) -> None:
        """Note that a step that held values of the state has ended."""
        assert self.lent is not None
        self.lent.returned.update(names)
        self.schedule()

    def encode_state(self) -> tuple[dict[str, bytes], list[str]]:
        """Encode the parts of the state that changed, and count changes in place as a change of its version.

        Returns:
            The parts, and the names of values that cannot be saved.
        """
        store = self._store
        assert store is not None
        if not store.made:
            return {}, []
        store.look_at_keys()
        lent = self._lent_names() if self.lent is not None else _NONE
        if not lent and not any([key[0] == parts.STATE for key in self.dirty]):  # noqa: C419 - a generator takes longer
            return {}, []
        values = store.saved()
        if not values:
            return {}, []
        for name in lent:
            self.dirty[parts.state(name)] = None
        changed = [key for key in self.dirty if key[0] == parts.STATE]
        if not changed:
            return {}, []
        written: dict[str, bytes] = {}
        names: list[str] = []
        for key in changed:
            found = parts.name_of(key)
            known = None if self._encoded is None else self._encoded.get(found)
            if known is not None and found not in lent and found in values and values[found] is known[0]:
                written[found] = known[1]
            else:
                names.append(found)
        others, damaged = self._encode_values(names, values, store.own_json) if names else ({}, [])
        written |= others
        damaged += self._too_large(written)
        if self.lent is not None and self.lent.changed(written):
            store.version += 1
        return {parts.state(name): data for name, data in written.items()}, damaged

    def find_changes_in_place(self) -> None:
        """Count what steps have changed in place so far, and have it written: the state is told to the outside."""
        store = self._store
        if store is None:
            return
        store.look_at_keys()
        if self.lent is None or not (lent := self._lent_names()):
            return
        values = store.saved()
        changed = self.lent.changed(self._encode_values(lent, values, store.own_json)[0])
        for name in changed:
            self.touch(parts.state(name))
        if changed:
            store.version += 1
            self.touch(parts.HEAD)

    def _lent_names(self) -> Collection[str]:
        """Return the names of the values that steps may have changed in place since the last commit."""
        if self.lent is None:
            return _NONE
        held = (execution.lent for execution in self._executions if execution.lent is not None)
        return self.lent.returned.union(*held)

    def _encode_values(
        self, names: Collection[str], values: Mapping[str, Any], own: OwnJson
    ) -> tuple[dict[str, bytes], list[str]]:
        """Encode values of the state, and return the names of those that cannot be saved."""
        asked = {name: values[name] for name in names if name in values}
        try:
            return encode_keys(asked, self.names, own), []
        except SerializationError:  # find out which
            written: dict[str, bytes] = {}
            damaged: list[str] = []
            for name, value in asked.items():
                try:
                    written |= encode_keys({name: value}, self.names, own)
                except SerializationError:
                    damaged.append(name)
            return written, damaged

    def check_size(self, written: Mapping[str, bytes]) -> None:
        """Raise StateTooLargeError for encoded values that are too large for a state by themselves."""
        if (size := sum(map(len, written.values()))) > self.bounds.state_bytes:
            names, largest = sorted(written), self.bounds.state_bytes
            message = (
                f"{', '.join(names)} would have {size} bytes as JSON, and a state may have at most {largest}"
                " (max_state_bytes): keep large data elsewhere, and set a reference to it"
            )
            raise StateTooLargeError(message, keys=names, size=size, largest=largest)

    def _too_large(self, written: dict[str, bytes]) -> list[str]:
        """Take values that grew too large in place out of what is written; return what to say of them."""
        names = [name for name, data in written.items() if len(data) > self.bounds.state_bytes]
        for name in names:
            del written[name]
        return [f"{name} (too large)" for name in names]

    def log(
        self,
        sequence: int,
        at: float,
        kind: int,
        event: Event,
        data: bytes,
        step: str,
        delivered: int,
        delivery: int = 0,
    ) -> None:
        """Append an entry to the log; `data` is from `wire`."""
        cls = type(event)
        role = role_of(cls).number
        name = self.names.name_of(cls)
        self.entries.append(LogEntry(sequence, at, kind, name, data, step, delivered, role, delivery))
        if not self._scheduled:
            self.schedule()

    def log_attempt(self, sequence: int, at: float, step: str, attempted: Attempted) -> None:
        """Append an entry that tells of an attempt."""
        self.entries.append(LogEntry(sequence, at, EXECUTION, "", b"", step, 0, 0, attempted.delivery, attempted))
        if not self._scheduled:
            self.schedule()

    def log_child(self, sequence: int, at: float, step: str, news: ChildNews) -> None:
        """Append an entry that tells of a run that a step has started."""
        self.entries.append(LogEntry(sequence, at, CHILD, "", b"", step, 0, 0, news.delivery, None, news))
        if not self._scheduled:
            self.schedule()

    def wire(self, event: Event) -> bytes:
        """Return the event's fields as clients see them.

        Raises:
            SerializationError: The event cannot be saved.
            EventTooLargeError: It has more bytes than the journal takes.
        """
        self.names.name_of(type(event))
        received = self.received
        ready = received.wire if received is not None and received.event is event else None
        data = event_to_json(event) if ready is None else ready
        if len(data) > self.bounds.event_bytes:
            name, largest = type(event).__name__, self.bounds.event_bytes
            message = (
                f"{name} has {len(data)} bytes as JSON, and an event may have at most {largest}"
                " (max_entry_bytes): keep large data elsewhere, and send a reference to it"
            )
            raise EventTooLargeError(message, keys=[name], size=len(data), largest=largest)
        return data

    def wire_ending(self, event: Event) -> bytes:
        """Return the fields of the event that ends the run, whatever its size: a run must be able to end."""
        self.names.name_of(type(event))
        return event_to_json(event)


_NONE: Final[frozenset[str]] = frozenset()
