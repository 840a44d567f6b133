"""The work of a run: its deliveries, the attempts at them, and who holds a worker."""

from __future__ import annotations

from collections.abc import Callable, Mapping

from stepwire.workflow.broker import parts
from stepwire.workflow.broker.clock import CLOCK, Clock
from stepwire.workflow.broker.delivery import (
    BACKOFF,
    MAX_LOST_EXECUTIONS,
    PARKED,
    QUEUED,
    READY,
    RUNNING,
    Delivery,
    Execution,
    RunBroker,
    Waiter,
)
from stepwire.workflow.broker.journal import Journal
from stepwire.workflow.broker.ledger import Answer, Notify
from stepwire.workflow.broker.queue import Queues
from stepwire.workflow.broker.timers import TimerQueue
from stepwire.workflow.definition.step_config import StepConfig
from stepwire.workflow.errors import DeadAttemptError
from stepwire.workflow.events import Event

__all__ = ["Work", "dead"]


class Work:
    """Start, park, repeat and finish deliveries.

    Attributes:
        deliveries: The deliveries that are not through, by id.
        executions: The attempts under way, by the id of their delivery.
        queues: The deliveries that wait for a worker.
        delivery_ids: The last id given to a delivery.
        parked: How many deliveries are parked.
        poisoned: Deliveries that were lost to crashes too often; the runner fails them.
        resumed: Waits whose bodies may go on; the runner tells them once it is durable.
        clock: What time it is.
        journal: Takes the parts that changed; None when nothing is made durable.
        works: Tells whether the body of a parked delivery does something beside its waits; None: it never does.
        unsure: Parked executions that worked when they were last looked at, or that were not looked at yet;
            None before the first.
    """

    __slots__ = (
        "_steps",
        "_timers",
        "clock",
        "deliveries",
        "delivery_ids",
        "executions",
        "journal",
        "parked",
        "poisoned",
        "queues",
        "resumed",
        "unsure",
        "works",
    )

    def __init__(self, steps: Mapping[str, StepConfig]) -> None:
        self._steps = steps
        self.deliveries: dict[int, Delivery] = {}
        self.executions: dict[int, Execution] = {}
        self.queues = Queues(steps)
        self.delivery_ids = 0
        self.parked = 0
        self.poisoned: list[Delivery] = []
        self.resumed: list[tuple[Notify, Answer]] = []
        self._timers: TimerQueue[Delivery | Waiter | Execution] | None = None
        self.clock: Clock = CLOCK
        self.journal: Journal | None = None
        self.works: Callable[[Execution], bool] | None = None
        self.unsure: dict[int, Execution] | None = None

    @property
    def timers(self) -> TimerQueue[Delivery | Waiter | Execution]:
        """Return what falls due: back-offs, deadlines of waits, timeouts of steps; made at the first need."""
        if self._timers is None:
            self._timers = TimerQueue()
        return self._timers

    def next_due(self) -> float | None:
        """Return when the next of them falls due."""
        return None if self._timers is None else self._timers.next_due()

    def clear_timers(self) -> None:
        """Forget what falls due."""
        if self._timers is not None:
            self._timers.clear()

    @property
    def active(self) -> int:
        """How many deliveries are queued, running, ready or in back-off."""
        return len(self.deliveries) - self.parked

    @property
    def working(self) -> bool:
        """Whether the body of a parked delivery works beside its waits."""
        works, unsure = self.works, self.unsure
        if works is None or not unsure:
            return False
        for number, execution in list(unsure.items()):
            if works(execution):
                return True
            del unsure[number]
            if execution.beside:
                execution.beside = False
                self.touch(execution.delivery)
        return False

    def look_at(self, execution: Execution) -> None:
        """Have `working` look at a parked execution: something in it went on."""
        if self.works is not None:
            if self.unsure is None:
                self.unsure = {}
            self.unsure[execution.delivery.id] = execution

    # -- deliveries ---------------------------------------------------------------------------------------------------

    def enqueue(self, step: str, event: Event, sequence: int, encoded: bytes | None) -> None:
        """Add a delivery behind the others of its step."""
        self.delivery_ids += 1
        delivery = Delivery(self.delivery_ids, step, event, sequence, encoded)
        self.deliveries[delivery.id] = delivery
        self.queues.append(delivery)
        if self.journal is not None:
            self.touch(delivery)

    def requeue(self, delivery: Delivery) -> None:
        """Queue a delivery that was in back-off, that waited or that is to run again."""
        delivery.due = delivery.timer = None
        delivery.status = QUEUED
        self.queues.push(delivery)
        self.touch(delivery)

    def arm(self, due: float, item: Delivery | Waiter) -> None:
        """Set the timer of a delivery in back-off, or of the deadline of a wait."""
        item.timer = self.timers.add(due, item)

    def drop(self, delivery: Delivery) -> None:
        """Forget a delivery that is through, with its effects and answers."""
        self.deliveries.pop(delivery.id, None)
        if delivery.timer is not None:
            self.timers.cancel(delivery.timer)
        if self.journal is not None:
            self.touch(delivery)
            self._drop_effects(delivery)
            if delivery.ledger is not None:
                for number in range(len(delivery.ledger.answers)):
                    self.journal.touch(parts.answer(delivery.id, number))

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

    def touch(self, delivery: Delivery) -> None:
        """Note that a delivery's part of the snapshot changed."""
        if self.journal is not None:
            self.journal.touch(parts.delivery(delivery.id))

    # -- attempts -----------------------------------------------------------------------------------------------------

    def start_next(self, broker: RunBroker, again_only: bool = False) -> Execution | None:
        """Start the next delivery that has a worker, in order; None when there is none.

        A delivery whose body was only parked goes on: its answers move to `resumed`. `again_only` takes none that
        never started.
        """
        queues = self.queues
        while queues.hot and (delivery := queues.take(again_only)) is not None:
            delivery.status = RUNNING
            if self.journal is not None:
                self.touch(delivery)
            execution = delivery.execution
            if execution is None:
                delivery.attempt += 1
                if delivery.first_started is None:
                    delivery.first_started = self.clock.now()
                execution = Execution(broker, delivery)
                delivery.execution = execution
                self.executions[delivery.id] = execution
                timeout = self._steps[delivery.step].timeout
                if timeout is not None:
                    execution.remaining = timeout
                    self._start_clock(execution)
                return execution
            self._start_clock(execution)
            if execution.settled:
                self.resumed += execution.settled
                execution.settled = None
        return None

    def retry(self, execution: Execution, delay: float) -> None:
        """Note a failure and run the delivery again after `delay` seconds (S2)."""
        delivery = execution.delivery
        delivery.failures += 1
        self.retire(execution)
        self._drop_effects(delivery)
        delivery.effects = None
        if delay <= 0:
            self.requeue(delivery)
        else:
            delivery.status = BACKOFF
            delivery.due = self.clock.now() + delay
            self.arm(delivery.due, delivery)
            self.touch(delivery)

    def lose(self, execution: Execution) -> None:
        """Note an execution that was lost though the process lives; it runs again as after a crash."""
        delivery = execution.delivery
        self.retire(execution)
        delivery.lost += 1
        if delivery.lost >= MAX_LOST_EXECUTIONS:
            delivery.status = QUEUED
            self.poisoned.append(delivery)
            self.touch(delivery)
        else:
            self.requeue(delivery)

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
        self.executions.pop(delivery.id, None)

    def kill_all(self) -> None:
        """End every execution; the deliveries stay as they are."""
        for execution in list(self.executions.values()):
            self._kill(execution)
        self.executions.clear()

    def _kill(self, execution: Execution) -> None:
        """Make an execution dead: its calls raise from now on, its task is cancelled."""
        execution.dead = True
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
        if execution.lent and self.journal is not None:
            self.journal.give_back(execution.lent)
        # What still waits in this attempt is told, so that no task or thread of it hangs.
        for waiter in delivery.waiters or ():
            if waiter.notify is not None:
                self.resumed.append((waiter.notify, dead(execution)))
                waiter.notify = None
        if execution.settled:
            self.resumed += [(notify, dead(execution)) for notify, _ in execution.settled]
            execution.settled = None
        if execution.cancel is not None:
            execution.cancel()
            execution.cancel = None

    def take_resumed(self) -> list[tuple[Notify, Answer]]:
        """Hand over the waits whose bodies may go on."""
        taken, self.resumed = self.resumed, []
        return taken

    # -- parking ------------------------------------------------------------------------------------------------------

    def park(self, execution: Execution) -> None:
        """Give the worker back while at least one wait of the execution is open (S11)."""
        execution.open_waits += 1
        delivery = execution.delivery
        if delivery.status == RUNNING:
            self.queues.give_back(delivery.step)
            self._stop_clock(execution)
            delivery.status = PARKED
            self.parked += 1
            self.touch(delivery)
        self.look_at(execution)

    def unpark(self, delivery: Delivery) -> None:
        """Queue a parked delivery for a worker, so that its body goes on."""
        self.parked -= 1
        if self.unsure:
            self.unsure.pop(delivery.id, None)
        delivery.status = READY
        self.queues.push(delivery)
        self.touch(delivery)

    # -- the timeouts of steps ----------------------------------------------------------------------------------------

    def _start_clock(self, execution: Execution) -> None:
        if execution.remaining is not None:
            execution.timer = self.timers.add(self.clock.now() + execution.remaining, execution)

    def _stop_clock(self, execution: Execution) -> None:
        """Stop the clock of the step's timeout: a step that waits takes no time."""
        if execution.timer is not None:
            execution.remaining = max(0.0, execution.timer.due - self.clock.now())
            self.timers.cancel(execution.timer)
            execution.timer = None


def dead(execution: Execution) -> DeadAttemptError:
    """Return the error of a call by an attempt that was abandoned."""
    return DeadAttemptError(f"step '{execution.delivery.step}' goes on after its attempt was abandoned")
