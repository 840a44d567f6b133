"""What a run did since its last commit, for a host that makes runs durable."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping
from typing import Any, Final, NamedTuple, Protocol

from stepwire.workflow.broker import parts
from stepwire.workflow.broker.bounds import UNBOUNDED, Bounds
from stepwire.workflow.broker.lent_values import LentValues
from stepwire.workflow.broker.received import Received
from stepwire.workflow.codec.encoder import OwnJson, encode, encode_keys
from stepwire.workflow.codec.names import Names
from stepwire.workflow.definition.roles import role_of
from stepwire.workflow.errors import EventTooLargeError, SerializationError, StateTooLargeError
from stepwire.workflow.events import Event, event_to_json
from stepwire.workflow.state.hooks import StateValues

STREAM: Final = 1
"""Written to the stream. Public."""
RECEIVED: Final = 2
"""Sent from outside. Internal."""
SENT: Final = 3
"""Sent or returned by a step. Internal."""
TERMINAL: Final = 4
"""Ends the run and its stream. Public."""


class LogEntry(NamedTuple):
    """One event in the log of a run; `data` is its fields as plain JSON, encoded once."""

    sequence: int
    at: float
    kind: int
    type: str
    data: bytes
    step: str
    delivered: int
    role: int


class Changes(NamedTuple):
    """What a commit writes: parts of the snapshot that changed or went, and new log entries."""

    parts: dict[str, bytes]
    deleted: list[str]
    entries: list[LogEntry]


class FailureReport(NamedTuple):
    """What may be told of an error, by the host's policy."""

    message: str
    traceback: str
    reference: str


class Host(Protocol):
    """What makes a run durable; without one a run lives in its process only."""

    def changed(self) -> None:
        """Commit soon: something changed since the last `Broker.take_changes`."""

    def after_commit(self, callback: Callable[[], None]) -> None:
        """Call back once everything that was done up to now is durable (DESIGN: the membrane)."""

    def report(self, step: str | None, error: BaseException) -> FailureReport:
        """Log an error and say what the run's record may tell of it."""

    def executed(self, step: str, outcome: str, seconds: float) -> None:
        """Note that the body of a step is over: how it ended, and how long it took with all its waits."""


