"""A step that returns very much: it is encoded and taken in slices, other work in between."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any

import pytest

from stepwire.workflow import Event, Workflow, step
from stepwire.workflow.broker.broker import SLICE, Broker
from stepwire.workflow.broker.deliveries.delivery import Execution
from stepwire.workflow.broker.log.entries import RECEIVED
from stepwire.workflow.broker.log.journal import Journal
from stepwire.workflow.definition.routing import Routing
from stepwire.workflow.definition.types import TypeRegistry
from stepwire.workflow.runner.slices import encode_in_slices, take_the_rest
from stepwire.workflow.state.store import InMemoryStateStore


class Order(Event):
    pass


class Item(Event):
    n: int


class Split(Workflow):
    @step
    async def split(self, ev: Order) -> list[Item]:
        """Return very much."""
        return []

    @step
    async def take(self, ev: Item) -> None:
        """Take an Item."""


STEPS: dict[str, Callable[..., Any]] = {"split": Split.split, "take": Split.take}


def split() -> tuple[Broker, Execution]:
    """Return a run with a journal, and the attempt that is about to return very much."""
    broker = Broker(Routing(STEPS), InMemoryStateStore.empty())
    broker.keep(Journal(TypeRegistry.of(Split, STEPS)))
    broker.begin(None, None)
    broker.accept(Order(), kind=RECEIVED)
    execution = broker.work.start_next(broker)
    assert execution is not None
    return broker, execution


OUTPUTS: list[Event] = [Item(n=n) for n in range(2 * SLICE + 1)]


async def test_all_is_taken_in_order_and_the_transition_is_whole() -> None:
    broker, execution = split()
    broker.finish_in_slices(execution, await encode_in_slices(broker, OUTPUTS))
    assert not broker.deliveries, "nothing is taken before the first slice"
    await take_the_rest(broker, None)
    assert broker.partial is None
    assert [each.event for each in broker.deliveries.values()] == OUTPUTS


async def test_a_cancellation_leaves_no_part_untaken() -> None:
    broker, execution = split()
    broker.finish_in_slices(execution, await encode_in_slices(broker, OUTPUTS))
    task = asyncio.create_task(take_the_rest(broker, None))
    await asyncio.sleep(0)
    assert len(broker.deliveries) == SLICE
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert (broker.partial, len(broker.deliveries)) == (None, len(OUTPUTS))


async def test_the_next_step_waits_until_the_one_before_is_taken() -> None:
    broker, execution = split()
    broker.finish_in_slices(execution, await encode_in_slices(broker, OUTPUTS))
    encoding = asyncio.create_task(encode_in_slices(broker, OUTPUTS[:1]))
    for _ in range(5):
        await asyncio.sleep(0)
    assert not encoding.done()
    await take_the_rest(broker, None)
    assert len(await encoding) == 1
