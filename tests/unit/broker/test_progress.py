"""Whether a run goes on, waits for the outside or has stalled, and what its clock does (S14)."""

from __future__ import annotations

from tests.unit.broker.support import HandClock, Item, Other

from stepwire.workflow import InputRequiredEvent, Workflow, step
from stepwire.workflow.broker.broker import Broker
from stepwire.workflow.broker.children.nesting import OuterStep
from stepwire.workflow.broker.deliveries.delivery import Execution, Waiter
from stepwire.workflow.broker.log.entries import RECEIVED
from stepwire.workflow.broker.progress import has_stalled, is_at_work, is_idle, may_leave, pauses, tick, waits_outside
from stepwire.workflow.definition.routing import Routing
from stepwire.workflow.state.store import InMemoryStateStore


class OneStep(Workflow):
    @step
    async def one(self, ev: Item) -> None:
        """Take an Item."""


def made() -> tuple[Broker, HandClock]:
    """Return a run of one step that has begun, with 60 seconds, and its clock."""
    broker, clock = Broker(Routing({"one": OneStep.one}), InMemoryStateStore.empty()), HandClock()
    broker.work.clock = clock
    broker.begin(None, 60.0)
    tick(broker)
    return broker, clock


def started(broker: Broker) -> Execution:
    broker.accept(Item(), kind=RECEIVED)
    execution = broker.work.start_next(broker)
    assert execution is not None
    return execution


def limit_of(broker: Broker) -> tuple[float | None, float | None]:
    """Return when the run's time limit falls due, and the seconds that are left while it stands still."""
    return broker.limit.due, broker.limit.remaining


class Outer:
    """Stands for the step of a run whose clock stands still while it waits."""

    pauses = True
    asks = True

    def asked(self, question: InputRequiredEvent) -> None:
        """Do nothing."""

    def moved(self) -> None:
        """Do nothing."""


def test_a_run_with_nothing_to_do_has_stalled() -> None:
    broker, _ = made()
    assert is_idle(broker)
    assert not waits_outside(broker)
    assert has_stalled(broker)


def test_a_body_at_work_is_progress() -> None:
    broker, _ = made()
    execution = started(broker)
    assert is_at_work(broker)
    assert not is_idle(broker)
    assert not has_stalled(broker)
    assert not may_leave(broker)
    broker.finish(execution, [])
    assert not is_at_work(broker)
    assert may_leave(broker)


def test_a_body_that_waits_for_an_event_waits_for_the_outside() -> None:
    broker, _ = made()
    execution = started(broker)
    assert isinstance(broker.wait(execution, "w", Other, {}, None, None), Waiter)
    assert is_idle(broker)
    assert waits_outside(broker)
    assert may_leave(broker)
    assert not is_at_work(broker)
    assert not has_stalled(broker)


def test_a_durable_sleep_waits_for_nobody() -> None:
    broker, _ = made()
    broker.wait(started(broker), "sleep", None, {}, None, 5.0)
    assert is_idle(broker)
    assert not waits_outside(broker)
    assert not has_stalled(broker)


def test_a_run_in_which_somebody_outside_its_steps_waits_may_not_leave() -> None:
    broker, _ = made()
    broker.wait(None, "w", Other, {}, None, None)
    assert is_idle(broker)
    assert not may_leave(broker)


def test_the_clock_stands_still_only_where_it_pauses() -> None:
    broker, clock = made()
    broker.put(InputRequiredEvent())
    assert waits_outside(broker)
    assert not pauses(broker)
    tick(broker)
    assert limit_of(broker)[0] == clock.time + 60.0
    outer: OuterStep = Outer()
    broker.outer = outer
    assert pauses(broker)
    clock.time += 10.0
    tick(broker)
    assert limit_of(broker) == (None, 50.0)
    clock.time += 1000.0
    broker.accept(Item(), kind=RECEIVED)
    tick(broker)
    assert limit_of(broker)[0] == clock.time + 50.0


def test_the_clock_of_a_held_run_stands_still() -> None:
    broker, clock = made()
    started(broker)
    broker.hold(True)
    tick(broker)
    assert limit_of(broker) == (None, 60.0)
    broker.hold(False)
    tick(broker)
    assert limit_of(broker)[0] == clock.time + 60.0
