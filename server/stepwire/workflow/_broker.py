"""The broker: the state of one run and its transitions.

Every method is a plain synchronous transition, so a snapshot taken between two of them is consistent. Nothing here
awaits, starts a task or looks at the world: the runner does that.
"""

from __future__ import annotations

import hashlib
import heapq
import math
from collections import Counter
from collections.abc import Sequence
from typing import Any, Final, NamedTuple

from stepwire.workflow._buffers import Buffers, default_buffer_id
from stepwire.workflow._clock import CLOCK, Clock, Timer, TimerQueue
from stepwire.workflow._delivery import (
    BACKOFF,
    EFFECT_PAGE,
    EFFECT_SIZE,
    MAX_LOST_EXECUTIONS,
    PARKED,
    QUEUED,
    READY,
    RUNNING,
    TIMED_OUT,
    Answer,
    Buffered,
    Delivery,
    Execution,
    Notify,
    StepQueue,
    Waiter,
    has_fields,
)
from stepwire.workflow._journal import RECEIVED, SENT, STREAM, TERMINAL, Journal
from stepwire.workflow._routing import Routing, accepts
from stepwire.workflow._stream import EventStream
from stepwire.workflow._waits import Waits
from stepwire.workflow.context.state_store import InMemoryStateStore
from stepwire.workflow.errors import (
    DeadAttemptError,
    RunEndedError,
    SerializationError,
    StepDoesNotAcceptError,
    UnknownStepError,
)
from stepwire.workflow.events import (
    Event,
    InputRequiredEvent,
    StepFailedEvent,
    StopEvent,
    WorkflowFailedEvent,
    WorkflowTimedOutEvent,
)

COMPLETED: Final = "completed"
FAILED: Final = "failed"
CANCELLED: Final = "cancelled"
ENDED_TIMED_OUT: Final = "timed_out"


class Receipt(NamedTuple):
    """What became of an event: its place in the log, and how many deliveries and waiters took it."""

    sequence: int
    delivered: int


class Outcome(NamedTuple):
    """How a run ended: one of the four terminal statuses, its terminal event, and the error in process."""

    status: str
    event: StopEvent
    error: BaseException | None


class _RunTimeout:
    """The timer item of the run's own timeout."""


_RUN_TIMEOUT: Final = _RunTimeout()


