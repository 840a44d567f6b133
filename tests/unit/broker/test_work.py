"""Deliveries and attempts: workers, retries and their ends."""

from __future__ import annotations

from types import SimpleNamespace

import pytest
from tests.unit.broker.support import Owner, enqueue, start, work

from stepwire.workflow.broker.deliveries.delivery import (
    BACKOFF,
    PARKED,
    QUEUED,
    READY,
    RUNNING,
)
from stepwire.workflow.broker.waits.parking import park, unpark
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


@pytest.mark.parametrize("status", [RUNNING, PARKED, READY])
def test_retiring_gives_back_what_the_delivery_holds(status: str) -> None:
    made = work()
    delivery = enqueue(made)
    execution = start(made)
    if status != RUNNING:
        park(made, execution)
    if status == READY:
        unpark(made, delivery)
    made.retire(execution)
    assert (made.queues["a"].running, made.parked, len(made.queues), list(made.executions)) == (0, 0, 0, [])


def test_a_killed_execution_tells_what_waits_in_it_and_is_cancelled() -> None:
    made = work()
    enqueue(made)
    execution = start(made)
    cancelled: list[bool] = []
    execution.body = SimpleNamespace(end=lambda: cancelled.append(True))
    execution.settle(lambda answer: None, DeadAttemptError("x"))
    made.kill_all()
    assert (execution.dead, cancelled, list(made.executions)) == (True, [True], [])
    ((_, answer),) = made.take_resumed()
    assert isinstance(answer, DeadAttemptError)
    assert execution.delivery.status == RUNNING, "its delivery is left as it was"


def test_a_lost_delivery_is_queued_at_once_when_its_retry_has_no_delay() -> None:
    made = work()
    delivery = enqueue(made)
    made.retry(start(made), 0.0)
    assert delivery.status == QUEUED
    assert start(made).delivery is delivery
