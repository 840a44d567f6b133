"""What the broker keeps of a delivery, its executions and what they wait for."""

from __future__ import annotations

import heapq
from collections import Counter
from collections.abc import Callable, Iterator
from contextvars import Context, ContextVar
from typing import Any, Final, Protocol

from stepwire.workflow.broker.clock import Timer
from stepwire.workflow.events import Event

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

EFFECT_SIZE: Final = 8
"""Bytes of one effect's digest."""
EFFECT_PAGE_BYTES: Final = 512 * EFFECT_SIZE
"""Digests of effects in one part of a snapshot."""


class TimedOut:
    """The answer of a wait that reached its deadline."""

    __slots__ = ()


TIMED_OUT: Final = TimedOut()

Answer = Event | TimedOut | Exception
"""What ends a wait: an event, its deadline, or (outside the steps) the end of the run."""
Notify = Callable[[Answer], None]


class Buffered:
    """An event in a collect buffer; `number` is unique in the run."""

    __slots__ = ("buffer_id", "encoded", "event", "number")

    def __init__(self, number: int, buffer_id: str, event: Event, encoded: bytes | None) -> None:
        self.number = number
        self.buffer_id = buffer_id
        self.event = event
        self.encoded = encoded


class Ledger:
    """What the Context calls of a delivery got, kept until it finishes (DESIGN: the ledger)."""

    __slots__ = ("answers", "collects", "waits")

    def __init__(self) -> None:
        self.collects: dict[str, list[list[Buffered] | None]] = {}
        self.waits: dict[str, dict[int, Answer]] = {}
        self.answers: list[tuple[str, int]] = []
        """The waits that were answered, by id and index, in order: each is a part of the snapshot, written once."""

    def answer(self, waiter_id: str, index: int, answer: Answer) -> int:
        """Note what a wait got; return the number of the answer.

        A wait that differs from the one of an earlier execution takes the place of its answer.
        """
        answers = self.waits.setdefault(waiter_id, {})
        known = index in answers
        answers[index] = answer
        if known:
            return self.answers.index((waiter_id, index))
        self.answers.append((waiter_id, index))
        return len(self.answers) - 1


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
        if self.ledger is None:
            return []
        return [item for results in self.ledger.collects.values() for items in results for item in items or ()]

    def ensure_ledger(self) -> Ledger:
        """Return the ledger, made at the first need."""
        if self.ledger is None:
            self.ledger = Ledger()
        return self.ledger


class RunBroker(Protocol):
    """What an execution knows of its broker."""

    frozen: bool

    @property
    def store(self) -> object:
        """Return the store of the run's state."""


class Execution:
    """One attempt at a delivery: the token that its Context calls hold.

    A dead execution was abandoned (timeout, cancel, release, end of the run): its calls raise and change nothing.
    """

    __slots__ = (
        "broker",
        "cancel",
        "collects",
        "dead",
        "delivery",
        "finished",
        "lent",
        "open_waits",
        "outcome",
        "remaining",
        "replay",
        "returned",
        "settled",
        "timer",
        "waits",
    )

    def __init__(self, broker: RunBroker, delivery: Delivery) -> None:
        self.broker = broker
        self.delivery = delivery
        self.dead = False
        self.finished = False
        """Its step returned and the delivery is through; what it left running counts as outside the steps."""
        self.returned = False
        """Its step returned; the delivery is about to finish."""
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
            effects = bytes(delivery.effects)
            self.replay = Counter(effects[at : at + EFFECT_SIZE] for at in range(0, len(effects), EFFECT_SIZE))
        self.settled: list[tuple[Notify, Answer]] = []
        self.lent: set[str] | None = None
        self.cancel: Callable[[], object] | None = None
        self.timer: Timer[Any] | None = None


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


def has_fields(event: Event, requirements: dict[str, Any]) -> bool:
    """Tell whether an event has every field, declared or dynamic, with an equal value (S9)."""
    dynamic = event._data
    for name, value in requirements.items():
        if name in dynamic:
            found = dynamic[name]
        elif name in type(event).model_fields:
            found = getattr(event, name)
        else:
            return False
        if found != value:
            return False
    return True


class StepQueue:
    """The deliveries of one step that wait for one of its workers."""

    __slots__ = ("_first", "_fresh", "_last", "again", "num_workers", "running")

    def __init__(self, num_workers: int) -> None:
        self.num_workers = num_workers
        self.running = 0
        # The deliveries are their own list: a deque for each step of each run would take 600 bytes.
        self._first: Delivery | None = None
        self._last: Delivery | None = None
        self._fresh = 0
        self.again: list[Delivery] | None = None
        """A heap by id of those that were started before; they are older than the fresh ones."""

    def push(self, delivery: Delivery) -> None:
        """Queue a delivery: a new one at the end, one that was started before at its place by id."""
        if delivery.attempt or delivery.status == READY:
            if self.again is None:
                self.again = []
            heapq.heappush(self.again, delivery)
        else:
            self.append(delivery)

    def append(self, delivery: Delivery) -> None:
        """Queue a delivery at the end."""
        if self._last is None:
            self._first = delivery
        else:
            self._last.next = delivery
        self._last = delivery
        self._fresh += 1

    def pop(self, again_only: bool = False) -> Delivery | None:
        """Take the delivery with the lowest id when a worker is free; `again_only`: of those started before."""
        if self.running >= self.num_workers:
            return None
        first, again = self._first, self.again
        if again and (again_only or first is None or again[0].id < first.id):
            return heapq.heappop(again)
        if first is None or again_only:
            return None
        self._first, first.next = first.next, None
        if self._first is None:
            self._last = None
        self._fresh -= 1
        return first

    def remove(self, delivery: Delivery) -> None:
        """Take out one that was started before."""
        assert self.again is not None
        self.again.remove(delivery)
        heapq.heapify(self.again)

    def clear(self) -> None:
        """Take out all; no worker is busy."""
        self._first = self._last = self.again = None
        self._fresh = self.running = 0

    def __iter__(self) -> Iterator[Delivery]:
        """Give those that never started, then those that did; no order among these."""
        delivery = self._first
        while delivery is not None:
            yield delivery
            delivery = delivery.next
        yield from self.again or ()

    def __len__(self) -> int:
        return self._fresh + len(self.again or ())


_current: ContextVar[Execution | None] = ContextVar("stepwire_execution", default=None)


def current_execution(broker: RunBroker) -> Execution | None:
    """Return the execution of this broker that the caller runs in; None outside its steps.

    A task that a step left running when it returned is outside, too.
    """
    execution = _current.get()
    if execution is None or execution.broker is not broker or execution.finished:
        return None
    return execution


def running_execution() -> Execution | None:
    """Return the execution that the caller runs in, of whatever broker."""
    return _current.get()


def execution_in(context: Context) -> Execution | None:
    """Return the execution that tasks and threads with these context variables run in."""
    return context.get(_current)


def enter_execution(execution: Execution) -> None:
    """Make this execution the current one for the calling task and what it starts."""
    _current.set(execution)
