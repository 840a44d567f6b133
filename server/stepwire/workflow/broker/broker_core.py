"""The broker's data, and the small changes that its transitions are made of."""

from __future__ import annotations

import hashlib
import math
from functools import lru_cache
from typing import Any, Final, NamedTuple

from stepwire.workflow.broker.buffers import Buffers
from stepwire.workflow.broker.clock import CLOCK, Clock, TimerQueue
from stepwire.workflow.broker.delivery import (
    EFFECT_PAGE_BYTES,
    EFFECT_SIZE,
    PARKED,
    READY,
    RUNNING,
    Answer,
    Delivery,
    Execution,
    Notify,
    StepQueue,
    Waiter,
)
from stepwire.workflow.broker.journal import STREAM, Journal
from stepwire.workflow.broker.stream import EventStream
from stepwire.workflow.broker.waits import Waits
from stepwire.workflow.definition.routing import Routing
from stepwire.workflow.errors import DeadAttemptError, RunEndedError
from stepwire.workflow.events import Event, InputRequiredEvent, StopEvent
from stepwire.workflow.state.store import InMemoryStateStore

COMPLETED: Final = "completed"
FAILED: Final = "failed"
CANCELLED: Final = "cancelled"
ENDED_TIMED_OUT: Final = "timed_out"


class Receipt(NamedTuple):
    """What became of an event: its place in the log, and how many deliveries and waiters took it."""

    sequence: int
    delivered: int


class Outcome(NamedTuple):
    """How a run ended: one of the four terminal statuses, its terminal event, and the error in process.

    `encoded` is the event as a snapshot holds it, where that is known already.
    """

    status: str
    event: StopEvent
    error: BaseException | None
    encoded: bytes | None = None


def result_of(event: StopEvent) -> Any:
    """Return the result of a run: the `result` of a plain StopEvent, else the event itself."""
    return event.result if type(event) is StopEvent else event


