"""Deliveries and attempts: workers, retries, losses, parking and timeouts."""

from __future__ import annotations

import pytest
from tests.unit.broker.support import HandClock, Owner, config, enqueue, start, work

from stepwire.workflow.broker.delivery import (
    BACKOFF,
    MAX_LOST_EXECUTIONS,
    PARKED,
    QUEUED,
    READY,
    RUNNING,
)
from stepwire.workflow.errors import DeadAttemptError


def test_a_delivery_starts_when_a_worker_is_free() -> None:
    made = work()
    first, second = enqueue(made), enqueue(made)
    execution = start(made)
    assert (execution.delivery, first.status, first.attempt, first.first_started) == (first, RUNNING, 1, 100.0)
    assert made.start_next(Owner()) is None
    made.retire(execution)
    made.drop(first)
    assert start(made).delivery is second
    assert list(made.deliveries) == [second.id]


def test_a_retry_keeps_the_delivery_and_forgets_its_effects() -> None:
    made = work()
    delivery = enqueue(made)
    execution = start(made)
    assert not made.repeats(execution, b"12345678")
    made.retry(execution, 5.0)
    assert execution.dead
    assert (delivery.status, delivery.due, delivery.failures, delivery.effects) == (BACKOFF, 105.0, 1, None)
    assert (made.active, made.timers.next_due()) == (1, 105.0)
    (due,) = made.timers.pop_due(105.0)
    assert due is delivery
    made.requeue(delivery)
    assert start(made).delivery.attempt == 2


def test_a_lost_execution_repeats_no_effects_and_is_poison_in_the_end() -> None:
    made = work()
    delivery = enqueue(made)
    execution = start(made)
    made.repeats(execution, b"12345678")
    # The first one gets further than before, which clears it. The others do not repeat all that was done.
    for number in range(MAX_LOST_EXECUTIONS):
        made.lose(execution)
        assert not made.poisoned
        execution = start(made)
        assert made.repeats(execution, b"12345678")
        assert not made.repeats(execution, b"other%03d" % number), "only what was done is left out"
    made.lose(execution)
    assert made.poisoned == [delivery]
    assert made.start_next(Owner()) is None


def test_parking_gives_the_worker_back_and_stops_the_attempts_clock() -> None:
    made = work(a=config(timeout=10.0))
    assert isinstance(made.clock, HandClock)
    delivery = enqueue(made)
    execution = start(made)
    assert made.timers.next_due() == 110.0
    made.clock.time = 104.0
    made.park(execution)
    made.park(execution)
    assert (delivery.status, made.parked, made.active, made.queues["a"].running) == (PARKED, 1, 0, 0)
    assert (execution.open_waits, execution.remaining, made.timers.next_due()) == (2, 6.0, None)
    made.clock.time = 200.0
    made.unpark(delivery)
    assert (delivery.status, made.parked) == (READY, 0)
    told: list[object] = []
    execution.settle(told.append, DeadAttemptError("answer"))
    assert made.start_next(Owner()) is None, "the body goes on; it does not begin again"
    assert (delivery.status, delivery.attempt, made.timers.next_due()) == (RUNNING, 1, 206.0)
    assert len(made.take_resumed()) == 1
    assert made.take_resumed() == []


@pytest.mark.parametrize("status", [RUNNING, PARKED, READY])
def test_retiring_gives_back_what_the_delivery_holds(status: str) -> None:
    made = work()
    delivery = enqueue(made)
    execution = start(made)
    if status != RUNNING:
        made.park(execution)
    if status == READY:
        made.unpark(delivery)
    made.retire(execution)
    assert (made.queues["a"].running, made.parked, len(made.queues), made.executions) == (0, 0, 0, {})


def test_a_killed_execution_tells_what_waits_in_it_and_is_cancelled() -> None:
    made = work()
    enqueue(made)
    execution = start(made)
    cancelled: list[bool] = []
    execution.cancel = lambda: cancelled.append(True)
    execution.settle(lambda answer: None, DeadAttemptError("x"))
    made.kill_all()
    assert (execution.dead, cancelled, made.executions) == (True, [True], {})
    ((_, answer),) = made.take_resumed()
    assert isinstance(answer, DeadAttemptError)
    assert execution.delivery.status == RUNNING, "its delivery is left as it was"


def test_a_lost_delivery_is_queued_at_once_when_its_retry_has_no_delay() -> None:
    made = work()
    delivery = enqueue(made)
    made.retry(start(made), 0.0)
    assert delivery.status == QUEUED
    assert start(made).delivery is delivery
