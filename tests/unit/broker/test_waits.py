"""Open waiters: which one an event resolves, and what becomes of the delivery that waits."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from tests.unit.broker.support import Item, Other, config, enqueue, start, work

from stepwire.workflow.broker.deliveries.delivery import PARKED, READY, Execution, Waiter
from stepwire.workflow.broker.deliveries.losses import lose
from stepwire.workflow.broker.deliveries.work import Work
from stepwire.workflow.broker.ledger import TIMED_OUT
from stepwire.workflow.broker.waits.waits import Waits


def waiting() -> tuple[Work, Waits, Execution]:
    made = work()
    enqueue(made)
    return made, Waits(made), start(made)


def open_wait(waits: Waits, execution: Execution | None, number: int, id: str = "q", **more: Any) -> Waiter:
    fields: dict[str, Any] = {"event_type": Item, "requirements": {}, "prompt": None, "timeout": None} | more
    waiter = waits.wait(lambda *_: None, execution, id, **fields)
    assert isinstance(waiter, Waiter)
    assert waiter.number == number
    return waiter


def test_an_answer_goes_to_the_ledger_and_unparks_the_delivery() -> None:
    made, waits, execution = waiting()
    waiter = open_wait(waits, execution, 1)
    waiter.notify = lambda answer: None
    assert execution.delivery.status == PARKED
    waits.settle(waiter, Item(n=1))
    assert execution.delivery.status == READY
    ledger = execution.delivery.ledger
    assert ledger is not None
    assert ledger.answered("q", 0, Item, {}) == Item(n=1)
    assert len(waits) == 0
    assert made.take_resumed() == []  # told when it has its worker again


def test_a_body_with_another_open_wait_is_told_without_a_worker() -> None:
    made, waits, execution = waiting()
    first, second = (open_wait(waits, execution, number) for number in (1, 2))
    first.notify = second.notify = lambda answer: None
    waits.settle(first, Item())
    assert execution.delivery.status == PARKED
    assert len(made.take_resumed()) == 1


def test_for_each_id_the_oldest_that_matches() -> None:
    _, waits, execution = waiting()
    first = open_wait(waits, execution, 1, requirements={"n": 1})
    second = open_wait(waits, execution, 2)
    third = open_wait(waits, execution, 3)
    other = open_wait(waits, execution, 4, id="r")
    assert waits.matching(Item(n=2)) == [second, other]
    assert waits.matching(Item(n=1)) == [first, other]
    assert waits.matching(Other()) == []
    waits.forget(second)
    assert waits.matching(Item(n=2)) == [third, other]


def test_deadlines_and_infinity() -> None:
    made, waits, execution = waiting()
    assert open_wait(waits, execution, 1, timeout=5.0).due == 105.0
    assert open_wait(waits, execution, 2, timeout=float("inf")).due is None
    assert made.timers.next_due() == 105.0
    assert made.timers.pop_due(105.0) == [waits.get(1)]


def test_what_an_earlier_execution_left() -> None:
    made, waits, execution = waiting()
    opened = open_wait(waits, execution, 1)
    lose(made, execution)
    again = start(made)
    assert waits.recorded(again, "other", Item, {}) is None
    assert waits.recorded(again, "q", Item, {}) is opened
    assert again.delivery.status == PARKED
    opened.notify = lambda answer: None
    waits.settle(opened, TIMED_OUT)
    lose(made, again)
    third = start(made)
    assert waits.recorded(third, "q", Item, {}) is TIMED_OUT
    assert waits.recorded(third, "q", Item, {}) is None  # the second wait of this id was never made


def test_a_call_that_differs_is_new() -> None:
    made, waits, execution = waiting()
    open_wait(waits, execution, 1)
    lose(made, execution)
    again = start(made)
    assert waits.recorded(again, "q", Item, {"n": 5}) is None
    assert len(waits) == 0, "the one of before is forgotten"


def test_outside_the_steps_a_wait_parks_nothing() -> None:
    made, waits, _ = waiting()
    waiter = open_wait(waits, None, 1)
    told: list[object] = []
    waiter.notify = told.append
    waits.settle(waiter, Item(n=3))
    ((notify, answer),) = made.take_resumed()
    notify(answer)
    assert told == [Item(n=3)]


def test_sleeps_wait_for_nothing_outside() -> None:
    _, waits, execution = waiting()
    open_wait(waits, execution, 1, event_type=None, timeout=1.0)
    assert (bool(waits), waits.outside) == (True, False)
    open_wait(waits, execution, 2)
    assert waits.outside


def test_steps_whose_waits_are_their_own_share_no_ids() -> None:
    steps = {name: replace(config(), own_waits=name != "c") for name in ("a", "b", "c", "d")}
    made = Work(steps)
    waits = Waits(made)
    opened = []
    for number, step in enumerate(("a", "a", "b", "c"), 1):
        made.enqueue(step, Item(), number, None, None)
        made.queues.hot = None
        delivery = made.deliveries[made.delivery_ids]
        waiter = Waiter(number, "q", Item, {}, None, None, delivery, 0)
        waits.add(waiter)
        opened.append(waiter)
    shared = Waiter(5, "q", Item, {}, None, None, None, 0)
    waits.add(shared)
    assert waits.matching(Item()) == [opened[0], opened[2], opened[3]], "the oldest of each such step, and of the rest"


def test_a_question_that_was_withdrawn_is_not_asked_again_by_the_same_wait() -> None:
    made, waits, execution = waiting()
    waiter = open_wait(waits, execution, 1, prompt=Other(n=1))
    waiter.notify = lambda answer: None
    assert waits.abandon(waiter, execution, lambda answer: None)
    assert not waits.asked(execution, "q", Other(n=1)), "its next wait asks"
    lose(made, execution)
    again = start(made)
    assert waits.recorded(again, "q", Item, {}) is None
    assert waits.asked(again, "q", Other(n=1))
    assert not waits.asked(again, "q", Other(n=2)), "another question is new"
    second = open_wait(waits, again, 2, prompt=Other(n=1))
    waits.settle(second, Item(n=5))
    assert waits.recorded(again, "q", Item, {}) is None
    lose(made, again)
    assert waits.recorded(start(made), "q", Item, {}) == Item(n=5)
