"""The queues of steps: order, workers, and which queues are looked at."""

from __future__ import annotations

from tests.unit.broker.support import Item, config

from stepwire.workflow.broker.deliveries.delivery import READY, Delivery
from stepwire.workflow.broker.deliveries.queue import Queues


def delivery(number: int, step: str = "a", attempt: int = 0) -> Delivery:
    made = Delivery(number, step, Item(), number)
    made.attempt = attempt
    return made


def test_first_in_first_out_within_the_workers() -> None:
    queues = Queues({"a": config(num_workers=2)})
    for number in (1, 2, 3):
        queues.append(delivery(number))
    assert [each.id for each in (queues.take(), queues.take()) if each] == [1, 2]
    assert queues.take() is None
    queues.give_back("a")
    third = queues.take()
    assert third is not None
    assert third.id == 3
    assert len(queues) == 0


def test_what_was_started_before_keeps_its_place_by_id() -> None:
    queues = Queues({"a": config(num_workers=9)})
    queues.append(delivery(5))
    queues.push(delivery(7, attempt=1))
    queues.push(delivery(3, attempt=1))
    ready = delivery(4)
    ready.status = READY
    queues.push(ready)
    assert [each.id for each in iter(queues.take, None)] == [3, 4, 5, 7]


def test_again_only_passes_over_what_never_started_until_asked_to_look_again() -> None:
    queues = Queues({"a": config(num_workers=9)})
    queues.append(delivery(1))
    queues.push(delivery(2, attempt=1))
    assert [each.id for each in iter(lambda: queues.take(again_only=True), None)] == [2]
    assert queues.take() is None  # it is not looked at any more
    queues.look_again()
    assert [each.id for each in iter(queues.take, None)] == [1]


def test_only_queues_with_news_are_looked_at() -> None:
    queues = Queues({"a": config(), "b": config()})
    assert not queues.hot
    queues.append(delivery(1, "b"))
    assert queues.hot == {"b": None}
    assert queues.take() is not None
    assert queues.take() is None
    assert not queues.hot
    queues.give_back("b")
    assert not queues.hot, "a free worker is no news where nothing waits"


def test_a_queue_is_looked_at_when_one_of_its_workers_is_free_again() -> None:
    queues = Queues({"a": config(num_workers=1)})
    queues.append(delivery(1))
    assert queues.take() is not None
    queues.append(delivery(2))
    assert not queues.hot, "every worker is busy"
    queues.give_back("a")
    assert queues.hot == {"a": None}
    assert (taken := queues.take()) is not None
    assert taken.id == 2


def test_removing_and_clearing() -> None:
    queues = Queues({"a": config(num_workers=9)})
    again = [delivery(number, attempt=1) for number in (1, 2, 3)]
    for each in again:
        queues.push(each)
    queues.remove(again[1])
    assert sorted(each.id for each in queues["a"]) == [1, 3]
    assert queues.take() is again[0]
    queues.clear()
    assert (len(queues), queues["a"].running, queues.take()) == (0, 0, None)
