"""The broker: the data of one run and its transitions.

Every method is a plain synchronous transition, so a snapshot taken between two of them is consistent. Nothing here
awaits, starts a task or looks at the world: the runner does that.

The parts, each with an interface of its own: `work` (deliveries and the attempts at them), `queue` (those that wait for
a worker), `waits` (open waiters), `buffers` (collected events), `ledger` (what calls got), `timers` and `clock` (time),
`stream` and `journal` (what happened, for readers in process and for a host), `outcome` (how the run ended), `parts`
(the keys of the snapshot).
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Sequence
from typing import Any, Final, NamedTuple

from stepwire.workflow.broker import parts
from stepwire.workflow.broker.buffers import Buffers, default_buffer_id
from stepwire.workflow.broker.clock import Clock, TimeLimit
from stepwire.workflow.broker.delivery import (
    PARKED,
    QUEUED,
    RUNNING,
    Delivery,
    Execution,
    Waiter,
)
from stepwire.workflow.broker.journal import RECEIVED, SENT, STREAM, TERMINAL, Journal
from stepwire.workflow.broker.ledger import TIMED_OUT, Answer, Buffered, digest_of
from stepwire.workflow.broker.outcome import COMPLETED, ENDED_TIMED_OUT, Outcome, damage, limit_reached
from stepwire.workflow.broker.stream import EventStream
from stepwire.workflow.broker.waits import Waits
from stepwire.workflow.broker.work import Work, dead
from stepwire.workflow.definition.routing import Routing
from stepwire.workflow.errors import RunEndedError, StepDoesNotAcceptError, UnknownStepError
from stepwire.workflow.events import Event, InputRequiredEvent, StepFailedEvent, StopEvent, WorkflowTimedOutEvent
from stepwire.workflow.state.own import is_sole, own
from stepwire.workflow.state.store import InMemoryStateStore

__all__ = ["Broker", "Receipt"]


_NO_EVENT: Final = Event()


class Receipt(NamedTuple):
    """What became of an event: its place in the log, and how many deliveries and waiters took it."""

    sequence: int
    delivered: int


EncodedOutput = tuple[Event, tuple[str, ...], bytes | None, bytes | None]
"""An event that a step returned, the steps that take it, and its forms in the log and in a snapshot."""


class Broker:
    """Hold what a run is, and change it by whole transitions only.

    Args:
        routing: Which step takes which event.
        store: The state of the run.

    Attributes:
        work: Its deliveries and the attempts at them; `deliveries`, `executions` and `queues` are its own.
        stream: What was written to the stream, for readers in process.
        journal: Takes what changed and what goes to the log; None when nothing is made durable: public events then
            go to `stream`, and nothing is encoded.
        last_entry: The sequence that the steps of the run may bring its log to.
        limit: The run's time limit.
        most_deliveries: How many deliveries the steps of the run may bring it to.
        pausing: Whether the limit stands still while the run only waits for outside input (S14).
        sequence: The number of the newest log entry.
        numbers: The last number given to a waiter or a collected event.
        outcome: How the run ended; None before.
        started: Whether the run has begun.
        frozen: Whether the run has left memory: nothing changes any more.
        cut_off: Whether the end of the run cut bodies of steps off: they may have a last word.
        on_question: Called with each question of a step that no wait of it asks; None when nobody wants to know.
        asked: Whether an InputRequiredEvent went out since the last outside event.
        untaken: The type of the last event that nothing took: why a run that stalls may do so.
    """

    # Many runs wait in memory, so every attribute counts.
    __slots__ = (
        "__weakref__",
        "_buffers",
        "_waits",
        "asked",
        "cut_off",
        "deliveries",
        "executions",
        "frozen",
        "journal",
        "last_entry",
        "limit",
        "most_deliveries",
        "numbers",
        "on_question",
        "outcome",
        "pausing",
        "queues",
        "routing",
        "sequence",
        "started",
        "store",
        "stream",
        "untaken",
        "work",
    )

    def __init__(self, routing: Routing, store: InMemoryStateStore[Any]) -> None:
        self.routing = routing
        self.store = store
        self.work = Work(routing.steps)
        self.deliveries = self.work.deliveries
        self.executions = self.work.executions
        self.queues = self.work.queues
        self._waits: Waits | None = None
        self._buffers: Buffers | None = None
        self.stream = EventStream()
        self.journal: Journal | None = None
        self.limit = TimeLimit()
        self.last_entry = sys.maxsize
        self.most_deliveries = sys.maxsize
        self.pausing = False
        self.sequence = 0
        self.numbers = 0
        self.outcome: Outcome | None = None
        self.started = False
        self.frozen = False
        self.cut_off = False
        self.asked = False
        self.on_question: Callable[[InputRequiredEvent], object] | None = None
        self.untaken = ""

    def keep(self, journal: Journal) -> None:
        """Keep a journal from here on, and let the time limit stand still while the run waits for outside input."""
        self.journal = self.work.journal = journal
        self.most_deliveries = journal.bounds.deliveries
        self.bound_log(1)
        self.pausing = True

    # -- life of the run ----------------------------------------------------------------------------------------------

    def check(self, execution: Execution | None) -> None:
        """Raise DeadAttemptError or RunEndedError when a call may not change the run any more."""
        if execution is not None and execution.dead:
            raise dead(execution)
        if self.outcome is not None:
            raise RunEndedError(f"the run has ended: {self.outcome.status}")
        if self.frozen:
            raise RunEndedError("the run is not in memory any more")

    def begin(self, event: Event | None, timeout: float | None) -> Receipt | None:
        """Start the run, or start anew after an earlier one has ended; the state and buffers stay (S16).

        Nobody else may hold the event, or what can change in it.
        """
        if self.outcome is not None:
            self.prepare()
        self.started = True
        self.limit.set(timeout)
        if self.journal is not None:
            self.touch_head()
        return None if event is None else self.accept(event, kind=RECEIVED, sole=True)

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

        A run whose state was damaged in place so that it cannot be saved does not complete: it fails.

        Args:
            status: One of the terminal statuses of `outcome`.
            event: The terminal event.
            error: What the run failed with.
            step: The step that gave the event, when one did.
            encoded: The event as a snapshot holds it, if known.
        """
        if self.outcome is not None:
            return
        outcome = Outcome(status, event, error, encoded)
        if self.journal is None:
            self.sequence += 1
            self.stream.append(event, last=True)
        else:
            if status == COMPLETED and (damaged := self.encode_state()[1]):
                outcome = damage(damaged)
            # `accept` has checked the size of an event that a step ended the run with.
            data = self.journal.wire_ending(outcome.event)
            self.sequence += 1
            self.journal.log(self.sequence, self.work.clock.now(), TERMINAL, outcome.event, data, step, 0)
        self.outcome = outcome
        self._clear()
        if self.journal is not None:
            self.touch_head()

    def _clear(self) -> None:
        work = self.work
        self.cut_off = bool(work.executions)
        if work.executions:
            work.kill_all()
        if work.deliveries:
            for delivery in list(work.deliveries.values()):
                self._drop(delivery)
            work.queues.clear()
            work.parked = 0
        work.queues.hot.clear()
        if self._waits is not None:
            for waiter in list(self.waits):
                self.waits.forget(waiter)
                if waiter.notify is not None and waiter.delivery is None:
                    work.resumed.append((waiter.notify, RunEndedError("the run has ended")))
        work.clear_timers()
        if self.limit.seconds is not None:
            self.limit.clear()

    def freeze(self) -> None:
        """Stop for good without ending: executions die, what they worked on stays to be run again."""
        self.frozen = True
        work = self.work
        at_work = [each for each in work.executions.values() if each.delivery.status == RUNNING]
        if work.unsure and work.works is not None:
            at_work += filter(work.works, work.unsure.values())
        work.kill_all()
        for execution in at_work:
            work.parked -= execution.delivery.status == PARKED
            execution.delivery.status = QUEUED
            work.touch(execution.delivery)

    def leave(self) -> None:
        """Cut what refers back, of a run that has left memory: it is freed without a collection of garbage."""
        if self.journal is not None:
            self.journal.leave()
        for waiter in list(self.waits):
            self.waits.remove(waiter)
            waiter.timer = None
        for delivery in self.deliveries.values():
            delivery.timer = None

    # -- bounds -------------------------------------------------------------------------------------------------------

    def bound_log(self, first: int) -> None:
        """Let the log, whose oldest kept entry is `first`, grow up to its bound."""
        if self.journal is not None and self.journal.bounds.entries < sys.maxsize:
            self.last_entry = first - 1 + self.journal.bounds.entries

    def exceed(self, message: str, step: str = "") -> None:
        """Fail the run because it has reached a bound."""
        outcome = limit_reached(message, step)
        self.end(outcome.status, outcome.event, outcome.error, step=step)

    def _log_is_full(self, step: str) -> None:
        assert self.journal is not None
        self.exceed(f"the log of a run may have at most {self.journal.bounds.entries} entries", step)

    # -- the log ------------------------------------------------------------------------------------------------------

    def write(self, event: Event, execution: Execution | None = None, source: str = "") -> Receipt:
        """Write an event to the stream. Errors as `accept`."""
        return Receipt(self.sequence, 0) if self.put(event, execution, source) else Receipt(0, 0)

    def put(self, event: Event, execution: Execution | None = None, source: str = "") -> bool:
        """Write an event to the stream; False when an earlier execution did. Errors as `accept`."""
        self.check(execution)
        journal = self.journal
        data = None if journal is None else journal.wire(event)
        if execution is not None:
            source = execution.delivery.step
            if self.work.repeats(execution, digest_of("write", event, data)):
                return False
        if self.sequence >= self.last_entry and source:
            self._log_is_full(source)
            self.check(execution)
        self.sequence += 1
        if journal is None or data is None:
            self.stream.append(own(event))
        else:
            journal.log(self.sequence, self.work.clock.now(), STREAM, event, data, source, 0)
        if isinstance(event, InputRequiredEvent):
            self.asked = True
            if self.on_question is not None and execution is not None:
                self.on_question(event)
        return True

    # -- events -------------------------------------------------------------------------------------------------------

    def accept(
        self,
        event: Event,
        step: str | None = None,
        execution: Execution | None = None,
        kind: int = SENT,
        source: str = "",
        *,
        sole: bool = False,
    ) -> Receipt:
        """Take an event for the steps and waiters that want it, or for one step; `sole` when nobody else holds it.

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
        data, encoded = (None, None) if self.journal is None else self._encode(event, targets)
        if execution is not None:
            source = execution.delivery.step
            if self.work.repeats(execution, digest_of(f"send {step or ''}", event, data)):
                return Receipt(0, 0)
        elif kind == RECEIVED:
            self.asked = False
        sole = sole and len(targets) == 1
        return self._take(event, kind, source, targets, data, encoded, to_waiters=step is None, sole=sole)

    def _encode(self, event: Event, targets: Sequence[str]) -> tuple[bytes | None, bytes | None]:
        """Return the event for the log and, when something will keep it, for the snapshot."""
        if self.journal is None:
            return None, None
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
        data: bytes | None,
        encoded: bytes | None,
        *,
        to_waiters: bool = True,
        sole: bool = False,
    ) -> Receipt:
        """Take an event that may be taken and can be saved; `sole` when nobody else holds it."""
        if isinstance(event, StopEvent):
            self.end(COMPLETED, event, step=source, encoded=encoded)
            return Receipt(self.sequence, 1)
        if self.journal is not None and kind != RECEIVED:  # without a host nothing is bounded
            if self.sequence >= self.last_entry:
                self._log_is_full(source)
                return Receipt(self.sequence, 0)
            if len(self.deliveries) + len(targets) > self.most_deliveries:
                self.exceed(f"a run may have at most {self.most_deliveries} events to work on", source)
                return Receipt(self.sequence, 0)
        self.sequence += 1
        sequence = self.sequence
        if isinstance(event, InputRequiredEvent):
            self.asked = True
            kind = STREAM
            if self.on_question is not None:
                self.on_question(event)
            if self.journal is None:
                self.stream.append(own(event))
        waits = self._waits
        matching = waits.matching(event) if to_waiters and waits is not None and waits.by_type else ()
        for name in targets:
            self.work.enqueue(name, event if sole else own(event), sequence, encoded)
        delivered = len(targets) + len(matching)
        if not delivered and kind != STREAM:
            self.untaken = type(event).__name__
        if self.journal is not None and data is not None:
            self.journal.log(sequence, self.work.clock.now(), kind, event, data, source, delivered)
        for waiter in matching:
            self.waits.settle(waiter, event)
        return Receipt(sequence, delivered)

    # -- executions ---------------------------------------------------------------------------------------------------

    def start_next(self, again_only: bool = False) -> Execution | None:
        """Start the next delivery that has a worker, in order; None when there is none.

        A delivery whose body was only parked goes on: its answers move to `resumed`. `again_only` takes none that
        never started.
        """
        return self.work.start_next(self, again_only)

    def encode_output(self, event: Event) -> EncodedOutput:
        """Encode an event that a step returned, for `finish`. SerializationError when it cannot be saved."""
        targets = self.routing.targets(type(event))
        return event, targets, *self._encode(event, targets)

    def finish(
        self, execution: Execution, outputs: Sequence[Event], encoded: Sequence[EncodedOutput] | None = None
    ) -> list[Receipt]:
        """Finish a delivery and take what its step returned, in one transition.

        Args:
            execution: The attempt that returned.
            outputs: What it returned.
            encoded: The outputs, by `encode_output`, when there are so many that they were encoded before.
        """
        self.check(execution)
        journal = self.journal
        if journal is not None and encoded is None:
            encoded = [self.encode_output(event) for event in outputs]
        step = execution.delivery.step
        execution.finished = True
        self.work.retire(execution)
        self._drop(execution.delivery)
        receipts: list[Receipt] = []
        if journal is None or encoded is None:
            for event in outputs:
                if self.outcome is None:
                    targets = self.routing.targets(type(event))
                    # Held by the step's result, the outputs and this loop.
                    sole = len(targets) == 1 and is_sole(event, 3)
                    receipts.append(self._take(event, SENT, step, targets, None, None, sole=sole))
            return receipts
        for event, targets, data, saved in encoded:
            if self.outcome is None:
                if saved is None and self.waits.expects(type(event)):
                    saved = journal.encode(event)
                # Held by the step's result, the outputs, the list above and this loop.
                sole = len(targets) == 1 and is_sole(event, 4)
                receipts.append(self._take(event, SENT, step, targets, data, saved, sole=sole))
        return receipts

    def retry(self, execution: Execution, delay: float) -> None:
        """Note a failure and run the delivery again after `delay` seconds (S2)."""
        self.check(execution)
        self.work.retry(execution, delay)

    def fail(
        self, delivery: Delivery, event: StepFailedEvent, catcher: str, error: BaseException | None = None
    ) -> None:
        """Give a delivery up and hand its failure to the step that catches it.

        Args:
            delivery: The delivery.
            event: What is logged of the failure.
            catcher: The step that catches it.
            error: What it failed with; the step gets it, the log does not.
        """
        if delivery.execution is not None:
            self.check(delivery.execution)
            self.work.retire(delivery.execution)
        self._drop(delivery)
        self.accept(event, step=catcher, source=delivery.step)
        if self.outcome is None:
            caught = self.deliveries[self.work.delivery_ids].event
            assert isinstance(caught, StepFailedEvent)
            caught.exception = error

    def _drop(self, delivery: Delivery) -> None:
        """Take a delivery that is through out of the run."""
        self.work.drop(delivery)
        if delivery.waiters:
            self.waits.forget_those_of(delivery)
        if delivery.ledger is not None:
            if delivery.ledger.collects:
                self._consume(delivery.collected())
            delivery.ledger = None
        delivery.event = _NO_EVENT  # what outlives the body keeps its execution, and that this delivery

    # -- collecting ---------------------------------------------------------------------------------------------------

    @property
    def buffers(self) -> Buffers:
        """Return the collected events, made at the first need: most runs collect nothing."""
        if self._buffers is None:
            self._buffers = Buffers()
        return self._buffers

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
        counted = self.buffers.count(expected)
        key = buffer_id if buffer_id is not None else default_buffer_id(step, counted)
        known = None
        if execution is not None:
            nth = execution.next_collect(key)
            known = execution.delivery.ensure_ledger().collects.setdefault(key, [])
            if nth < len(known):
                taken = known[nth]
                if taken is None:
                    return None
                if [type(item.event) for item in taken] == list(expected):
                    return [own(item.event) for item in taken]
                # A call that differs is new: what this and later calls took is there again.
                self.buffers.put_back(item for items in known[nth:] for item in items or ())
                del known[nth:]
        encoded = None if self.journal is None else self.journal.encode(event)
        self.numbers += 1
        item = Buffered(self.numbers, key, own(event), encoded)
        self.buffers.add(item)
        taken = self.buffers.take(key, expected)
        if self.journal is not None:
            self.journal.touch(parts.buffered(item.number))
        if known is not None and execution is not None:
            known.append(taken)
            execution.delivery.lost = 0  # it has made progress since its last crash
            self.work.touch(execution.delivery)
        elif taken:
            self._consume(taken)
        return None if taken is None else [own(item.event) for item in taken]

    def _consume(self, items: Sequence[Buffered]) -> None:
        """Take collected events out of the run for good."""
        self.buffers.drop(items)
        if self.journal is not None:
            for item in items:
                self.journal.touch(parts.buffered(item.number))

    # -- waiting ------------------------------------------------------------------------------------------------------

    @property
    def waits(self) -> Waits:
        """Return the open waiters, made at the first need."""
        if self._waits is None:
            self._waits = Waits(self.work)
        return self._waits

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

        Args:
            execution: The attempt that waits; None for one outside the steps.
            waiter_id: The name of the wait.
            event_type: The type of event that it waits for; None for a durable sleep.
            requirements: The fields that the event must have.
            prompt: Written to the stream, unless an open waiter of this id has an equal one.
            timeout: Seconds until its deadline; None or infinity: none.
        """
        self.check(execution)
        if self.journal is not None:
            self.journal.check_wait(event_type, requirements, prompt)
        waits = self.waits
        source = ""
        if prompt is not None:
            prompt = own(prompt)
        if execution is not None:
            source = execution.delivery.step
            found = waits.recorded(execution, waiter_id, event_type, requirements)
            if isinstance(found, Waiter):
                if prompt is not None and not waits.prompted(waiter_id, prompt):
                    self.put(prompt, source=source)
                    found.prompt = prompt
                    waits.touch(found)
                return found
            if found is not None:
                return found
        if prompt is not None and not waits.asked(execution, waiter_id, prompt):
            self.put(prompt, source=source)
        self.numbers += 1
        return waits.open(self.numbers, waiter_id, event_type, requirements, prompt, timeout, execution)

    # -- time ---------------------------------------------------------------------------------------------------------

    @property
    def active(self) -> int:
        """How many deliveries are queued, running, ready or in back-off."""
        return self.work.active

    @property
    def waiting_outside(self) -> bool:
        """Whether nothing is left to do before outside input arrives; a durable sleep waits for none."""
        return self.active == 0 and (self.asked or self.waits.outside) and not self.work.working

    @property
    def idle(self) -> bool:
        """Whether nothing goes on before an event or a due time comes, so that the run may leave memory."""
        return self.active == 0 and not self.work.working

    def stir(self, execution: Execution) -> None:
        """Look again at a parked execution, a task of whose body is over."""
        self.work.look_at(execution)
        self.work.touch(execution.delivery)

    def tick(self) -> None:
        """Start or stop the run's clock as S14 says; called after each batch of transitions."""
        limit = self.limit
        if limit.seconds is None or self.outcome is not None or not self.started:
            return
        stopped = self.pausing and self.waiting_outside
        if stopped == (limit.due is None):
            return  # nothing to change, as most often: do not ask what time it is
        if limit.tick(self.work.clock.now(), stopped=stopped) and self.journal is not None:
            self.touch_head()

    def next_due(self) -> float | None:
        """Return when something falls due next."""
        due, run_due = self.work.next_due(), self.limit.due
        return run_due if due is None or (run_due is not None and run_due < due) else due

    def expire(self) -> list[Execution]:
        """Do what is due: back-offs end, waits and the run time out. Return executions over their step's timeout."""
        late: list[Execution] = []
        now, run_due = self.work.clock.now(), self.limit.due
        is_late = run_due is not None and run_due <= now
        for item in self.work.timers.pop_due(run_due if run_due is not None and is_late else now):
            if self.outcome is not None:
                break
            if isinstance(item, Delivery):
                self.work.requeue(item)
            elif isinstance(item, Waiter):
                self.waits.settle(item, TIMED_OUT)
            else:
                late.append(item)
        if is_late and self.outcome is None:
            steps = sorted({execution.delivery.step for execution in self.executions.values()})
            self.end(ENDED_TIMED_OUT, WorkflowTimedOutEvent(timeout=self.limit.seconds, active_steps=steps))
        return late

    @property
    def clock(self) -> Clock:
        """What time it is for the run."""
        return self.work.clock

    @clock.setter
    def clock(self, clock: Clock) -> None:
        self.work.clock = clock

    # -- the journal --------------------------------------------------------------------------------------------------

    def encode_state(self) -> tuple[dict[str, bytes], list[str]]:
        """Return the changed parts of the state, encoded, and the keys that were damaged in place."""
        assert self.journal is not None
        encoded, damaged, changed = self.journal.encode_state(self.store.saved(), self.store.own_json, self._lent())
        if changed:
            self.store.version += 1
        return encoded, damaged

    def find_changes_in_place(self) -> None:
        """Count what steps have changed in place so far, and have it written: the state is told to the outside."""
        if self.journal is None:
            return
        values = self.store.saved()  # counts keys that the holder of the whole state has added or removed
        if self.journal.find_changes(values, self.store.own_json, self._lent()):
            self.store.version += 1
            self.touch_head()

    def _lent(self) -> set[str]:
        """Return the names of the values that steps may have changed in place since the last commit."""
        journal = self.journal
        if journal is None or journal.lent is None:
            return set()
        return journal.lent.returned.union(
            *(execution.lent for execution in self.executions.values() if execution.lent is not None)
        )

    def fail_damaged(self, keys: list[str]) -> None:
        """Fail the run because values of its state cannot be saved any more."""
        self.end(*damage(keys)[:3])

    def touch_head(self) -> None:
        """Note that the head of the snapshot changed."""
        if self.journal is not None:
            self.journal.touch(parts.HEAD)
