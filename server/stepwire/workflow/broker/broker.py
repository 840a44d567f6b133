"""The broker: the data of one run and its transitions.

Every method is a plain synchronous transition, so a snapshot taken between two of them is consistent. Nothing here
awaits, starts a task or looks at the world: the runner does that.

The parts, each with an interface of its own, are in the folders beside it: `deliveries` (events on their way through
steps, their queues, the attempts at them), `waits` (open waiters), `children` (runs that steps have started),
`changes` (what steps change in the state), `timing` (time, and what falls due), `log` (what happened, for readers in
process and for a host), `snapshot` (what is saved). `ledger` has what calls got, `outcome` how the run ended.
`progress` tells whether the run goes on by itself, and has its time limit follow.
"""

from __future__ import annotations

import inspect
from collections.abc import Generator, Sequence
from typing import Any, Final, cast

from stepwire.workflow.broker.changes.undo import Undos
from stepwire.workflow.broker.children.child import ChildHost
from stepwire.workflow.broker.children.children import Children
from stepwire.workflow.broker.children.nesting import OuterStep
from stepwire.workflow.broker.deliveries.attempts import dead, note
from stepwire.workflow.broker.deliveries.buffers import Buffers
from stepwire.workflow.broker.deliveries.delivery import (
    NO_EVENT,
    Delivery,
    Execution,
    Lineage,
    Waiter,
)
from stepwire.workflow.broker.deliveries.executions import (
    CANCELLED,
    FINISHED,
    LOG_ALL,
    LOST,
    AttemptFailure,
)
from stepwire.workflow.broker.deliveries.fan_in import FanIn
from stepwire.workflow.broker.deliveries.lineage import caught_lineage, sent_lineage
from stepwire.workflow.broker.deliveries.work import Work
from stepwire.workflow.broker.ledger import TIMED_OUT, WRITTEN, Answer
from stepwire.workflow.broker.log.entries import RECEIVED, SENT, STREAM, TERMINAL
from stepwire.workflow.broker.log.journal import Journal
from stepwire.workflow.broker.log.stream import EventStream
from stepwire.workflow.broker.outcome import COMPLETED, ENDED_TIMED_OUT, Outcome, damage, limit_reached
from stepwire.workflow.broker.receipts import EncodedOutput, Receipt
from stepwire.workflow.broker.snapshot import parts
from stepwire.workflow.broker.snapshot.former_names import known_digest
from stepwire.workflow.broker.timing.clock import Clock, TimeLimit
from stepwire.workflow.broker.waits.parking import look_at
from stepwire.workflow.broker.waits.waits import Waits
from stepwire.workflow.definition.routing import Routing
from stepwire.workflow.errors import RunEndedError
from stepwire.workflow.events import (
    ASKING,
    STOPPING,
    Event,
    HumanResponseEvent,
    InputRequiredEvent,
    StepFailedEvent,
    StopEvent,
    WorkflowTimedOutEvent,
)
from stepwire.workflow.state.own import is_sole, keep, own
from stepwire.workflow.state.store import InMemoryStateStore

__all__ = ["SLICE", "Broker"]

SLICE: Final = 200
"""Outputs of a step that are encoded, or taken, before other work gets its turn."""


