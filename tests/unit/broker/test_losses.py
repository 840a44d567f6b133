"""Lost executions: they repeat no effects, and too many are poison."""

from __future__ import annotations

from tests.unit.broker.support import Owner, enqueue, start, work

from stepwire.workflow.broker.deliveries.delivery import QUEUED
from stepwire.workflow.broker.deliveries.losses import MAX_LOST_EXECUTIONS, lose, poison


def test_a_lost_execution_repeats_no_effects_and_is_poison_in_the_end() -> None:
    made = work()
    delivery = enqueue(made)
    execution = start(made)
    made.repeats(execution, b"12345678")
    # The first one gets further than before, which clears it. The others do not repeat all that was done.
    for number in range(MAX_LOST_EXECUTIONS):
        lose(made, execution)
        assert not made.poisoned
        execution = start(made)
        assert made.repeats(execution, b"12345678")
        assert not made.repeats(execution, b"other%03d" % number), "only what was done is left out"
    lose(made, execution)
    assert made.poisoned == [delivery]
    assert made.start_next(Owner()) is None


def test_a_lost_delivery_runs_again_at_once() -> None:
    made = work()
    delivery = enqueue(made)
    lose(made, start(made))
    assert (delivery.status, delivery.lost, made.poisoned) == (QUEUED, 1, None)
    assert start(made).delivery is delivery


def test_only_a_delivery_that_was_lost_too_often_is_poison() -> None:
    made = work()
    few, many = enqueue(made), enqueue(made)
    few.lost, many.lost = MAX_LOST_EXECUTIONS - 1, MAX_LOST_EXECUTIONS
    assert (poison(made, few), poison(made, many)) == (False, True)
    assert made.poisoned == [many]
