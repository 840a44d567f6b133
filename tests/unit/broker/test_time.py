"""Time: the run's limit, and timers."""

from __future__ import annotations

import pytest

from stepwire.workflow.broker.timing.clock import Clock, TimeLimit, finite
from stepwire.workflow.broker.timing.timers import TimerQueue


def test_a_limit_stands_still_while_it_is_stopped() -> None:
    limit = TimeLimit()
    limit.set(10.0)
    assert (limit.remaining, limit.due) == (10.0, None)
    assert limit.tick(100.0, stopped=False)
    assert (limit.remaining, limit.due) == (None, 110.0)
    assert not limit.tick(101.0, stopped=False)
    assert limit.tick(104.0, stopped=True)
    assert (limit.remaining, limit.due) == (6.0, None)
    assert not limit.tick(500.0, stopped=True)
    assert limit.tick(600.0, stopped=False)
    assert limit.due == 606.0
    assert limit.tick(700.0, stopped=True)
    assert limit.remaining == 0.0
    limit.clear()
    assert not limit.tick(800.0, stopped=False), "it does not start again"


@pytest.mark.parametrize("seconds", [None, float("inf")])
def test_no_limit(seconds: float | None) -> None:
    limit = TimeLimit()
    limit.set(seconds)
    assert not limit.tick(100.0, stopped=False)
    assert (limit.seconds, limit.due, finite(seconds)) == (None, None, None)


def test_a_clock_goes_forward() -> None:
    clock = Clock()
    assert 0 < clock.now() <= clock.now()


def test_timers_come_in_the_order_of_their_due_times() -> None:
    timers: TimerQueue[str] = TimerQueue()
    timers.add(3.0, "c")
    second = timers.add(2.0, "b")
    timers.add(1.0, "a")
    assert timers.next_due() == 1.0
    timers.cancel(second)
    timers.cancel(second)
    assert timers.pop_due(2.5) == ["a"]
    assert timers.pop_due(3.0) == ["c"]
    assert timers.next_due() is None


def test_cancelled_timers_do_not_pile_up() -> None:
    timers: TimerQueue[int] = TimerQueue()
    kept = timers.add(1e9, 0)
    for number in range(10_000):
        timers.cancel(timers.add(float(number), number))
    assert timers.next_due() == kept.due
    timers.clear()
    assert timers.next_due() is None