class Broker:
    """Hold what a run is, and change it only by whole transitions.

    With a journal, every transition notes which parts of the snapshot it changed and what goes to the log; without
    one, public events go to `stream` and nothing is encoded. `pausing` makes the run's clock stop while it only waits
    for outside input (S14).
    """

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
        self.queues = {name: StepQueue(name, config.num_workers) for name, config in routing.steps.items()}
        self.deliveries: dict[int, Delivery] = {}
        self.executions: dict[int, Execution] = {}
        self.parked = 0
        self.buffers = Buffers()
        self.waits = Waits()
        self.stream = EventStream()
        self.outcome: Outcome | None = None
        self.started = False
        self.frozen = False
        self.asked = False
        """An InputRequiredEvent went out since the last outside event."""
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
        self._timers: TimerQueue[Any] = TimerQueue()
        self._run_timer: Timer[Any] | None = None
        self._hot: dict[str, None] = {}
        self._digests: dict[tuple[str, str, type[Event]], bytes] = {}

    # -- life of the run ------------------------------------------------------------------------------------------

    def begin(self, event: Event | None, timeout: float | None) -> Receipt | None:
        """Start the run, or start anew after an earlier one has ended; the state and buffers stay (S16)."""
        if self.outcome is not None:
            self.prepare()
        self.started = True
        self.set_timeout(timeout)
        self.touch_head()
        receipt = None if event is None else self.accept(event, kind=RECEIVED)
        self.tick()
        return receipt

    def set_timeout(self, timeout: float | None) -> None:
        """Give the run so many seconds from now on; None or infinity: no end."""
        self.timeout = self.remaining = _finite(timeout)
        self._stop_clock()
        self.due = None

    def prepare(self) -> None:
        """Make ready for a new run after one has ended: a new stream, the old state and buffers (S16)."""
        self.outcome = None
        self.started = False
        self.stream = EventStream()
        self.sequence = 0
        self.asked = False

    def end(self, status: str, event: StopEvent, error: BaseException | None = None, *, step: str = "") -> None:
        """End the run: one terminal entry, every execution dead, nothing queued or waiting any more.

        `step` is the step that gave the event, when one did. A run whose state was damaged in place so that it cannot be saved does not complete: it fails.
        """
        if self.outcome is not None:
            return
        if self.journal is None:
            self.sequence += 1
            self.stream.append(event, last=True)
        else:
            if status == COMPLETED and (damaged := self.encode_state()[1]):
                status, event, error = _damage(damaged)
            data = self.journal.wire(event)
            self.sequence += 1
            self.journal.log(self.sequence, self.clock.now(), TERMINAL, event, data, step, 0)
        self.outcome = Outcome(status, event, error)
        self._clear()
        self.touch_head()

    def freeze(self) -> None:
        """Stop for good without ending: executions die, what they worked on stays to be run again."""
        self.frozen = True
        for execution in list(self.executions.values()):
            delivery = execution.delivery
            self._kill(execution)
            if delivery.status == RUNNING:
                delivery.status = QUEUED
                self.touch_delivery(delivery)
        self.executions.clear()

    def encode_state(self) -> tuple[dict[str, bytes], list[str]]:
        """Return the changed parts of the state, encoded, and the keys that were damaged in place."""
        assert self.journal is not None
        for execution in self.executions.values():
            for key in execution.lent or ():
                self.journal.dirty[f"s/{key}"] = None
        return self.journal.encode_state(self.store.values())

    def fail_damaged(self, keys: list[str]) -> None:
        """Fail the run because values of its state cannot be saved any more."""
        self.end(*_damage(keys))

    def _clear(self) -> None:
        for execution in list(self.executions.values()):
            self._kill(execution)
        self.executions.clear()
        for delivery in list(self.deliveries.values()):
            self._drop(delivery)
        for queue in self.queues.values():
            queue.fresh.clear()
            queue.again.clear()
            queue.running = 0
        self.parked = 0
        self._hot.clear()
        for waiter in list(self.waits):
            self._forget(waiter)
            if waiter.notify is not None and waiter.delivery is None:
                self.resumed.append((waiter.notify, RunEndedError("the run has ended")))
        self._timers = TimerQueue()
        self._run_timer = None
        self.due = self.remaining = None

    # -- events ---------------------------------------------------------------------------------------------------

    def accept(
        self,
        event: Event,
        step: str | None = None,
        execution: Execution | None = None,
        kind: int = SENT,
        source: str = "",
    ) -> Receipt:
        """Take an event for the steps and waiters that want it, or for one step.

        Raises UnknownStepError, StepDoesNotAcceptError, RunEndedError, DeadAttemptError, or SerializationError when
        a journal is kept and the event cannot be saved; then nothing has changed.
        """
        self.check(execution)
        cls = type(event)
        if step is None:
            targets = self.routing.targets(cls)
        else:
            config = self.routing.steps.get(step)
            if config is None:
                raise UnknownStepError(f"Step {step} does not exist", step=step)
            if not accepts(config, cls):
                raise StepDoesNotAcceptError(f"Step {step} does not accept event of type {cls.__name__}", step=step)
            targets = (step,)
        data, encoded = self._encode(event, targets)
        if execution is not None:
            source = execution.delivery.step
            if self._repeated(execution, f"send {step or ''}", event, data):
                return Receipt(0, 0)
        elif kind == RECEIVED:
            self.asked = False
        return self._take(event, kind, source, targets, data, encoded, to_waiters=step is None)

    def _encode(self, event: Event, targets: Sequence[str]) -> tuple[bytes, bytes | None]:
        """Return the event for the log and, when something will keep it, for the snapshot."""
        if self.journal is None:
            return b"", None
        data = self.journal.wire(event)
        if targets or isinstance(event, StopEvent) or self.waits.expects(type(event)):
            return data, self.journal.encode(event)
        return data, None

    def _take(
        self,
        event: Event,
        kind: int,
        source: str,
        targets: Sequence[str],
        data: bytes,
        encoded: bytes | None,
        *,
        to_waiters: bool = True,
    ) -> Receipt:
        """Take an event that may be taken and can be saved."""
        if isinstance(event, StopEvent):
            self.end(COMPLETED, event, step=source)
            return Receipt(self.sequence, 1)
        self.sequence += 1
        sequence = self.sequence
        if isinstance(event, InputRequiredEvent):
            self.asked = True
            kind = STREAM
            if self.journal is None:
                self.stream.append(event)
        matching = self.waits.matching(event) if to_waiters and len(self.waits) else ()
        for name in targets:
            self._enqueue(name, event, encoded)
        delivered = len(targets) + len(matching)
        if self.journal is not None:
            self.journal.log(sequence, self.clock.now(), kind, event, data, source, delivered)
        for waiter in matching:
            self._settle(waiter, event)
        return Receipt(sequence, delivered)

    def write(self, event: Event, execution: Execution | None = None, source: str = "") -> Receipt:
        """Write an event to the stream. Errors as `accept`."""
        self.check(execution)
        if self.journal is None:
            if execution is not None and self._repeated(execution, "write", event, b""):
                return Receipt(0, 0)
            self.sequence += 1
            self.stream.append(event)
        else:
            data = self.journal.wire(event)
            if execution is not None:
                source = execution.delivery.step
                if self._repeated(execution, "write", event, data):
                    return Receipt(0, 0)
            self.sequence += 1
            self.journal.log(self.sequence, self.clock.now(), STREAM, event, data, source, 0)
        if isinstance(event, InputRequiredEvent):
            self.asked = True
        return Receipt(self.sequence, 0)

    def _enqueue(self, name: str, event: Event, encoded: bytes | None) -> Delivery:
        self.delivery_ids += 1
        delivery = Delivery(self.delivery_ids, name, event, self.sequence, encoded)
        self.deliveries[delivery.id] = delivery
        self._push(delivery)
        self.touch_delivery(delivery)
        return delivery

    def check(self, execution: Execution | None) -> None:
        """Raise DeadAttemptError or RunEndedError when a call may not change the run any more."""
        if execution is not None and execution.dead:
            raise _dead(execution.delivery.step)
        if self.outcome is not None:
            raise RunEndedError(f"the run has ended: {self.outcome.status}")
        if self.frozen:
            raise RunEndedError("the run is not in memory any more")

    def _repeated(self, execution: Execution, call: str, event: Event, data: bytes) -> bool:
        """Note a send or write in the ledger; True when an earlier execution made the same one."""
        if self.journal is not None:
            text = f"{call} {type(event).__name__} ".encode() + data
            digest = hashlib.blake2b(text, digest_size=EFFECT_SIZE).digest()
        else:
            # In process only the kind of call is noted: it costs no encoding, and a restored context repeats the
            # same calls in the same order.
            key = (call, "", type(event))
            found = self._digests.get(key)
            if found is None:
                text = f"{call} {type(event).__module__}.{type(event).__qualname__}".encode()
                found = hashlib.blake2b(text, digest_size=EFFECT_SIZE).digest()
                self._digests[key] = found
            digest = found
        replay = execution.replay
        if replay is not None and replay[digest] > 0:
            replay[digest] -= 1
            return True
        delivery = execution.delivery
        if delivery.effects is None:
            delivery.effects = bytearray()
        if self.journal is not None:
            page = len(delivery.effects) // (EFFECT_SIZE * EFFECT_PAGE)
            self.journal.touch(f"x/{delivery.id}/{page}")
        delivery.effects += digest
        return False

    # -- executions -----------------------------------------------------------------------------------------------

    def start_next(self, again_only: bool = False) -> Execution | None:
        """Start the next delivery that has a worker, in order; None when there is none.

        A delivery whose body was only parked goes on: its answers move to `resumed`. `again_only` takes none that
        never started.
        """
        while self._hot:
            name = next(iter(self._hot))
            queue = self.queues[name]
            delivery = queue.pop(again_only)
            if delivery is None:
                del self._hot[name]
                continue
            queue.running += 1
            delivery.status = RUNNING
            self.touch_delivery(delivery)
            execution = delivery.execution
            if execution is None:
                delivery.attempt += 1
                if delivery.first_started is None:
                    delivery.first_started = self.clock.now()
                execution = Execution(self, delivery)
                delivery.execution = execution
                self.executions[delivery.id] = execution
                execution.remaining = self.routing.steps[delivery.step].timeout
                self._start_attempt_clock(execution)
                return execution
            self._start_attempt_clock(execution)
            self.resumed += execution.settled
            execution.settled = []
        return None

    def finish(self, execution: Execution, outputs: Sequence[Event]) -> list[Receipt]:
        """Finish a delivery and take what its step returned, in one transition."""
        self.check(execution)
        encoded = []
        for event in outputs:
            targets = self.routing.targets(type(event))
            encoded.append((event, targets, *self._encode(event, targets)))
        step = execution.delivery.step
        execution.finished = True
        self._retire(execution)
        receipts: list[Receipt] = []
        for event, targets, data, saved in encoded:
            if self.outcome is None:
                receipts.append(self._take(event, SENT, step, targets, data, saved))
        return receipts

    def retry(self, execution: Execution, delay: float) -> None:
        """Note a failure and run the delivery again after `delay` seconds (S2)."""
        self.check(execution)
        delivery = execution.delivery
        delivery.failures += 1
        self._release_worker(delivery)
        self._kill(execution)
        self.executions.pop(delivery.id, None)
        self._drop_effects(delivery)
        delivery.effects = None
        if delay <= 0:
            delivery.status = QUEUED
            self._push(delivery)
        else:
            delivery.status = BACKOFF
            delivery.due = self.clock.now() + delay
            delivery.timer = self._timers.add(delivery.due, delivery)
        self.touch_delivery(delivery)

    def lose(self, execution: Execution) -> None:
        """Note an execution that was lost though the process lives; it runs again as after a crash."""
        delivery = execution.delivery
        self._release_worker(delivery)
        self._kill(execution)
        self.executions.pop(delivery.id, None)
        delivery.lost += 1
        delivery.status = QUEUED
        if delivery.lost >= MAX_LOST_EXECUTIONS:
            self.poisoned.append(delivery)
        else:
            self._push(delivery)
        self.touch_delivery(delivery)

    def fail(self, delivery: Delivery, event: StepFailedEvent, catcher: str) -> None:
        """Give a delivery up and hand its failure to the step that catches it."""
        if delivery.execution is not None:
            self.check(delivery.execution)
            self._retire(delivery.execution)
        else:
            self._drop(delivery)
        self.accept(event, step=catcher, source=delivery.step)

    def _retire(self, execution: Execution) -> None:
        """Take a delivery that is through out of the run."""
        delivery = execution.delivery
        self._release_worker(delivery)
        self._kill(execution)
        self.executions.pop(delivery.id, None)
        self._drop(delivery)

    def _drop(self, delivery: Delivery) -> None:
        self.deliveries.pop(delivery.id, None)
        if delivery.timer is not None:
            self._timers.cancel(delivery.timer)
        if delivery.waiters:
            for waiter in list(delivery.waiters.values()):
                self._forget(waiter)
        if self.journal is not None:
            self.touch_delivery(delivery)
            self._drop_effects(delivery)
        if delivery.ledger is not None:
            if self.journal is not None:
                for number in range(len(delivery.ledger.answers)):
                    self.journal.touch(f"a/{delivery.id}/{number}")
            if delivery.ledger.collects:
                self._consume(delivery.collected())

    def _consume(self, items: Sequence[Buffered]) -> None:
        """Take collected events out of the run for good."""
        self.buffers.drop(items)
        if self.journal is not None:
            for item in items:
                self.journal.touch(f"b/{item.number}")

    def _drop_effects(self, delivery: Delivery) -> None:
        if self.journal is not None and delivery.effects:
            for page in range(-(-len(delivery.effects) // (EFFECT_SIZE * EFFECT_PAGE))):
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
            for waiter in execution.delivery.waiters.values():
                if waiter.notify is not None:
                    self.resumed.append((waiter.notify, _dead(step)))
                    waiter.notify = None
        if execution.settled:
            self.resumed += [(notify, _dead(step)) for notify, _ in execution.settled]
            execution.settled = []
        if execution.cancel is not None:
            execution.cancel()
            execution.cancel = None

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
            again = self.queues[delivery.step].again
            again.remove(delivery)
            heapq.heapify(again)

    # -- collecting -----------------------------------------------------------------------------------------------

    def collect(
        self,
        event: Event,
        expected: Sequence[type[Event]],
        buffer_id: str | None,
        execution: Execution | None,
    ) -> list[Event] | None:
        """Add an event to a buffer; give the expected ones once all are there (S8)."""
        if execution is not None:
            self.check(execution)
        elif self.frozen:
            self.check(None)
        step = "" if execution is None else execution.delivery.step
        key = buffer_id if buffer_id is not None else default_buffer_id(step, expected)
        ledger = None
        if execution is not None:
            if execution.collects is None:
                execution.collects = Counter()
            nth = execution.collects[key]
            execution.collects[key] += 1
            ledger = execution.delivery.ensure_ledger().collects.setdefault(key, [])
            if nth < len(ledger):
                known = ledger[nth]
                if known is None:
                    return None
                if [type(item.event) for item in known] == list(expected):
                    return [item.event for item in known]
                # A call that differs is new: what this and later calls took is there again.
                self.buffers.put_back(item for items in ledger[nth:] for item in items or ())
                del ledger[nth:]
        encoded = None if self.journal is None else self.journal.encode(event)
        self.numbers += 1
        item = Buffered(self.numbers, key, event, encoded)
        self.buffers.add(item)
        taken = self.buffers.take(key, expected)
        if self.journal is not None:
            self.journal.touch(f"b/{item.number}")
        if execution is None and taken:
            self._consume(taken)
        if ledger is not None and execution is not None:
            ledger.append(taken)
            self.touch_delivery(execution.delivery)
        return None if taken is None else [item.event for item in taken]

    # -- waiting --------------------------------------------------------------------------------------------------

    def wait(
        self,
        execution: Execution | None,
        waiter_id: str,
        event_type: type[Event] | None,
        requirements: dict[str, Any],
        prompt: Event | None,
        timeout: float | None,
    ) -> Answer | Waiter:
        """Open a waiter, take up the one that an earlier execution opened, or give the recorded answer.

        A call that differs from the one of the earlier execution is new. SerializationError when a journal is kept
        and the wait cannot be saved; then nothing has changed.
        """
        self.check(execution)
        if self.journal is not None:
            self.journal.check_wait(event_type, requirements, prompt)
        delivery = None
        nth = 0
        if execution is not None:
            delivery = execution.delivery
            if execution.waits is None:
                execution.waits = Counter()
            nth = execution.waits[waiter_id]
            answers = delivery.ledger.waits.get(waiter_id) if delivery.ledger else None
            if answers is not None and nth in answers and _fits(answers[nth], event_type, requirements):
                execution.waits[waiter_id] += 1
                return answers[nth]
            for waiter in list((delivery.waiters or {}).values()):
                if waiter.id == waiter_id and waiter.index == nth and waiter.notify is None:
                    if waiter.event_type is not event_type or waiter.requirements != requirements:
                        self._forget(waiter)
                        break
                    execution.waits[waiter_id] += 1
                    if prompt is not None and not self.waits.prompted(waiter_id, prompt):
                        self._prompt(prompt, delivery.step)
                        waiter.prompt = prompt
                        self._touch_waiter(waiter)
                    self._park(execution)
                    return waiter
        if prompt is not None and not self.waits.prompted(waiter_id, prompt):
            self._prompt(prompt, "" if delivery is None else delivery.step)
        if execution is not None and execution.waits is not None:
            execution.waits[waiter_id] += 1
        self.numbers += 1
        timeout = _finite(timeout)
        due = None if timeout is None else self.clock.now() + timeout
        waiter = Waiter(self.numbers, waiter_id, event_type, requirements, prompt, due, delivery, nth)
        if due is not None:
            waiter.timer = self._timers.add(due, waiter)
        self.waits.add(waiter)
        self._touch_waiter(waiter)
        if execution is not None:
            self._park(execution)
        return waiter

    def _prompt(self, prompt: Event, source: str) -> None:
        self.write(prompt, source=source)

    def _park(self, execution: Execution) -> None:
        """Give the worker back while at least one wait of the execution is open (S11)."""
        execution.open_waits += 1
        delivery = execution.delivery
        if delivery.status == RUNNING:
            self._release_worker(delivery)
            self._stop_attempt_clock(execution)
            delivery.status = PARKED
            self.parked += 1
            self.touch_delivery(delivery)

    def _settle(self, waiter: Waiter, answer: Answer) -> None:
        """End a wait with its answer: into the ledger first, then to the body when it gets a worker."""
        self._forget(waiter)
        delivery = waiter.delivery
        if delivery is None:
            if waiter.notify is not None:
                self.resumed.append((waiter.notify, answer))
            return
        number = delivery.ensure_ledger().answer(waiter.id, waiter.index, answer)
        if self.journal is not None:
            self.journal.touch(f"a/{delivery.id}/{number}")
        self.touch_delivery(delivery)
        execution = delivery.execution
        if execution is None:
            if delivery.status == PARKED:
                self._unpark(delivery)
            return
        if waiter.notify is None:
            return  # opened by an earlier execution; this one has not come to it
        execution.open_waits -= 1
        if delivery.status == RUNNING or (delivery.status == PARKED and execution.open_waits):
            self.resumed.append((waiter.notify, answer))
        else:
            execution.settled.append((waiter.notify, answer))
            if delivery.status == PARKED:
                self._unpark(delivery)

    def _unpark(self, delivery: Delivery) -> None:
        self.parked -= 1
        delivery.status = READY
        self._push(delivery)

    def abandon(self, waiter: Waiter, execution: Execution | None, notify: Notify) -> bool:
        """Remove a waiter whose await was cancelled; True when `notify` will tell that a worker is back."""
        is_open = self.waits.get(waiter.number) is not None
        if execution is None:
            if is_open:
                self._forget(waiter)
            return False
        if execution.dead:
            return False
        delivery = execution.delivery
        if is_open:
            self._forget(waiter)
            execution.open_waits -= 1
            if delivery.status == PARKED and execution.open_waits == 0:
                self._unpark(delivery)
        if delivery.status == READY:
            execution.settled.append((notify, TIMED_OUT))
            return True
        return False

    def _forget(self, waiter: Waiter) -> None:
        self.waits.remove(waiter)
        if waiter.timer is not None:
            self._timers.cancel(waiter.timer)
            waiter.timer = None
        self._touch_waiter(waiter)

    # -- time -----------------------------------------------------------------------------------------------------

    @property
    def active(self) -> int:
        """How many deliveries are queued, running, ready or in back-off."""
        return len(self.deliveries) - self.parked

    @property
    def waiting_outside(self) -> bool:
        """Whether nothing is left to do before outside input arrives; a durable sleep waits for none."""
        return self.active == 0 and (self.asked or self.waits.outside)

    def tick(self) -> None:
        """Start or stop the run's clock as S14 says; called after each batch of transitions."""
        if self.timeout is None or self.outcome is not None or not self.started:
            return
        stop = self.pausing and self.waiting_outside
        if stop and self.due is not None:
            self.remaining = max(0.0, self.due - self.clock.now())
            self.due = None
            self._stop_clock()
            self.touch_head()
        elif not stop and self.due is None and self.remaining is not None:
            self.due = self.clock.now() + self.remaining
            self._run_timer = self._timers.add(self.due, _RUN_TIMEOUT)
            self.remaining = None
            self.touch_head()

    def _stop_clock(self) -> None:
        if self._run_timer is not None:
            self._timers.cancel(self._run_timer)
            self._run_timer = None

    def _start_attempt_clock(self, execution: Execution) -> None:
        if execution.remaining is not None:
            execution.timer = self._timers.add(self.clock.now() + execution.remaining, execution)

    def _stop_attempt_clock(self, execution: Execution) -> None:
        """Stop the clock of the step's timeout: a step that waits takes no time."""
        if execution.timer is not None:
            execution.remaining = max(0.0, execution.timer.due - self.clock.now())
            self._timers.cancel(execution.timer)
            execution.timer = None

    def next_due(self) -> float | None:
        """Return when something falls due next."""
        return self._timers.next_due()

    def expire(self) -> list[Execution]:
        """Do what is due: back-offs end, waits and the run time out. Return executions over their step's timeout."""
        late: list[Execution] = []
        for item in self._timers.pop_due(self.clock.now()):
            if self.outcome is not None:
                break
            if isinstance(item, Delivery):
                item.due = item.timer = None
                item.status = QUEUED
                self._push(item)
                self.touch_delivery(item)
            elif isinstance(item, Waiter):
                self._settle(item, TIMED_OUT)
            elif isinstance(item, Execution):
                late.append(item)
            else:
                self._time_out()
        return late

    def _time_out(self) -> None:
        assert self.timeout is not None
        steps = sorted({execution.delivery.step for execution in self.executions.values()})
        event = WorkflowTimedOutEvent(timeout=self.timeout, active_steps=steps)
        self.end(ENDED_TIMED_OUT, event)

    def arm(self, due: float, item: Delivery | Waiter) -> None:
        """Set the timer of a restored delivery or waiter."""
        item.timer = self._timers.add(due, item)

    def arm_run(self) -> None:
        """Set the timer of the run after a restore."""
        if self.due is not None:
            self._run_timer = self._timers.add(self.due, _RUN_TIMEOUT)

    def requeue(self, delivery: Delivery) -> None:
        """Queue a restored delivery."""
        self._push(delivery)

    # -- the journal ----------------------------------------------------------------------------------------------

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


def _finite(seconds: float | None) -> float | None:
    return None if seconds is None or math.isinf(seconds) else seconds


def _dead(step: str) -> DeadAttemptError:
    return DeadAttemptError(f"step '{step}' goes on after its attempt was abandoned")


def _damage(keys: list[str]) -> tuple[str, StopEvent, Exception]:
    """Return the end of a run whose state cannot be saved any more."""
    error = SerializationError(f"The state cannot be saved any more: {', '.join(sorted(keys))}", keys=keys)
    event = WorkflowFailedEvent(step=None, error_type="SerializationError", message=str(error), attempts=0)
    return FAILED, event, error


def _fits(answer: Answer, event_type: type[Event] | None, requirements: dict[str, Any]) -> bool:
    """Tell whether a recorded answer is one to this wait; a deadline fits all."""
    if not isinstance(answer, Event):
        return True
    return type(answer) is event_type and has_fields(answer, requirements)
