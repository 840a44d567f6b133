"""What the broker keeps of a delivery, its executions and what they wait for."""

from __future__ import annotations

import weakref
from collections import Counter
from collections.abc import Collection
from typing import Any, Final, NamedTuple, Protocol

from stepwire.workflow.broker.children.nesting import Nested
from stepwire.workflow.broker.deliveries.body import Body
from stepwire.workflow.broker.deliveries.executions import AttemptFailure, AttemptJournal
from stepwire.workflow.broker.ledger import Answer, Buffered, Ledger, Notify, effects_by_digest, has_fields
from stepwire.workflow.broker.snapshot.former_names import FormerNames
from stepwire.workflow.broker.timing.clock import Clock
from stepwire.workflow.broker.timing.timers import Timer
from stepwire.workflow.events import Event
from stepwire.workflow.state.hooks import StateValues

QUEUED: Final = "queued"
"""Waits for a worker; its body has never started, or is to start again."""
RUNNING: Final = "running"
"""Its body runs and holds a worker."""
PARKED: Final = "parked"
"""Its body waits in an open waiter, or will run again when a waiter is answered; holds no worker."""
READY: Final = "ready"
"""A waiter was answered; waits for a worker to go on."""
BACKOFF: Final = "backoff"
"""Failed; its policy runs it again at `due`."""

NO_EVENT: Final = Event()
"""The event of a delivery that is through."""


class Lineage(NamedTuple):
    """Where a delivery comes from, as far as that matters for what becomes of it.

    Attributes:
        scope: The open streams that it belongs to, outermost first.
        recoveries: How often each step that catches errors has caught what led here.
    """

    scope: tuple[int, ...]
    recoveries: dict[str, int]


class EventReader(Protocol):
    """Reads events as snapshots hold them."""

    def decode(self, data: bytes) -> Event:
        """Return an event from what a snapshot holds of it."""


class Delivery:
    """One (event, step) pair that must be processed; its identity is `id`."""

    __slots__ = (
        "attempt",
        "due",
        "effects",
        "encoded",
        "execution",
        "failure",
        "failures",
        "first_started",
        "former",
        "held",
        "id",
        "last_failure",
        "ledger",
        "lineage",
        "lost",
        "next",
        "reader",
        "sequence",
        "since",
        "status",
        "step",
        "timer",
        "undo",
        "undo_changed",
        "undo_saved",
        "waiters",
    )

    def __init__(self, id: int, step: str, event: Event, sequence: int, encoded: bytes | None = None) -> None:
        self.id = id
        self.step = step
        self.held: Event | None = event
        """The event as it came; None while a body has it."""
        self.reader: EventReader | None = None
        """Reads the event from `encoded` meanwhile."""
        self.encoded = encoded
        """The event as a snapshot holds it, encoded when it was accepted; None without a journal."""
        self.sequence = sequence
        self.status = QUEUED
        self.since: float | None = None
        """When it got its status; None where nobody keeps a journal, or an older version saved it."""
        self.attempt = 0
        """Executions started."""
        self.failures = 0
        """Executions that failed, for the retry policy."""
        self.lost = 0
        """Executions lost to crashes."""
        self.failure: AttemptFailure | None = None
        """What its last failed execution failed with, as far as a host lets it be told."""
        self.first_started: float | None = None
        self.lineage: Lineage | None = None
        """None in most workflows: it belongs to no stream, and nothing was caught."""
        self.last_failure: tuple[Exception | None, float] | None = None
        """What the last attempt failed with and when, of a step of an adopted workflow; the time alone after a restart,
        `failure` tells the rest."""
        self.due: float | None = None
        self.ledger: Ledger | None = None
        self.effects: bytearray | None = None
        """Digests of the sends and stream writes since the last failure, in order."""
        self.former: FormerNames | None = None
        """The names that may be in these digests instead of those of today."""
        self.undo: dict[str, Any] | None = None
        """What values of the state were before it changed them; see `undo`."""
        self.undo_changed = False
        self.undo_saved = False
        self.execution: Execution | None = None
        self.timer: Timer[Any] | None = None
        self.waiters: list[Waiter] | None = None
        """Its open waiters, in the order of opening."""
        self.next: Delivery | None = None
        """The one behind it in the queue of its step."""

    def __lt__(self, other: Delivery) -> bool:
        return self.id < other.id

    @property
    def event(self) -> Event:
        """The event as it came."""
        if self.held is not None:
            return self.held
        assert self.reader is not None
        assert self.encoded is not None
        return self.reader.decode(self.encoded)

    @event.setter
    def event(self, event: Event) -> None:
        self.held, self.reader = event, None

    def lend(self, reader: EventReader) -> Event:
        """Give the event to a body, which may change it; what it was is read from `encoded` if anything needs it."""
        event = self.event
        self.held, self.reader = None, reader
        return event

    def collected(self) -> list[Buffered]:
        """Return the events that its collects took: consumed when it finishes."""
        return [] if self.ledger is None else list(self.ledger.collected())

    def untaken_waiter(self, waiter_id: str, index: int) -> Waiter | None:
        """Return the n-th wait of this id if an earlier execution opened it and no body waits in it now."""
        for waiter in self.waiters or ():
            if waiter.id == waiter_id and waiter.index == index and waiter.notify is None:
                return waiter
        return None

    def ensure_ledger(self) -> Ledger:
        """Return the ledger, made at the first need."""
        if self.ledger is None:
            self.ledger = Ledger()
        return self.ledger