class Journal:
    """Collect the keys of parts that changed, and log entries, until a commit takes them."""

    __slots__ = (
        "_changed",
        "_checked",
        "_encoded",
        "_scheduled",
        "ahead",
        "bounds",
        "dirty",
        "effects",
        "entries",
        "lent",
        "names",
        "received",
    )

    def __init__(self, names: Names, changed: Callable[[], None], bounds: Bounds = UNBOUNDED) -> None:
        """Make an empty journal.

        Args:
            names: The names of the types that may be saved.
            changed: Called at the first change since the last `take`.
            bounds: What the run may hold.
        """
        self.names = names
        self._changed = changed
        self.bounds = bounds
        self._scheduled = False
        self._checked: set[str] = set()
        """Names of the values that were encoded for the change that is being made."""
        self._encoded: dict[str, tuple[Any, bytes]] = {}
        """Values of the state that were encoded since the last commit, with what was made of them."""
        self.dirty: dict[str, None] = {}
        self.effects: dict[int, int] = {}
        """Deliveries that got effects, with the first page of them that changed."""
        self.entries: list[LogEntry] = []
        self.ahead: dict[str, bytes] | None = None
        """Parts of the next commit that `encode_ahead` has encoded; None as long as no commit is large."""
        self.received: Received | None = None
        """The event of a client that the broker is about to accept, encoded already if it is large."""
        self.lent: LentValues | None = None
        """Values of the state that steps hold or held as mutable objects; None before the first."""

    @property
    def uncommitted(self) -> bool:
        """Whether there is anything that no commit has taken."""
        return bool(self.dirty or self.entries or (self.lent is not None and self.lent.returned))

    def touch(self, key: str) -> None:
        """Note that a part changed or went."""
        self.dirty[key] = None
        if self.ahead:
            self.ahead.pop(key, None)
        self.schedule()

    def touch_effects(self, delivery: int, size: int) -> None:
        """Note that a delivery gets effects, beyond those that take `size` bytes."""
        if delivery not in self.effects:
            self.effects[delivery] = size // parts.EFFECT_PAGE_BYTES
            self.schedule()

    def schedule(self) -> None:
        """Tell the host, once until the next `take`."""
        if not self._scheduled:
            self._scheduled = True
            self._changed()

    def leave(self) -> None:
        """Forget the host: the run has left memory."""
        self._changed = _nothing

    def take(self) -> tuple[dict[str, None], list[LogEntry]]:
        """Hand over the keys and entries since the last call."""
        taken = self.dirty, self.entries
        self.dirty, self.entries = {}, []
        self.effects = {}
        self.received = self.ahead = None
        self._scheduled = False
        if self._encoded:
            self._encoded = {}
        if self.lent is not None:
            self.lent.returned.clear()
        return taken

    def encode(self, event: Event) -> bytes:
        """Return the event as a snapshot holds it; SerializationError when it cannot be saved."""
        received = self.received
        if received is not None and received.event is event and received.saved is not None:
            return received.saved
        return encode(event, self.names)

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
        self._encoded[name] = value, data

    def check_values(self, values: Mapping[str, Any], own: OwnJson) -> None:
        """Encode values that are about to be set, for the next commit.

        Raises:
            SerializationError: Values cannot be saved; names each.
            StateTooLargeError: They are too large for a state.
        """
        self._checked = set()
        known = self._encoded
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
            if name in self._checked:
                self._encoded[name] = store.value_of(name), self._encoded[name][1]
        self._checked = set()
        if self.lent is not None:
            self.lent.replaced(names)
        self.touch(parts.HEAD)

    def lend(self, name: str, store: StateValues) -> None:
        """Note that a step gets a mutable value of the state, so that changes in place are found."""
        if self.lent is None:
            self.lent = LentValues()
        if name not in self.lent:
            written: dict[str, bytes] = {}
            if parts.state(name) not in self.dirty:
                written, _ = self._encode_values([name], {name: store.value_of(name)}, store.own_json)
            self.lent.lend(name, written.get(name))

    def give_back(self, names: Collection[str]) -> None:
        """Note that a step that held values of the state has ended."""
        assert self.lent is not None
        self.lent.returned.update(names)
        self.schedule()

    def encode_state(
        self, values: Mapping[str, Any], own: OwnJson, lent: Collection[str]
    ) -> tuple[dict[str, bytes], list[str], bool]:
        """Encode the parts of the state that changed.

        Args:
            values: The values of the state, by name.
            own: Returns the JSON of a class of its own.
            lent: The names of values that steps may have changed in place.

        Returns:
            The parts; the names of values that cannot be saved; whether a value was changed in place.
        """
        if not values:
            return {}, [], False
        for name in lent:
            self.dirty[parts.state(name)] = None
        written: dict[str, bytes] = {}
        names: list[str] = []
        for key in self.dirty:
            if (found := parts.state_name(key)) is None:
                continue
            known = self._encoded.get(found)
            if known is not None and found not in lent and found in values and values[found] is known[0]:
                written[found] = known[1]
            else:
                names.append(found)
        others, damaged = self._encode_values(names, values, own) if names else ({}, [])
        written |= others
        damaged += self._too_large(written)
        changed = self.lent is not None and bool(self.lent.changed(written))
        return {parts.state(name): data for name, data in written.items()}, damaged, changed

    def find_changes(self, values: Mapping[str, Any], own: OwnJson, lent: Collection[str]) -> bool:
        """Look for changes in place now, have them written, and return whether there are any."""
        if self.lent is None or not lent:
            return False
        changed = self.lent.changed(self._encode_values(lent, values, own)[0])
        for name in changed:
            self.touch(parts.state(name))
        return bool(changed)

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
                f"{', '.join(names)} would have {size} bytes as JSON, and a state may have at most {largest}:"
                " keep large data elsewhere, and set a reference to it"
            )
            raise StateTooLargeError(message, keys=names, size=size, largest=largest)

    def _too_large(self, written: dict[str, bytes]) -> list[str]:
        """Take values that grew too large in place out of what is written; return what to say of them."""
        names = [name for name, data in written.items() if len(data) > self.bounds.state_bytes]
        for name in names:
            del written[name]
        return [f"{name} (too large)" for name in names]

    def log(self, sequence: int, at: float, kind: int, event: Event, data: bytes, step: str, delivered: int) -> None:
        """Append an entry to the log; `data` is from `wire`."""
        cls = type(event)
        role = role_of(cls).number
        self.entries.append(LogEntry(sequence, at, kind, self.names.name_of(cls), data, step, delivered, role))
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
                f"{name} has {len(data)} bytes as JSON, and an event may have at most {largest}: keep large data"
                " elsewhere, and send a reference to it"
            )
            raise EventTooLargeError(message, keys=[name], size=len(data), largest=largest)
        return data

    def wire_ending(self, event: Event) -> bytes:
        """Return the fields of the event that ends the run, whatever its size: a run must be able to end."""
        self.names.name_of(type(event))
        return event_to_json(event)


def _nothing() -> None:
    """Take the place of the host of a run that has left memory."""
