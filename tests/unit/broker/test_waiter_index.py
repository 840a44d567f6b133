"""Many waiters for one type: an event finds the same ones as if each was looked at."""

from __future__ import annotations

import enum
import random
from typing import Any

import pytest

from stepwire.workflow import Event
from stepwire.workflow.broker.deliveries.delivery import Waiter
from stepwire.workflow.broker.deliveries.work import Work
from stepwire.workflow.broker.waits.waits import Waits


class Colour(enum.StrEnum):
    RED = "red"


class Said(str):
    """A text that equals others of another hash."""

    def __eq__(self, other: object) -> bool:
        return isinstance(other, str) and self.lower() == other.lower()

    __hash__ = str.__hash__


class Answer(Event):
    number: Any = None


def waits_of(asked: list[dict[str, Any]], *, ids: int) -> tuple[Waits, list[Waiter]]:
    """Return waits with a waiter for each of these requirements."""
    waits = Waits(Work({}))
    made = [Waiter(n + 1, f"id-{n % ids}", Answer, fields, None, None, None, 0) for n, fields in enumerate(asked)]
    for waiter in made:
        waits.add(waiter)
    return waits, made


def brute(made: list[Waiter], event: Event) -> list[int]:
    """Return the numbers of the oldest waiters of each id that match."""
    found: dict[str, int] = {}
    for waiter in made:
        if waiter.matches(event):
            found.setdefault(waiter.id, waiter.number)
    return list(found.values())


VALUES: list[Any] = [0, 1, 1.0, True, "red", Colour.RED, Said("RED"), "", None, [1], {"a": 1}, float("nan"), (1,)]


@pytest.mark.parametrize("seed", range(20))
def test_s10_an_event_resolves_the_same_waiters_however_many_there_are(seed: int) -> None:
    chance = random.Random(seed)
    asked: list[dict[str, Any]] = []
    for _ in range(60):
        names = chance.sample(["number", "extra", "other"], chance.randrange(4))
        asked.append({name: chance.choice(VALUES) for name in names})
    waits, made = waits_of(asked, ids=chance.choice([3, 60]))
    for value in VALUES:
        for event in (Answer(number=value), Answer(number=value, extra=chance.choice(VALUES)), Answer(extra=value)):
            assert [waiter.number for waiter in waits.matching(event)] == brute(made, event)
        gone = made.pop(chance.randrange(len(made)))
        waits.remove(gone)
        late = Waiter(1000 + len(made), f"late-{value}", Answer, {"number": value}, None, None, None, 0)
        if made[-1].number < late.number:
            waits.add(late)
            made.append(late)


def test_a_type_that_many_waited_for_can_be_waited_for_again() -> None:
    waits, made = waits_of([{"number": n} for n in range(20)], ids=20)
    assert [waiter.number for waiter in waits.matching(Answer(number=7))] == [8]
    for waiter in made:
        waits.remove(waiter)
    assert not waits
    assert waits.matching(Answer(number=7)) == []
    again = Waiter(50, "again", Answer, {"number": 7}, None, None, None, 0)
    waits.add(again)
    assert waits.matching(Answer(number=7)) == [again]