class RunUndos(Protocol):
    """What deliveries have changed in the state; see `undo`."""

    def record(self, delivery: Delivery, name: str, before: Any) -> None:
        """Note what a value was before a delivery changed it."""

    def setting(self, execution: Execution | None, replaced: Collection[str], keys: Collection[str]) -> None:
        """Note that a call sets values."""

    def lent(self, execution: Execution, name: str, before: Any) -> None:
        """Note what a value is that an attempt may change in place."""

    def seen(self, execution: Execution | None, keys: Collection[str]) -> None:
        """Note that a step reads or changes values."""


class RunBroker(Protocol):
    """What an execution knows of its broker."""

    frozen: bool
    sequence: int

    @property
    def undos(self) -> RunUndos:
        """Return what deliveries have changed in the state."""

    def may_wait(self, execution: Execution) -> bool:
        """Tell whether the step of an attempt waits for events or time in its own code."""

    @property
    def clock(self) -> Clock:
        """Return what time it is for the run."""

    def begin_again(self, delivery: Delivery) -> None:
        """Put back what a delivery had changed in the state before it was interrupted."""

    def stir(self, execution: Execution) -> None:
        """Look at the run again: a task of this execution is over."""

    @property
    def journal(self) -> AttemptJournal | None:
        """Return what takes entries of attempts; None when nothing is made durable."""

    @property
    def store(self) -> StateValues:
        """Return the store of the run's state."""


