"""The work of a run: its deliveries, the attempts at them, and who holds a worker."""

from __future__ import annotations

from collections.abc import Callable, Mapping

from stepwire.workflow.broker.changes.undo import Undos
from stepwire.workflow.broker.deliveries.attempts import dead, note_start, take_off
from stepwire.workflow.broker.deliveries.delivery import (
    BACKOFF,
    NO_EVENT,
    PARKED,
    QUEUED,
    READY,
    RUNNING,
    Delivery,
    Execution,
    Lineage,
    RunBroker,
    Waiter,
)
from stepwire.workflow.broker.deliveries.executions import AttemptFailure
from stepwire.workflow.broker.deliveries.queue import Queues
from stepwire.workflow.broker.ledger import Answer, Notify
from stepwire.workflow.broker.log.journal import Journal
from stepwire.workflow.broker.snapshot import parts
from stepwire.workflow.broker.timing.clock import CLOCK, Clock
from stepwire.workflow.broker.timing.timers import TimerQueue
from stepwire.workflow.definition.step_config import StepConfig
from stepwire.workflow.events import Event

__all__ = ["Work", "dead"]


class Work:
    """Start, park, repeat and finish deliveries.

    Attributes:
        deliveries: The deliveries that are not through, by id.
        executions: The attempts under way, in no order; a list takes a third of what a dict does.
        queues: The deliveries that wait for a worker.
        delivery_ids: The last id given to a delivery.
        made_timers: What falls due; None before the first.
        numbers: The last number given to a waiter or a collected event.
        parked: How many deliveries are parked.
        lost: Deliveries that were at work when the snapshot was taken that the run was restored from; None for none.
        poisoned: Deliveries that were lost to crashes too often; the runner fails them. None before the first.
        resumed: Waits whose bodies may go on; the runner tells them once it is durable. None for none.
        broad: The steps whose waits take events of subclasses, too.
        clock: What time it is.
        journal: Takes the parts that changed; None when nothing is made durable.
        failing: Deliveries that failed and are repeated, by id; None before the first.
        held: Whether nothing starts for now, nor goes on after a wait: the run is paused. What runs goes on.
        undos: What deliveries have changed in the state; None before the first change.
        works: Tells whether the body of a parked delivery does something beside its waits; None: it never does.
        unsure: Parked executions that worked when they were last looked at, or that were not looked at yet;
            None before the first.
    """

    __slots__ = (
        "_steps",
        "broad",
        "clock",
        "deliveries",
        "delivery_ids",
        "executions",
        "failing",
        "held",
        "journal",
        "lost",
        "made_timers",
        "numbers",
        "parked",
        "poisoned",
        "queues",
        "resumed",
        "undos",
        "unsure",
        "works",
    )

    def __init__(self, steps: Mapping[str, StepConfig], broad: frozenset[str] = frozenset()) -> None:
        self._steps = steps
        self.broad = broad
        self.deliveries: dict[int, Delivery] = {}
        self.executions: list[Execution] = []
        self.queues = Queues(steps)
        self.delivery_ids = 0
        self.numbers = 0
        self.parked = 0
        self.lost: list[Delivery] | None = None
        self.poisoned: list[Delivery] | None = None
        self.resumed: list[tuple[Notify, Answer]] | None = None
        self.made_timers: TimerQueue[Delivery | Waiter | Execution] | None = None
        self.clock: Clock = CLOCK
        self.journal: Journal | None = None
        self.undos: Undos | None = None
        self.held = False
        self.failing: dict[int, Delivery] | None = None
        self.works: Callable[[Execution], bool] | None = None
        self.unsure: dict[int, Execution] | None = None

    def own_waits(self, step: str) -> bool:
        """Tell whether the waits of a step have nothing to do with those of others, nor with what comes to the step."""
        return self._steps[step].own_waits

    @property
    def timers(self) -> TimerQueue[Delivery | Waiter | Execution]:
        """Return what falls due: back-offs, deadlines of waits, timeouts of steps; made at the first need."""
        if self.made_timers is None:
            self.made_timers = TimerQueue()
        return self.made_timers

    def next_due(self) -> float | None:
        """Return when the next of them falls due."""
        return None if self.made_timers is None else self.made_timers.next_due()

    def clear_timers(self) -> None:
        """Forget what falls due."""
        if self.made_timers is not None:
            self.made_timers.clear()

    @property
    def active(self) -> int:
        """How many deliveries are queued, running, ready or in back-off."""
        return len(self.deliveries) - self.parked

    # -- deliveries ---------------------------------------------------------------------------------------------------

    def enqueue(
        self, step: str, event: Event, sequence: int, encoded: bytes | None, lineage: Lineage | None = None
    ) -> None:
        """Add a delivery behind the others of its step."""
        self.delivery_ids += 1
        delivery = Delivery(self.delivery_ids, step, event, sequence, encoded)
        delivery.lineage = lineage
        self.deliveries[delivery.id] = delivery
        self.queues.append(delivery)
        if self.journal is not None:
            delivery.since = self.clock.now()
            self.touch(delivery)

    def requeue(self, delivery: Delivery) -> None:
        """Queue a delivery that was in back-off, that waited or that is to run again."""
        delivery.due = delivery.timer = None
        delivery.status = QUEUED
        self.queues.push(delivery)
        self.moved(delivery)

    def arm(self, due: float, item: Delivery | Waiter) -> None:
        """Set the timer of a delivery in back-off, or of the deadline of a wait."""
        item.timer = self.timers.add(due, item)

    def drop(self, delivery: Delivery) -> None:
        """Forget a delivery that is through, with its effects and answers."""
        self.deliveries.pop(delivery.id, None)
        if self.failing:
            self.failing.pop(delivery.id, None)
        if delivery.undo is not None:
            self._keep_changes(delivery)
        if delivery.timer is not None:
            self.timers.cancel(delivery.timer)
        if self.journal is not None:
            self.touch(delivery)
            self._drop_effects(delivery)
            if delivery.ledger is not None:
                for number in range(len(delivery.ledger.answers)):
                    self.journal.touch(parts.answer(delivery.id, number))

    def _keep_changes(self, delivery: Delivery) -> None:
        """Keep for good what a delivery has changed in the state."""
        if delivery.undo is not None and self.undos is not None:
            self.undos.forget(delivery)

    def _drop_effects(self, delivery: Delivery) -> None:
        if self.journal is not None and delivery.effects:
            for page in parts.pages_of(len(delivery.effects)):
                self.journal.touch(parts.effects(delivery.id, page))

    def repeats(self, execution: Execution, digest: bytes) -> bool:
        """Note a send or write in the ledger; True when an earlier execution made the same one."""
        replay = execution.replay
        if replay is not None and replay[digest] > 0:
            replay[digest] -= 1
            return True
        delivery = execution.delivery
        effects = delivery.effects
        if effects is None:
            effects = delivery.effects = bytearray()
        if self.journal is not None:
            self.journal.touch_effects(delivery.id, len(effects))
        effects += digest
        if delivery.lost and (replay is None or not any(replay.values())):
            delivery.lost = 0  # it got further than before its last crash
            self.touch(delivery)
        return False

    def moved(self, delivery: Delivery) -> None:
        """Note that a delivery has another status from now on."""
        if self.journal is not None:
            delivery.since = self.clock.now()
            self.touch(delivery)

    def touch(self, delivery: Delivery) -> None:
        """Note that a delivery's part of the snapshot changed."""
        if self.journal is not None:
            self.journal.touch(parts.delivery(delivery.id))

    def touch_all(self) -> None:
        """Note that the parts of all deliveries changed."""
        if self.journal is not None and self.deliveries:
            self.journal.touch_all(map(parts.delivery, self.deliveries))

    # -- attempts -----------------------------------------------------------------------------------------------------

    def start_next(self, broker: RunBroker, again_only: bool = False) -> Execution | None:
        """Start the next delivery that has a worker, in order; None when there is none.

        A delivery whose body was only parked goes on: its answers move to `resumed`. `again_only` takes none that
        never started.
        """
        queues = self.queues
        if self.held:
            return None
        while queues.hot and (delivery := queues.take(again_only)) is not None:
            delivery.status = RUNNING
            now = 0.0
            if self.journal is not None:
                now = delivery.since = self.clock.now()
                self.touch(delivery)
            execution = delivery.execution
            if execution is None:
                if delivery.undo:
                    broker.begin_again(delivery)
                delivery.attempt += 1
                if delivery.first_started is None:
                    delivery.first_started = now or self.clock.now()
                delivery.execution = execution = Execution(broker, delivery)
                execution.place = len(self.executions)
                self.executions.append(execution)
                timeout = self._steps[delivery.step].timeout
                if timeout is not None:
                    execution.remaining = timeout
                    self._start_clock(execution)
                if self.journal is not None:
                    execution.began = now
                    if self.journal.attempts:
                        note_start(broker, delivery)
                return execution
            self._start_clock(execution)
            if execution.settled:
                for notify, answer in execution.settled:
                    self.resume(notify, answer)
                execution.settled = None
        return None

    def retry(self, execution: Execution, delay: float, failure: AttemptFailure | None = None) -> None:
        """Note a failure and run the delivery again after `delay` seconds (S2)."""
        delivery = execution.delivery
        delivery.failures += 1
        delivery.failure = failure
        self.note_failing(delivery)
        self.retire(execution)
        self._keep_changes(delivery)
        self._drop_effects(delivery)
        delivery.effects = None
        if delay <= 0:
            self.requeue(delivery)
        else:
            delivery.status = BACKOFF
            delivery.due = self.clock.now() + delay
            self.arm(delivery.due, delivery)
            self.moved(delivery)

    def note_failing(self, delivery: Delivery) -> None:
        """Note that a delivery failed and is repeated."""
        if self.failing is None:
            self.failing = {}
        self.failing[delivery.id] = delivery

    def retire(self, execution: Execution) -> None:
        """End an execution; its delivery gives its worker or its place back."""
        delivery = execution.delivery
        if delivery.status == RUNNING:
            self.queues.give_back(delivery.step)
        elif delivery.status == PARKED:
            self.parked -= 1
        elif delivery.status == READY:
            self.queues.remove(delivery)
        self._kill(execution)
        take_off(self.executions, execution)

    def kill_all(self) -> None:
        """End every execution; the deliveries stay as they are."""
        for execution in list(self.executions):
            execution.place = -1
            self._kill(execution)
        self.executions.clear()

    def _kill(self, execution: Execution) -> None:
        """Make an execution dead: its calls raise from now on, its task is cancelled."""
        execution.dead = True
        if execution.nested:
            for nested in list(execution.nested):
                nested.let_go() if execution.finished else nested.abandon()
        if execution.finished:
            execution.broker = execution.context = None
        else:
            execution.leave()
        delivery = execution.delivery
        if self.unsure:
            self.unsure.pop(delivery.id, None)
        delivery.execution = None
        if execution.timer is not None:
            self.timers.cancel(execution.timer)
            execution.timer = None
        if execution.lent_before is not None and self.undos is not None:
            repeated = self.journal is not None and not execution.finished
            self.undos.let_go(execution, self.journal.encoded_now if repeated and self.journal is not None else None)
        if execution.lent and self.journal is not None:
            self.journal.give_back(execution.lent)
        # What still waits in this attempt is told, so that no task or thread of it hangs.
        for waiter in delivery.waiters or ():
            if waiter.notify is not None:
                self.resume(waiter.notify, dead(execution))
                waiter.notify = None
        if execution.awaiting:
            for notify in execution.awaiting:
                self.resume(notify, dead(execution))
            execution.awaiting = None
        if execution.settled:
            for notify, _ in execution.settled:
                self.resume(notify, dead(execution))
            execution.settled = None
        if execution.body is not None:
            execution.body.end()
            execution.body = None

    def end(self, drop: Callable[[Delivery], None] | None) -> bool:
        """End every execution and drop every delivery, by `drop`; return whether a body was at work.

        Without `drop` the deliveries stay as they are, for the last snapshot.
        """
        at_work = bool(self.executions)
        if at_work:
            if drop is None:
                self._mark_at_work(RUNNING)
            self.kill_all()
        if self.deliveries:
            if drop is not None:
                for delivery in list(self.deliveries.values()):
                    drop(delivery)
            self.queues.clear()
            self.parked = 0
        self.queues.hot = None
        return at_work

    def freeze(self) -> list[Execution]:
        """End every execution, and return those at work; the deliveries of these are queued, to be run again."""
        at_work = self._mark_at_work(QUEUED)
        self.kill_all()
        return at_work

    def _mark_at_work(self, status: str) -> list[Execution]:
        """Give the deliveries whose bodies are at work a status; a body that works beside its waits is at work."""
        at_work = [each for each in self.executions if each.delivery.status == RUNNING]
        if self.unsure and self.works is not None:
            at_work += filter(self.works, self.unsure.values())
        for execution in at_work:
            self.parked -= execution.delivery.status == PARKED
            if execution.delivery.status != status:
                execution.delivery.status = status
                self.moved(execution.delivery)
        return at_work

    def leave(self) -> None:
        """Forget the timers of the deliveries, which refer back to them, and their events."""
        for delivery in self.deliveries.values():
            delivery.timer = None
            delivery.event = NO_EVENT  # what outlives a body keeps its delivery

    def take_resumed(self) -> list[tuple[Notify, Answer]]:
        """Hand over the waits whose bodies may go on."""
        taken, self.resumed = self.resumed, None
        return taken or []

    def resume(self, notify: Notify, answer: Answer) -> None:
        """Have a wait told its answer, once that is durable."""
        if self.resumed is None:
            self.resumed = []
        self.resumed.append((notify, answer))

    # -- the timeouts of steps ----------------------------------------------------------------------------------------

    def _start_clock(self, execution: Execution) -> None:
        if execution.remaining is not None:
            execution.timer = self.timers.add(self.clock.now() + execution.remaining, execution)
