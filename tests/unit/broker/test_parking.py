"""Parking: workers given back, answers handed to bodies, and bodies that work beside their waits."""

from __future__ import annotations

from tests.unit.broker.support import HandClock, Owner, config, enqueue, start, work

from stepwire.workflow.broker.deliveries.delivery import PARKED, READY, RUNNING
from stepwire.workflow.broker.ledger import TIMED_OUT, Answer
from stepwire.workflow.broker.waits.parking import any_works, hand, is_unsure, park, regain, take_back, unpark
from stepwire.workflow.errors import DeadAttemptError


def test_parking_gives_the_worker_back_and_stops_the_attempts_clock() -> None:
    made = work(a=config(timeout=10.0))
    assert isinstance(made.clock, HandClock)
    delivery = enqueue(made)
    execution = start(made)
    assert made.timers.next_due() == 110.0
    made.clock.time = 104.0
    park(made, execution)
    park(made, execution)
    assert (delivery.status, made.parked, made.active, made.queues["a"].running) == (PARKED, 1, 0, 0)
    assert (execution.open_waits, execution.remaining, made.timers.next_due()) == (2, 6.0, None)
    made.clock.time = 200.0
    unpark(made, delivery)
    assert (delivery.status, made.parked) == (READY, 0)
    told: list[object] = []
    execution.settle(told.append, DeadAttemptError("answer"))
    assert made.start_next(Owner()) is None, "the body goes on; it does not begin again"
    assert (delivery.status, delivery.attempt, made.timers.next_due()) == (RUNNING, 1, 206.0)
    assert len(made.take_resumed()) == 1
    assert made.take_resumed() == []


def test_the_answer_of_the_last_open_wait_queues_the_body_for_a_worker() -> None:
    made = work()
    delivery = enqueue(made)
    execution = start(made)
    told: list[Answer] = []
    park(made, execution)
    park(made, execution)
    hand(made, execution, told.append, TIMED_OUT)
    assert (delivery.status, made.take_resumed()) == (PARKED, [(told.append, TIMED_OUT)])
    hand(made, execution, told.append, TIMED_OUT)
    assert (delivery.status, made.take_resumed()) == (READY, []), "told once it has a worker"
    assert made.start_next(Owner()) is None
    assert (delivery.status, made.take_resumed()) == (RUNNING, [(told.append, TIMED_OUT)])


def test_a_body_that_gives_its_waits_up_is_told_when_it_has_a_worker_again() -> None:
    made = work()
    delivery = enqueue(made)
    execution = start(made)
    told: list[Answer] = []
    assert not regain(execution, told.append), "it holds one"
    park(made, execution)
    take_back(made, execution)
    assert delivery.status == READY
    assert regain(execution, told.append)
    assert made.start_next(Owner()) is None
    assert made.take_resumed() == [(told.append, TIMED_OUT)]


def test_a_parked_body_is_looked_at_until_it_only_waits() -> None:
    made = work()
    enqueue(made)
    execution = start(made)
    works = True
    made.works = lambda looked_at: works
    park(made, execution)
    assert any_works(made)
    assert is_unsure(made, execution)
    works = False
    assert not any_works(made)
    assert not is_unsure(made, execution)
    works = True
    assert not any_works(made), "nothing in it went on since"


def test_without_a_host_no_parked_body_is_looked_at() -> None:
    made = work()
    enqueue(made)
    execution = start(made)
    park(made, execution)
    assert not any_works(made)
    assert not is_unsure(made, execution)