class Execution:
    """One attempt at a delivery: the token that its Context calls hold.

    A dead execution was abandoned (timeout, cancel, release, end of the run): its calls raise and change nothing.
    """

    __slots__ = (
        "_left",
        "awaiting",
        "began",
        "beside",
        "body",
        "broker",
        "children",
        "collects",
        "context",
        "dead",
        "delivery",
        "fanned_out",
        "finished",
        "is_async",
        "lent",
        "lent_before",
        "nested",
        "open_waits",
        "outcome",
        "place",
        "remaining",
        "replay",
        "returned",
        "settled",
        "starts",
        "taken",
        "timer",
        "waits",
        "watch",
    )

    def __init__(self, broker: RunBroker, delivery: Delivery) -> None:
        self.broker: RunBroker | None = broker
        """None once it is dead: what it left running, a timer or a task, keeps it in a context variable."""
        self._left: weakref.ref[RunBroker] | None = None
        self.delivery = delivery
        self.began = 0.0
        """When it was marked in progress; 0.0 without a journal."""
        self.dead = False
        self.finished = False
        """Its step returned and the delivery is through; what it left running counts as outside the steps."""
        self.returned = False
        """Its step returned; the delivery is about to finish."""
        self.context: Any = None
        """The context that its body got, while it runs."""
        self.beside = False
        """Whether it was last saved as a body that works beside its waits."""
        self.children: set[Any] | None = None
        """The tasks that its body has started and that are not over, where a host wants to know."""
        self.watch: Any = None
        """Which of them are to be looked at, to find out whether the body only waits."""
        self.nested: list[Nested] | None = None
        """The runs that its body has started and that have not ended."""
        self.awaiting: dict[Notify, None] | None = None
        """Its waits for the ends of runs that its delivery has started."""
        self.starts: Counter[bytes] | None = None
        """How often it has started a run, or sent an event to one, by the digest of the call."""
        self.taken = False
        """Whether somebody other than its run and its step has cancelled the task of its body."""
        self.is_async = True
        """Whether its body is a coroutine."""
        self.open_waits = 0
        self.outcome = "abandoned"
        """How its body ended: completed, failed or timed_out; abandoned, when the run went on or away without it."""
        self.remaining: float | None = None
        """Seconds of the step's timeout left while its clock is stopped."""
        self.collects: dict[str, int] | None = None
        """How often it has collected, by buffer."""
        self.waits: dict[str, int] | None = None
        """How often it has waited, by waiter id."""
        self.replay: Counter[bytes] | None = None
        if delivery.effects:
            self.replay = effects_by_digest(delivery.effects)
        self.settled: list[tuple[Notify, Answer]] | None = None
        self.fanned_out = False
        """Whether its step returned a list."""
        self.lent: set[str] | None = None
        self.lent_before: dict[str, Any] | None = None
        """What values of the state were when it got them as mutable objects, as long as nobody else holds them."""
        self.body: Body | None = None
        self.place = -1
        """Its index among the executions of its run; -1 when it is none of them."""
        self.timer: Timer[Any] | None = None

    @property
    def owner(self) -> RunBroker | None:
        """The broker that it is or was of; None when that is gone."""
        if self.broker is not None:
            return self.broker
        return None if self._left is None else self._left()

    def settle(self, notify: Notify, answer: Answer) -> None:
        """Keep an answer until the body has a worker to go on with it."""
        if self.settled is None:
            self.settled = []
        self.settled.append((notify, answer))

    def leave(self) -> None:
        """Keep the run no longer, so that what outlives the body does not keep it either."""
        if self.broker is not None and not self.finished:
            self._left = weakref.ref(self.broker)  # its calls are refused as long as the run is there
        self.broker = self.context = self.watch = None

    def next_collect(self, buffer_id: str) -> int:
        """Count a collect of this buffer; return how many there were before."""
        if self.collects is None:
            self.collects = {}
        nth = self.collects.get(buffer_id, 0)
        self.collects[buffer_id] = nth + 1
        return nth

    def next_call(self, digest: bytes) -> int:
        """Count a start of a run, or an event sent to one; return how many calls like it there were before."""
        if self.starts is None:
            self.starts = Counter()
        nth = self.starts[digest]
        self.starts[digest] = nth + 1
        return nth

    def waits_made(self, waiter_id: str) -> int:
        """Return how many waits of this id the body has made."""
        return 0 if self.waits is None else self.waits.get(waiter_id, 0)

    def note_wait(self, waiter_id: str) -> int:
        """Count a wait of this id; return how many there were before."""
        if self.waits is None:
            self.waits = {}
        nth = self.waits.get(waiter_id, 0)
        self.waits[waiter_id] = nth + 1
        return nth


class Waiter:
    """An open wait: of a delivery (durable), or of someone outside the steps (`delivery` is None)."""

    __slots__ = (
        "delivery",
        "due",
        "event_type",
        "id",
        "index",
        "notify",
        "number",
        "prompt",
        "requirements",
        "timer",
    )

    def __init__(
        self,
        number: int,
        id: str,
        event_type: type[Event] | None,
        requirements: dict[str, Any],
        prompt: Event | None,
        due: float | None,
        delivery: Delivery | None,
        index: int,
    ) -> None:
        self.number = number
        self.id = id
        self.event_type = event_type
        """None for a durable sleep, which nothing but its deadline ends."""
        self.requirements = requirements
        self.prompt = prompt
        self.due = due
        self.delivery = delivery
        self.index = index
        """The n-th wait for this id in its delivery."""
        self.notify: Notify | None = None
        self.timer: Timer[Any] | None = None

    def matches(self, event: Event) -> bool:
        """Tell whether the event has every required field with an equal value."""
        return has_fields(event, self.requirements)