class Broker:
    """Hold what a run is, and change it by whole transitions only.

    Args:
        routing: Which step takes which event.
        store: The state of the run.

    Attributes:
        work: Its deliveries and the attempts at them; `deliveries`, `executions` and `queues` are its own.
        journal: Takes what changed and what goes to the log; None when nothing is made durable: public events then
            go to `stream`, and nothing is encoded.
        limit: The run's time limit; with a journal it stands still while the run only waits for outside input (S14).
        sequence: The number of the newest log entry.
        outcome: How the run ended; None before.
        started: Whether the run has begun.
        frozen: Whether the run has left memory: nothing changes any more.
        cut_off: Whether the end of the run cut bodies of steps off: they may have a last word.
        origins: Whose deliveries a retried run goes on with: run ids, each with the last delivery id of that run. Empty
            for a run that is no retry.
        partial: The rest of a transition that is made in slices; None between transitions.
        outer: The step of another run that has started this one; None for a run of its own.
        child_host: Starts runs for the steps; None where that is not possible.
        made_children: The runs that steps have started; None if there are none.
        asked: Whether an InputRequiredEvent went out since the last outside event.
        questions: How many InputRequiredEvents of steps, asked by no wait, no HumanResponseEvent has answered yet.
        untaken: The type of the last event that nothing took: why a run that stalls may do so.
    """

    # Many runs wait in memory, so every attribute counts.
    __slots__ = (
        "__weakref__",
        "_buffers",
        "_fan_in",
        "_stream",
        "_waits",
        "asked",
        "child_host",
        "cut_off",
        "deliveries",
        "executions",
        "frozen",
        "journal",
        "limit",
        "made_children",
        "origins",
        "outcome",
        "outer",
        "partial",
        "questions",
        "queues",
        "routing",
        "sequence",
        "started",
        "store",
        "untaken",
        "work",
    )

    def __init__(self, routing: Routing, store: InMemoryStateStore[Any]) -> None:
        self.routing = routing
        self.store = store
        self.work = Work(routing.steps, routing.broad)
        self.deliveries = self.work.deliveries
        self.executions = self.work.executions
        self.queues = self.work.queues
        self._waits: Waits | None = None
        self._buffers: Buffers | None = None
        self.made_children: Children | None = None
        self.child_host: ChildHost | None = None
        self._fan_in = FanIn(routing, self.work, self.buffers) if routing.collects else None
        self._stream: EventStream | None = None
        self.journal: Journal | None = None
        self.limit = TimeLimit()
        self.sequence = 0
        self.outcome: Outcome | None = None
        self.started = False
        self.frozen = False
        self.cut_off = False
        self.asked = False
        self.questions = 0
        self.outer: OuterStep | None = None
        self.partial: Generator[None] | None = None
        self.untaken = ""
        self.origins: tuple[tuple[str, int], ...] = ()

    def keep(self, journal: Journal) -> None:
        """Keep a journal from here on."""
        self.journal = self.work.journal = journal
        journal.watch(self.store, self.executions)
        for delivery in self.work.lost or ():
            note(self, delivery, LOST)
        self.work.lost = None

    # -- life of the run ----------------------------------------------------------------------------------------------

    def check(self, execution: Execution | None) -> None:
        """Raise DeadAttemptError or RunEndedError when a call may not change the run any more."""
        if execution is not None and execution.dead:
            raise dead(execution)
        if self.outcome is not None:
            raise RunEndedError(f"the run has ended: {self.outcome.status}")
        if self.frozen:
            raise RunEndedError("the run is not in memory any more")

    @property
    def stream(self) -> EventStream:
        """Return what was written to the stream, for readers in process; made at the first need."""
        if self._stream is None:
            self._stream = EventStream()
        return self._stream

    @property
    def undos(self) -> Undos:
        """Return what deliveries have changed in the state, made at the first need."""
        if self.work.undos is None:
            self.work.undos = Undos(self.store)
        return self.work.undos

    def may_wait(self, execution: Execution) -> bool:
        """Tell whether the step of an attempt waits for events or time in its own code."""
        return self.routing.steps[execution.delivery.step].waits

    def begin_again(self, delivery: Delivery) -> None:
        """Put back what a delivery had changed in the state before it was interrupted."""
        names = set(delivery.undo or ())
        self.undos.begin_again(delivery, self.journal)
        if self.journal is not None and names:
            self.journal.note_changed(names, self.store)

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
        if self.outcome is not None and self.outcome.left is not None:
            for delivery in list(self.deliveries.values()):
                self._drop(delivery)
            if self._fan_in is not None:
                self._fan_in.clear()
        self.outcome = None
        self.started = False
        self._stream = None
        self.sequence = 0
        self.asked = False
        self.questions = 0
        self.untaken = ""

    def end(
        self,
        status: str,
        event: StopEvent,
        error: BaseException | None = None,
        *,
        step: str = "",
        encoded: bytes | None = None,
        data: bytes | None = None,
        failed: Delivery | None = None,
        keep: bool = True,
        leave: bool = False,
        delivery: int = 0,
    ) -> None:
        """End the run: one terminal entry, every execution dead, nothing queued or waiting any more.

        A run whose state was damaged in place so that it cannot be saved does not complete: it fails. With a journal,
        the snapshot of a run that ends badly keeps what was in progress, so that a retry can go on with it.

        Args:
            status: One of the terminal statuses of `outcome`.
            event: The terminal event.
            error: What the run failed with.
            step: The step that gave the event, when one did.
            encoded: The event as a snapshot holds it, if known.
            data: The event as clients see it, if known.
            failed: The delivery that the run failed with, if one did.
            keep: Whether what is in progress is all that a retry needs.
            leave: Whether to keep what is in progress without a journal, too: for a context that is saved afterwards.
            delivery: The delivery whose step gave the event.
        """
        if self.partial is not None:
            self.complete()
        if self.outcome is not None:
            return
        outcome = Outcome(status, event, error, encoded)
        if self.journal is None:
            self.sequence += 1
            (self._stream or self.stream).append(event, last=True)
        else:
            if status == COMPLETED and (damaged := self.journal.encode_state()[1]):
                outcome = damage(damaged)
            if self.journal.attempts:
                for execution in self.work.executions:
                    if execution.outcome == "abandoned":  # else the failure is logged that ends the run
                        note(self, execution.delivery, CANCELLED)
            # `accept` has checked the size of an event that a step ended the run with.
            if data is None or outcome.event is not event:
                data = self.journal.wire_ending(outcome.event)
            self.sequence += 1
            self.journal.log(self.sequence, self.work.clock.now(), TERMINAL, outcome.event, data, step, 0, delivery)
        keep = keep and (leave or self.journal is not None) and outcome.status != COMPLETED
        if keep:
            outcome = outcome._replace(left=0 if failed is None else failed.id)
        self.outcome = outcome
        if self.made_children is not None:
            self.made_children.run_ended(keep=keep)
        self.cut_off = self.work.end(None if keep else self._drop)
        if self._waits is not None:
            self._waits.end(keep=keep)
        if self._fan_in is not None and not keep:
            self._fan_in.clear()
        if self.work.made_timers is not None:
            self.work.clear_timers()
        if self.limit.seconds is not None:
            self.limit.clear()
        if self.journal is not None:
            self.touch_head()

    def freeze(self) -> None:
        """Stop for good without ending: executions die, what they worked on stays to be run again."""
        self.complete()
        self.frozen = True
        for execution in self.work.freeze():
            note(self, execution.delivery, CANCELLED, began=execution.began)

    def leave(self) -> None:
        """Cut what refers back, of a run that has left memory: it is freed without a collection of garbage."""
        if self.journal is not None:
            self.journal.leave()
        if self._waits is not None:
            self._waits.leave()
        self.work.leave()

    def exceed(self, message: str, step: str = "") -> None:
        """Fail the run because it has reached a bound."""
        self.end(*limit_reached(message, step)[:3], step=step, keep=False)

    # -- the log ------------------------------------------------------------------------------------------------------

    def write(self, event: Event, execution: Execution | None = None, source: str = "") -> Receipt:
        """Write an event to the stream. Errors as `accept`."""
        return Receipt(self.sequence, 0) if self.put(event, execution, source) else Receipt(0, 0)

    def put(
        self, event: Event, execution: Execution | None = None, source: str = "", by: int = 0, *, sole: bool = False
    ) -> bool:
        """Write an event to the stream; False when an earlier execution did. Errors as `accept`.

        `by` is the delivery whose step asks, of a question of a wait: those are not told apart by the ledger. `sole`
        when nobody else holds the event.
        """
        journal = self.journal
        if self.outcome is not None or self.frozen or (execution is not None and execution.dead):
            self.check(execution)
        data = None if journal is None else journal.wire(event)
        if execution is not None:
            delivery = execution.delivery
            source = delivery.step
            if journal is None and execution.replay is None and not delivery.lost:  # as most often in process
                if delivery.effects is None:
                    delivery.effects = bytearray()
                delivery.effects += WRITTEN[type(event)]
            elif self.work.repeats(execution, known_digest(delivery.former, execution.replay, "write", event, data)):
                return False
        if journal is not None and self.sequence >= journal.last_entry and source:
            self.exceed(journal.bounds.reached(log=True), source)
            self.check(execution)
        self.sequence += 1
        if journal is None or data is None:
            stream = self._stream or self.stream
            stream.events.append(event if sole else keep(event))
            if stream.waiting:
                stream.wake()
        else:
            number = by if execution is None else execution.delivery.id
            journal.log(self.sequence, self.work.clock.now(), STREAM, event, data, source, 0, number)
        if ASKING[type(event)]:
            self.asked = True
            if execution is not None:
                self.questions += 1
                if self.outer is not None:
                    self.outer.asked(cast(InputRequiredEvent, event))
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
        if self.outcome is not None or self.frozen or (execution is not None and execution.dead):
            self.check(execution)
        cls = type(event)
        targets = self.routing.targets(cls) if step is None else self.routing.target(step, cls)
        data, encoded = (None, None) if self.journal is None else self._encode(event, targets)
        if execution is not None:
            source, former = execution.delivery.step, execution.delivery.former
            call = f"send {step or ''}"
            if self.work.repeats(execution, known_digest(former, execution.replay, call, event, data)):
                return Receipt(0, 0)
        elif kind == RECEIVED:
            self.asked = False
        lineage = None if execution is None else sent_lineage(execution.delivery)
        by = 0 if execution is None else execution.delivery.id
        return self._take(
            event, kind, source, targets, data, encoded, to_waiters=step is None, sole=sole, by=by, lineage=lineage
        )

    def answers(self, event: Event, step: str | None = None) -> bool:
        """Tell whether an event from outside would answer an open question of the run.

        It does if an open wait of a step takes it; or if a step asked an InputRequiredEvent that is not answered yet,
        and steps take the event, which is a HumanResponseEvent.

        Args:
            event: The event.
            step: The only step that shall get it; None for all steps and waits that take it.
        """
        if step is None and any(waiter.delivery is not None for waiter in self.waits.matching(event)):
            return True
        if not self.questions or not isinstance(event, HumanResponseEvent):
            return False
        targets = self.routing.targets(type(event))
        return bool(targets) if step is None else self.routing.current(step) in targets

    def _encode(self, event: Event, targets: Sequence[str]) -> tuple[bytes, bytes | None]:
        """Return the event for the log and, when something will keep it, for the snapshot."""
        assert self.journal is not None
        data = self.journal.wire(event)
        is_kept = targets or STOPPING[type(event)] or self._expects(type(event))
        return data, self.journal.encode(event) if is_kept else None

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
        by: int = 0,
        lineage: Lineage | None = None,
    ) -> Receipt:
        """Take an event that may be taken and can be saved.

        `sole` when nobody else holds it, so that its only taker may have it; `by` is the delivery whose step made it,
        `lineage` what the event inherits.
        """
        if STOPPING[type(event)]:
            self.end(COMPLETED, cast(StopEvent, event), step=source, encoded=encoded, data=data, delivery=by)
            return Receipt(self.sequence, 1)
        journal = self.journal
        if journal is not None and kind != RECEIVED:  # without a host nothing is bounded
            is_full = self.sequence >= journal.last_entry
            if is_full or len(self.deliveries) + len(targets) > journal.bounds.deliveries:
                self.exceed(journal.bounds.reached(log=is_full), source)
                return Receipt(self.sequence, 0)
        self.sequence += 1
        sequence = self.sequence
        if ASKING[type(event)]:
            self.asked = True
            self.questions += kind != RECEIVED
            kind = STREAM
            if self.outer is not None:
                self.outer.asked(cast(InputRequiredEvent, event))
            if journal is None:
                self.stream.append(event)
        waits = self._waits
        matching = waits.matching(event) if to_waiters and waits is not None and waits.open else ()
        if matching and targets:
            targets = self._not_waiting(targets, matching)
        if kind == RECEIVED and self.questions and targets and not matching and isinstance(event, HumanResponseEvent):
            self.questions -= 1
        delivered = len(targets) + len(matching)
        if self._fan_in is None:
            for name in targets:
                taken = event if sole and len(targets) == 1 else own(event)
                self.work.enqueue(name, taken, sequence, encoded, lineage)
        else:
            only = event if sole and len(targets) == 1 else None
            delivered -= self._fan_in.take(targets, event, sequence, encoded, lineage, only)
        if not delivered and kind != STREAM:
            self.untaken = type(event).__name__
        if journal is not None and data is not None:
            journal.log(sequence, self.work.clock.now(), kind, event, data, source, delivered, by)
        for waiter in matching:
            self.waits.settle(waiter, event, sole=sole and delivered == 1)
        return Receipt(sequence, delivered)

    def _not_waiting(self, targets: Sequence[str], matching: Sequence[Waiter]) -> Sequence[str]:
        """Return the steps that get an event beside these waiters: not those whose own waits it answers."""
        waiting = {each.delivery.step for each in matching if each.delivery is not None}
        return [name for name in targets if name not in waiting or not self.work.own_waits(name)]

    # -- executions ---------------------------------------------------------------------------------------------------

    def encode_output(self, event: Event) -> EncodedOutput:
        """Encode an event that a step returned, for `finish`. SerializationError when it cannot be saved."""
        targets = self.routing.targets(type(event))
        return event, targets, *self._encode(event, targets)

    def finish(self, execution: Execution, outputs: Sequence[Event]) -> list[Receipt]:
        """Finish a delivery and take what its step returned, in one transition.

        Args:
            execution: The attempt that returned.
            outputs: What it returned.
        """
        if execution.dead or self.outcome is not None or self.frozen:
            self.check(execution)
        journal = self.journal
        encoded = None if journal is None else list(map(self.encode_output, outputs))
        step, number = execution.delivery.step, execution.delivery.id
        lineage = self._retire(execution)
        receipts: list[Receipt] = []
        if journal is None or encoded is None:
            for event in outputs:
                if self.outcome is None:
                    targets = self.routing.targets(type(event))
                    # Held by the step's result, the outputs and this loop.
                    sole = len(targets) == 1 and is_sole(event, 3)
                    receipts.append(self._take(event, SENT, step, targets, None, None, sole=sole, lineage=lineage))
            if self._fan_in is not None:
                self._settle()
            return receipts
        for event, targets, data, saved in encoded:
            if self.outcome is None:
                if saved is None and self._expects(type(event)):
                    saved = journal.encode(event)
                # Held by the step's result, the outputs, the list above and this loop.
                sole = len(targets) == 1 and is_sole(event, 4)
                taken = self._take(event, SENT, step, targets, data, saved, sole=sole, by=number, lineage=lineage)
                receipts.append(taken)
        self._settle_finished()
        return receipts

    def _retire(self, execution: Execution) -> Lineage | None:
        """Take an attempt that returned, and its delivery, out of the run; return what its events inherit."""
        delivery = execution.delivery
        lineage = delivery.lineage
        if self._fan_in is not None and execution.fanned_out:
            lineage = self._fan_in.open(delivery.step, lineage)
        if self.journal is not None and self.journal.attempts == LOG_ALL:
            note(self, delivery, FINISHED)
        execution.finished = True
        self.work.retire(execution)
        self._drop(delivery)
        return lineage

    def _settle_finished(self) -> None:
        """Settle after a delivery is through. If the run failed on what it returned, its last snapshot keeps nothing.

        A retry would miss what was not taken.
        """
        self._settle()
        if self.outcome is not None and self.outcome.left is not None:
            self.outcome = self.outcome._replace(left=None)
            for delivery in list(self.deliveries.values()):
                self._drop(delivery)

    def finish_in_slices(self, execution: Execution, encoded: Sequence[EncodedOutput]) -> None:
        """Finish a delivery that returned very much, in slices; other work may go on between them.

        `partial` makes one slice each time that it is advanced, and is None once the transition is whole. Until then
        the run must not be saved: what saves or freezes it calls `complete` first.

        Args:
            execution: The attempt that returned.
            encoded: What it returned, by `encode_output`.
        """
        self.complete()
        self.check(execution)
        step, number = execution.delivery.step, execution.delivery.id
        self.partial = self._take_in_slices(step, number, encoded, self._retire(execution))

    def _take_in_slices(
        self, step: str, number: int, encoded: Sequence[EncodedOutput], lineage: Lineage | None
    ) -> Generator[None]:
        for start in range(0, len(encoded), SLICE):
            for event, targets, data, saved in encoded[start : start + SLICE]:
                if self.outcome is not None:
                    break
                if saved is None and self.journal is not None and self._expects(type(event)):
                    saved = self.journal.encode(event)
                self._take(event, SENT, step, targets, data, saved, by=number, lineage=lineage)
            yield
        self.partial = None
        self._settle_finished()

    def complete(self) -> None:
        """Complete the transition that is made in slices, if there is one."""
        if self.partial is not None and inspect.getgeneratorstate(self.partial) != inspect.GEN_RUNNING:
            for _ in self.partial:
                pass

    def retry(self, execution: Execution, delay: float, failure: AttemptFailure | None = None) -> None:
        """Note a failure and run the delivery again after `delay` seconds (S2)."""
        self.check(execution)
        self.work.retry(execution, delay, failure)
        if self.made_children is not None:
            self.made_children.retry(execution.delivery)

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
        lineage = None
        if self.routing.steps[catcher].max_recoveries is not None:
            lineage = caught_lineage(delivery, catcher)
        self._drop(delivery, finished=False)
        targets = self.routing.target(catcher, type(event))
        data, encoded = (None, None) if self.journal is None else self._encode(event, targets)
        self._take(event, SENT, delivery.step, targets, data, encoded, to_waiters=False, lineage=lineage)
        self._settle()
        if self.outcome is None:
            caught = self.deliveries[self.work.delivery_ids].event
            assert isinstance(caught, StepFailedEvent)
            caught.exception = error

    def _settle(self) -> None:
        """Close the streams that nothing is in progress of any more."""
        if self._fan_in is not None and self.outcome is None and self.partial is None:
            self._fan_in.settle(self.sequence)

    @property
    def fan_in(self) -> FanIn | None:
        """Return the open streams; None if no step collects."""
        return self._fan_in

    def _drop(self, delivery: Delivery, *, finished: bool = True) -> None:
        """Take a delivery that is through out of the run; `finished` unless it was given up."""
        if self.made_children is not None:
            self.made_children.drop(self, delivery, finished=finished)
        if self._fan_in is not None:
            self._fan_in.gone(delivery)
        self.work.drop(delivery)
        if delivery.waiters:
            self.waits.forget_those_of(delivery)
        if delivery.ledger is not None:
            if delivery.ledger.collects:
                self.buffers.consume(delivery.collected())
            delivery.ledger = None
        delivery.held = NO_EVENT  # what outlives the body keeps its execution, and that this delivery
        if delivery.reader is not None:
            delivery.reader = None

    # -- collecting and waiting ---------------------------------------------------------------------------------------

    @property
    def buffers(self) -> Buffers:
        """Return the collected events, made at the first need: most runs collect nothing."""
        if self._buffers is None:
            self._buffers = Buffers(self.work)
        return self._buffers

    def collect(
        self, event: Event, expected: Sequence[type[Event]], buffer_id: str | None, execution: Execution | None
    ) -> list[Event] | None:
        """Add an event to a buffer; return the expected ones once all are there. See `Buffers.collect`."""
        if execution is not None or self.frozen:
            self.check(execution)
        return self.buffers.collect(event, expected, buffer_id, execution)

    @property
    def waits(self) -> Waits:
        """Return the open waiters, made at the first need."""
        if self._waits is None:
            self._waits = Waits(self.work)
        return self._waits

    @property
    def made_waits(self) -> Waits | None:
        """Return the open waiters; None if nothing has waited."""
        return self._waits

    @property
    def children(self) -> Children | None:
        """Return the runs that steps have started; None where no host starts any. Made at the first need."""
        if self.made_children is None and self.child_host is not None:
            self.made_children = Children(self.work, self.child_host)
        return self.made_children

    @property
    def made_buffers(self) -> Buffers | None:
        """Return the collected events; None if nothing was collected."""
        return self._buffers

    def _expects(self, event_type: type[Event]) -> bool:
        return self._waits is not None and self._waits.expects(event_type)

    def wait(
        self,
        execution: Execution | None,
        waiter_id: str,
        event_type: type[Event] | None,
        requirements: dict[str, Any],
        prompt: Event | None,
        timeout: float | None,
    ) -> Answer | Waiter:
        """Open a waiter, or give what an earlier execution got; for the arguments see `Waits.wait`.

        Raise SerializationError when a journal is kept and the wait cannot be saved; then nothing has changed.
        """
        self.check(execution)
        if self.journal is not None:
            self.journal.check_wait(event_type, requirements, prompt)
        return self.waits.wait(self.put, execution, waiter_id, event_type, requirements, prompt, timeout)

    # -- time ---------------------------------------------------------------------------------------------------------

    @property
    def active(self) -> int:
        """How many deliveries are queued, running, ready or in back-off."""
        return self.work.active

    def stir(self, execution: Execution) -> None:
        """Look again at a parked execution, a task of whose body is over."""
        look_at(self.work, execution)
        self.work.touch(execution.delivery)
        if self.outer is not None:
            self.outer.moved()

    def hold(self, held: bool) -> None:
        """Start nothing from now on, or start again what may; the time limit stands still meanwhile."""
        if self.work.held != held:
            self.work.held = held
            self.touch_head()

    def next_due(self) -> float | None:
        """Return when something falls due next."""
        timers, run_due = self.work.made_timers, self.limit.due
        due = None if timers is None else timers.next_due()
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
            steps = sorted({execution.delivery.step for execution in self.executions})
            self.end(ENDED_TIMED_OUT, WorkflowTimedOutEvent(timeout=self.limit.seconds, active_steps=steps))
        return late

    @property
    def clock(self) -> Clock:
        """What time it is for the run."""
        return self.work.clock

    def touch_head(self) -> None:
        """Note that the head of the snapshot changed."""
        if self.journal is not None:
            self.journal.touch(parts.HEAD)