class BrokerCore:
    """Hold what a run is.

    With a journal, every change notes which parts of the snapshot it concerns and what goes to the log; without one,
    public events go to `stream` and nothing is encoded. `pausing` makes the run's clock stop while it only waits for
    outside input (S14).
    """

    # Many runs wait in memory: what each holds is what they cost.
    __slots__ = (
        "_hot",
        "_timers",
        "asked",
        "buffers",
        "clock",
        "cut_off",
        "deliveries",
        "delivery_ids",
        "due",
        "executions",
        "frozen",
        "journal",
        "numbers",
        "outcome",
        "parked",
        "pausing",
        "poisoned",
        "queues",
        "remaining",
        "resumed",
        "routing",
        "sequence",
        "started",
        "store",
        "stream",
        "timeout",
        "untaken",
        "waits",
    )

    def __init__(
        self,
        routing: Routing,
        store: InMemoryStateStore[Any],
        *,
        clock: Clock = CLOCK,
        journal: Journal | None = None,
        pausing: bool = False,
    ) -> None:
        self.routing = routing
        self.store = store
        self.clock = clock
        self.journal = journal
        self.pausing = pausing
        self.sequence = 0
        self.delivery_ids = 0
        self.numbers = 0
        """The last number given to a waiter or a buffered event."""
        self.queues = {name: StepQueue(config.num_workers) for name, config in routing.steps.items()}
        self.deliveries: dict[int, Delivery] = {}
        self.executions: dict[int, Execution] = {}
        self.parked = 0
        self.buffers = Buffers()
        self.waits = Waits()
        self.stream = EventStream()
        self.outcome: Outcome | None = None
        self.started = False
        self.frozen = False
        self.cut_off = False
        """Bodies of steps were cut off by the end of the run: they may have a last word."""
        self.asked = False
        """An InputRequiredEvent went out since the last outside event."""
        self.untaken = ""
        """The type of the last event that nothing took: why a run that stalls may do so."""
        self.timeout: float | None = None
        """The seconds that the run may take in all."""
        self.remaining: float | None = None
        """The seconds left while the run's clock is stopped."""
        self.due: float | None = None
        """When the run times out, while its clock runs."""
        self.resumed: list[tuple[Notify, Answer]] = []
        """Waits whose bodies may go on; the runner tells them once it is durable."""
        self.poisoned: list[Delivery] = []
        """Deliveries that were lost to crashes too often; the runner fails them."""
        self._timers: TimerQueue[Delivery | Waiter | Execution] = TimerQueue()
        self._hot: dict[str, None] = {}

    def check(self, execution: Execution | None) -> None:
        """Raise DeadAttemptError or RunEndedError when a call may not change the run any more."""
        if execution is not None and execution.dead:
            raise _dead(execution.delivery.step)
        if self.outcome is not None:
            raise RunEndedError(f"the run has ended: {self.outcome.status}")
        if self.frozen:
            raise RunEndedError("the run is not in memory any more")

    # -- the log ------------------------------------------------------------------------------------------------------

    def write(self, event: Event, execution: Execution | None = None, source: str = "") -> Receipt:
        """Write an event to the stream. Errors as `accept`."""
        return Receipt(self.sequence, 0) if self.put(event, execution, source) else Receipt(0, 0)

    def put(self, event: Event, execution: Execution | None = None, source: str = "") -> bool:
        """Write an event to the stream; False when an earlier execution did. Errors as `accept`."""
        self.check(execution)
        if self.journal is None:
            if execution is not None and self._repeated(execution, "write", event, b""):
                return False
            self.sequence += 1
            self.stream.append(event)
        else:
            data = self.journal.wire(event)
            if execution is not None:
                source = execution.delivery.step
                if self._repeated(execution, "write", event, data):
                    return False
            self.sequence += 1
            self.journal.log(self.sequence, self.clock.now(), STREAM, event, data, source, 0)
        if isinstance(event, InputRequiredEvent):
            self.asked = True
        return True

    def _repeated(self, execution: Execution, call: str, event: Event, data: bytes) -> bool:
        """Note a send or write in the ledger; True when an earlier execution made the same one."""
        journal = self.journal
        if journal is not None:
            hasher = _hasher(call, type(event)).copy()
            hasher.update(data)
            digest = hasher.digest()
        else:
            # In process only the kind of call is noted: it costs no encoding, and a restored context repeats the
            # same calls in the same order.
            digest = _kind_digest(call, type(event))
        replay = execution.replay
        if replay is not None and replay[digest] > 0:
            replay[digest] -= 1
            return True
        delivery = execution.delivery
        effects = delivery.effects
        if effects is None:
            effects = delivery.effects = bytearray()
        if journal is not None and delivery.id not in journal.effects:
            journal.effects[delivery.id] = len(effects) // EFFECT_PAGE_BYTES
            journal.schedule()
        effects += digest
        return False

    # -- deliveries and executions ------------------------------------------------------------------------------------

    def _push(self, delivery: Delivery) -> None:
        self.queues[delivery.step].push(delivery)
        self._hot[delivery.step] = None

    def _release_worker(self, delivery: Delivery) -> None:
        if delivery.status == RUNNING:
            self.queues[delivery.step].running -= 1
            self._hot[delivery.step] = None
        elif delivery.status == PARKED:
            self.parked -= 1
        elif delivery.status == READY:
            self.queues[delivery.step].remove(delivery)

    def _drop_effects(self, delivery: Delivery) -> None:
        if self.journal is not None and delivery.effects:
            for page in range(-(-len(delivery.effects) // EFFECT_PAGE_BYTES)):
                self.journal.touch(f"x/{delivery.id}/{page}")

    def _kill(self, execution: Execution) -> None:
        """Abandon an execution: its calls raise from now on, its task is cancelled."""
        execution.dead = True
        execution.delivery.execution = None
        if execution.timer is not None:
            self._timers.cancel(execution.timer)
            execution.timer = None
        if execution.lent and self.journal is not None:
            for key in execution.lent:
                self.journal.touch(f"s/{key}")
        # What still waits in this attempt is told, so that no task or thread of it hangs.
        step = execution.delivery.step
        if execution.delivery.waiters:
            for waiter in execution.delivery.waiters:
                if waiter.notify is not None:
                    self.resumed.append((waiter.notify, _dead(step)))
                    waiter.notify = None
        if execution.settled:
            self.resumed += [(notify, _dead(step)) for notify, _ in execution.settled]
            execution.settled = []
        if execution.cancel is not None:
            execution.cancel()
            execution.cancel = None

    def _forget(self, waiter: Waiter) -> None:
        self.waits.remove(waiter)
        if waiter.timer is not None:
            self._timers.cancel(waiter.timer)
            waiter.timer = None
        self._touch_waiter(waiter)

    def _stop_attempt_clock(self, execution: Execution) -> None:
        """Stop the clock of the step's timeout: a step that waits takes no time."""
        if execution.timer is not None:
            execution.remaining = max(0.0, execution.timer.due - self.clock.now())
            self._timers.cancel(execution.timer)
            execution.timer = None

    # -- the journal --------------------------------------------------------------------------------------------------

    def touch_delivery(self, delivery: Delivery) -> None:
        """Note that a delivery's part of the snapshot changed."""
        if self.journal is not None:
            self.journal.touch(f"d/{delivery.id}")

    def touch_head(self) -> None:
        """Note that the head of the snapshot changed."""
        if self.journal is not None:
            self.journal.touch("h")

    def _touch_waiter(self, waiter: Waiter) -> None:
        if self.journal is not None and waiter.delivery is not None:
            self.journal.touch(f"w/{waiter.number}")


def finite(seconds: float | None) -> float | None:
    """Return None for infinity: what never falls due."""
    return None if seconds is None or math.isinf(seconds) else seconds


def _dead(step: str) -> DeadAttemptError:
    return DeadAttemptError(f"step '{step}' goes on after its attempt was abandoned")


@lru_cache(maxsize=1024)
def _hasher(call: str, event_type: type[Event]) -> hashlib.blake2b:
    """Return what has hashed the kind of an effect, to go on with its data."""
    return hashlib.blake2b(f"{call} {event_type.__name__} ".encode(), digest_size=EFFECT_SIZE)


@lru_cache(maxsize=1024)
def _kind_digest(call: str, event_type: type[Event]) -> bytes:
    """Return the digest of the kind of an effect."""
    text = f"{call} {event_type.__module__}.{event_type.__qualname__}".encode()
    return hashlib.blake2b(text, digest_size=EFFECT_SIZE).digest()
