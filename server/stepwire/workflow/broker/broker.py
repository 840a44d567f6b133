"""The broker: the state of one run and its transitions.

Every method is a plain synchronous transition, so a snapshot taken between two of them is consistent. Nothing here
awaits, starts a task or looks at the world: the runner does that.
"""

from __future__ import annotations

from collections.abc import Sequence

from stepwire.workflow.broker.broker_core import (
    CANCELLED,
    COMPLETED,
    ENDED_TIMED_OUT,
    FAILED,
    Outcome,
    Receipt,
    finite,
    result_of,
)
from stepwire.workflow.broker.broker_waits import WaitingBroker
from stepwire.workflow.broker.delivery import (
    BACKOFF,
    MAX_LOST_EXECUTIONS,
    QUEUED,
    RUNNING,
    TIMED_OUT,
    Delivery,
    Execution,
    Waiter,
)
from stepwire.workflow.broker.journal import RECEIVED, SENT, STREAM, TERMINAL
from stepwire.workflow.broker.stream import EventStream
from stepwire.workflow.errors import (
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

__all__ = ["CANCELLED", "COMPLETED", "ENDED_TIMED_OUT", "FAILED", "Broker", "Outcome", "Receipt", "result_of"]


class Broker(WaitingBroker):
    """Change what a run is, by whole transitions only: its life, its events, its executions, its time."""

    __slots__ = ()

    # -- life of the run ----------------------------------------------------------------------------------------------

    def begin(self, event: Event | None, timeout: float | None) -> Receipt | None:
        """Start the run, or start anew after an earlier one has ended; the state and buffers stay (S16)."""
        if self.outcome is not None:
            self.prepare()
        self.started = True
        self.set_timeout(timeout)
        self.touch_head()
        return None if event is None else self.accept(event, kind=RECEIVED)

    def prepare(self) -> None:
        """Make ready for a new run after one has ended: a new stream, the old state and buffers (S16)."""
        self.outcome = None
        self.started = False
        self.stream = EventStream()
        self.sequence = 0
        self.asked = False
        self.untaken = ""

    def end(
        self,
        status: str,
        event: StopEvent,
        error: BaseException | None = None,
        *,
        step: str = "",
        encoded: bytes | None = None,
    ) -> None:
        """End the run: one terminal entry, every execution dead, nothing queued or waiting any more.

        `step` is the step that gave the event, when one did; `encoded` is the event as a snapshot holds it, if known.
        A run whose state was damaged in place so that it cannot be saved does not complete: it fails.
        """
        if self.outcome is not None:
            return
        if self.journal is None:
            self.sequence += 1
            self.stream.append(event, last=True)
        else:
            if status == COMPLETED and (damaged := self.encode_state()[1]):
                status, event, error = _damage(damaged)
                encoded = None
            data = self.journal.wire(event)
            self.sequence += 1
            self.journal.log(self.sequence, self.clock.now(), TERMINAL, event, data, step, 0)
        self.outcome = Outcome(status, event, error, encoded)
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

    def leave(self) -> None:
        """Cut what refers back, of a run that has left memory: it is freed without a collection of garbage."""
        if self.journal is not None:
            self.journal.leave()
        for waiter in list(self.waits):
            self.waits.remove(waiter)
            waiter.timer = None
        for delivery in self.deliveries.values():
            delivery.timer = None

    def _clear(self) -> None:
        self.cut_off = bool(self.executions)
        if self.executions:
            for execution in list(self.executions.values()):
                self._kill(execution)
            self.executions.clear()
        if self.deliveries:
            for delivery in list(self.deliveries.values()):
                self._drop(delivery)
            for queue in self.queues.values():
                queue.clear()
        self.parked = 0
        self._hot.clear()
        if self.waits:
            for waiter in list(self.waits):
                self._forget(waiter)
                if waiter.notify is not None and waiter.delivery is None:
                    self.resumed.append((waiter.notify, RunEndedError("the run has ended")))
        self._timers.clear()
        self.due = self.remaining = None

    def encode_state(self) -> tuple[dict[str, bytes], list[str]]:
        """Return the changed parts of the state, encoded, and the keys that were damaged in place."""
        assert self.journal is not None
        for execution in self.executions.values():
            for key in execution.lent or ():
                self.journal.dirty[f"s/{key}"] = None
        return self.journal.encode_state(self.store.values(), self.store.own_json)

    def fail_damaged(self, keys: list[str]) -> None:
        """Fail the run because values of its state cannot be saved any more."""
        self.end(*_damage(keys))

    # -- events -------------------------------------------------------------------------------------------------------

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
            if not config.accepts(cls):
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
            self.end(COMPLETED, event, step=source, encoded=encoded)
            return Receipt(self.sequence, 1)
        self.sequence += 1
        sequence = self.sequence
        if isinstance(event, InputRequiredEvent):
            self.asked = True
            kind = STREAM
            if self.journal is None:
                self.stream.append(event)
        matching = self.waits.matching(event) if to_waiters and self.waits else ()
        for name in targets:
            self._enqueue(name, event, encoded)
        delivered = len(targets) + len(matching)
        if not delivered and kind != STREAM:
            self.untaken = type(event).__name__
        if self.journal is not None:
            self.journal.log(sequence, self.clock.now(), kind, event, data, source, delivered)
        for waiter in matching:
            self._settle(waiter, event)
        return Receipt(sequence, delivered)

    def _enqueue(self, name: str, event: Event, encoded: bytes | None) -> Delivery:
        self.delivery_ids += 1
        delivery = Delivery(self.delivery_ids, name, event, self.sequence, encoded)
        self.deliveries[delivery.id] = delivery
        self.queues[name].append(delivery)
        self._hot[name] = None
        if self.journal is not None:
            self.touch_delivery(delivery)
        return delivery

    # -- executions ---------------------------------------------------------------------------------------------------

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
            if self.journal is not None:
                self.touch_delivery(delivery)
            execution = delivery.execution
            if execution is None:
                delivery.attempt += 1
                if delivery.first_started is None:
                    delivery.first_started = self.clock.now()
                execution = Execution(self, delivery)
                delivery.execution = execution
                self.executions[delivery.id] = execution
                timeout = self.routing.steps[delivery.step].timeout
                if timeout is not None:
                    execution.remaining = timeout
                    self._start_attempt_clock(execution)
                return execution
            self._start_attempt_clock(execution)
            self.resumed += execution.settled
            execution.settled = []
        return None

    def look_again(self) -> None:
        """Have `start_next` look at every queue, also those that it passed over with `again_only`."""
        self._hot = {name: None for name, queue in self.queues.items() if len(queue)}

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
            for waiter in list(delivery.waiters):
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

    # -- time ---------------------------------------------------------------------------------------------------------

    @property
    def active(self) -> int:
        """How many deliveries are queued, running, ready or in back-off."""
        return len(self.deliveries) - self.parked

    @property
    def waiting_outside(self) -> bool:
        """Whether nothing is left to do before outside input arrives; a durable sleep waits for none."""
        return self.active == 0 and (self.asked or self.waits.outside)

    def set_timeout(self, timeout: float | None) -> None:
        """Give the run so many seconds from now on; None or infinity: no end."""
        self.timeout = self.remaining = finite(timeout)
        self.due = None

    def tick(self) -> None:
        """Start or stop the run's clock as S14 says; called after each batch of transitions."""
        if self.timeout is None or self.outcome is not None or not self.started:
            return
        stop = self.pausing and self.waiting_outside
        if stop and self.due is not None:
            self.remaining = max(0.0, self.due - self.clock.now())
            self.due = None
            self.touch_head()
        elif not stop and self.due is None and self.remaining is not None:
            self.due = self.clock.now() + self.remaining
            self.remaining = None
            self.touch_head()

    def _start_attempt_clock(self, execution: Execution) -> None:
        if execution.remaining is not None:
            execution.timer = self._timers.add(self.clock.now() + execution.remaining, execution)

    def next_due(self) -> float | None:
        """Return when something falls due next."""
        due, run_due = self._timers.next_due(), self.due
        return run_due if due is None or (run_due is not None and run_due < due) else due

    def expire(self) -> list[Execution]:
        """Do what is due: back-offs end, waits and the run time out. Return executions over their step's timeout."""
        late: list[Execution] = []
        now, run_due = self.clock.now(), self.due
        is_late = run_due is not None and run_due <= now
        for item in self._timers.pop_due(run_due if run_due is not None and is_late else now):
            if self.outcome is not None:
                break
            if isinstance(item, Delivery):
                item.due = item.timer = None
                item.status = QUEUED
                self._push(item)
                self.touch_delivery(item)
            elif isinstance(item, Waiter):
                self._settle(item, TIMED_OUT)
            else:
                late.append(item)
        if is_late and self.outcome is None:
            self._time_out()
        return late

    def _time_out(self) -> None:
        assert self.timeout is not None
        steps = sorted({execution.delivery.step for execution in self.executions.values()})
        event = WorkflowTimedOutEvent(timeout=self.timeout, active_steps=steps)
        self.end(ENDED_TIMED_OUT, event)

    # -- restoring ----------------------------------------------------------------------------------------------------

    def arm(self, due: float, item: Delivery | Waiter) -> None:
        """Set the timer of a restored delivery or waiter."""
        item.timer = self._timers.add(due, item)

    def requeue(self, delivery: Delivery) -> None:
        """Queue a restored delivery."""
        self._push(delivery)


def _damage(keys: list[str]) -> tuple[str, StopEvent, Exception]:
    """Return the end of a run whose state cannot be saved any more."""
    error = SerializationError(f"The state cannot be saved any more: {', '.join(sorted(keys))}", keys=keys)
    event = WorkflowFailedEvent(step=None, error_type="SerializationError", message=str(error), attempts=0)
    return FAILED, event, error
