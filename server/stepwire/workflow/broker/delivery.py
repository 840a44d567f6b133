"""What the broker keeps of a delivery, its executions and what they wait for."""

from __future__ import annotations

import weakref
from collections import Counter
from collections.abc import Callable
from contextvars import Context, ContextVar
from typing import Any, Final, Protocol

from stepwire.workflow.broker.ledger import Answer, Buffered, Ledger, Notify, effects_by_digest, has_fields
from stepwire.workflow.broker.timers import Timer
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

MAX_LOST_EXECUTIONS: Final = 5
"""After so many executions lost to crashes a delivery is poison (DESIGN: Poison)."""


class Delivery:
    """One (event, step) pair that must be processed; its identity is `id`."""

    __slots__ = (
        "attempt",
        "due",
        "effects",
        "encoded",
        "event",
        "execution",
        "failures",
        "first_started",
        "id",
        "ledger",
        "lost",
        "next",
        "sequence",
        "status",
        "step",
        "timer",
        "waiters",
    )

    def __init__(self, id: int, step: str, event: Event, sequence: int, encoded: bytes | None = None) -> None:
        self.id = id
        self.step = step
        self.event = event
        self.encoded = encoded
        """The event as a snapshot holds it, encoded when it was accepted; None without a journal."""
        self.sequence = sequence
        self.status = QUEUED
        self.attempt = 0
        """Executions started."""
        self.failures = 0
        """Executions that failed, for the retry policy."""
        self.lost = 0
        """Executions lost to crashes."""
        self.first_started: float | None = None
        self.due: float | None = None
        self.ledger: Ledger | None = None
        self.effects: bytearray | None = None
        """Digests of the sends and stream writes since the last failure, in order."""
        self.execution: Execution | None = None
        self.timer: Timer[Any] | None = None
        self.waiters: list[Waiter] | None = None
        """Its open waiters, in the order of opening."""
        self.next: Delivery | None = None
        """The one behind it in the queue of its step."""

    def __lt__(self, other: Delivery) -> bool:
        return self.id < other.id

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


class RunBroker(Protocol):
    """What an execution knows of its broker."""

    frozen: bool

    def stir(self, execution: Execution) -> None:
        """Look at the run again: a task of this execution is over."""

    @property
    def store(self) -> StateValues:
        """Return the store of the run's state."""


class Execution:
    """One attempt at a delivery: the token that its Context calls hold.

    A dead execution was abandoned (timeout, cancel, release, end of the run): its calls raise and change nothing.
    """

    __slots__ = (
        "_left",
        "beside",
        "broker",
        "cancel",
        "children",
        "collects",
        "context",
        "dead",
        "delivery",
        "finished",
        "is_async",
        "lent",
        "open_waits",
        "outcome",
        "remaining",
        "replay",
        "returned",
        "settled",
        "timer",
        "untold",
        "waits",
    )

    def __init__(self, broker: RunBroker, delivery: Delivery) -> None:
        self.broker: RunBroker | None = broker
        """None once it is dead: what it left running, a timer or a task, keeps it in a context variable."""
        self._left: weakref.ref[RunBroker] | None = None
        self.delivery = delivery
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
        self.untold: list[Notify] | None = None
        """Waits of a body that stays parked, whose answers are not durable yet and so not told."""
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
        self.lent: set[str] | None = None
        self.cancel: Callable[[], object] | None = None
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
        self.broker = self.context = None

    def next_collect(self, buffer_id: str) -> int:
        """Count a collect of this buffer; return how many there were before."""
        if self.collects is None:
            self.collects = {}
        nth = self.collects.get(buffer_id, 0)
        self.collects[buffer_id] = nth + 1
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


_current: ContextVar[Execution | None] = ContextVar("stepwire_execution", default=None)


def current_execution(broker: RunBroker) -> Execution | None:
    """Return the execution of this broker that the caller runs in; None outside its steps.

    A task that a step left running when it returned is outside, too.
    """
    execution = _current.get()
    if execution is None or execution.finished:
        return None
    if execution.broker is broker or (execution.dead and execution.owner is broker):
        return execution
    return None


def running_execution() -> Execution | None:
    """Return the execution that the caller runs in, of whatever broker."""
    return _current.get()


def execution_in(context: Context) -> Execution | None:
    """Return the execution that tasks and threads with these context variables run in."""
    return context.get(_current)


def enter_execution(execution: Execution) -> None:
    """Make this execution the current one for the calling task and what it starts."""
    _current.set(execution)
