"""Collect buffers: all or nothing, in the order of arrival."""

from __future__ import annotations

import pytest
from tests.unit.broker.support import Item, Other, work

from stepwire.workflow.broker.deliveries.buffers import Buffers
from stepwire.workflow.broker.ledger import Buffered
from stepwire.workflow.broker.waits.default_names import default_buffer_id
from stepwire.workflow.errors import WorkflowRuntimeError
from stepwire.workflow.events import Event


def filled(*events: Event) -> Buffers:
    buffers = Buffers(work())
    for number, event in enumerate(events, 1):
        buffers.add(Buffered(number, "x", event, None))
    return buffers


def taken(buffers: Buffers, *expected: type[Event]) -> list[Event] | None:
    found = buffers.take("x", expected)
    return None if found is None else [item.give() for item in found]


def test_all_or_nothing() -> None:
    buffers = filled(Item(n=1), Item(n=2))
    assert taken(buffers, Item, Other) is None
    assert len(buffers) == 2
    buffers.add(Buffered(3, "x", Other(n=9), None))
    assert taken(buffers, Other, Item) == [Other(n=9), Item(n=1)]
    assert taken(buffers, Item, Item) is None
    assert taken(buffers, Item) == [Item(n=2)]
    assert len(buffers) == 0


def test_what_is_put_back_is_the_oldest_again() -> None:
    buffers = filled(Item(n=1), Item(n=2), Item(n=3))
    first = buffers.take("x", [Item, Item])
    assert first is not None
    buffers.put_back(first)
    assert taken(buffers, Item, Item, Item) == [Item(n=1), Item(n=2), Item(n=3)]


def test_taken_ones_are_found_by_number_until_they_are_dropped() -> None:
    buffers = filled(Item(n=1))
    items = buffers.take("x", [Item])
    assert items is not None
    assert (buffers.get(1), buffers.numbers(), list(buffers)) == (items[0], [1], [])
    buffers.drop(items)
    assert (buffers.get(1), buffers.numbers()) == (None, [])


def test_buffers_do_not_share() -> None:
    buffers = filled(Item(n=1))
    assert buffers.take("y", [Item]) is None
    assert default_buffer_id("a", [Item, Other]) == default_buffer_id("a", [Other, Item])
    assert default_buffer_id("a", [Item]) != default_buffer_id("b", [Item])


@pytest.mark.parametrize("expected", [Item, 5, [Item(), Item()], ["Item"]])
def test_only_event_classes_can_be_expected(expected: object) -> None:
    with pytest.raises(WorkflowRuntimeError):
        Buffers(work()).count(expected)  # type: ignore[arg-type]
