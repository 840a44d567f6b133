"""What the body of a step gets: its event, or a copy if the event is needed again."""

from __future__ import annotations

import pytest

from stepwire.workflow import Event, StepFailedEvent, Workflow, catch_error, step
from stepwire.workflow.broker.broker import Broker
from stepwire.workflow.broker.deliveries.delivery import Delivery
from stepwire.workflow.broker.log.journal import Journal
from stepwire.workflow.definition.routing import Routing
from stepwire.workflow.definition.types import TypeRegistry
from stepwire.workflow.retry_policy import ConstantDelayRetryPolicy
from stepwire.workflow.runner.bodies import call_sync, event_for
from stepwire.workflow.state.store import InMemoryStateStore


class Item(Event):
    tags: list[str]


class Steps(Workflow):
    @step
    async def once(self, ev: Item) -> None:
        """Take an Item once."""

    @step(retry_policy=ConstantDelayRetryPolicy())
    async def often(self, ev: Item) -> None:
        """Take an Item, again if need be."""

    @step
    async def caught(self, ev: Item) -> None:
        """Take an Item; another step gets what it fails with."""

    @catch_error(steps=["caught"])
    async def catcher(self, ev: StepFailedEvent) -> None:
        """Take a failure."""


ROUTING = Routing({name: getattr(Steps, name) for name in ("once", "often", "caught", "catcher")})


def delivery_of(name: str, *, hosted: bool) -> tuple[Event, Delivery, Event]:
    """Return an event, its delivery to a step, and what the body of the step gets."""
    broker, event = Broker(ROUTING, InMemoryStateStore.empty()), Item(tags=["a"])
    delivery = Delivery(1, name, event, 1)
    if hosted:
        types = TypeRegistry.of(Steps, {each: getattr(Steps, each) for each in ROUTING.steps})
        broker.keep(Journal(types))
        assert broker.journal is not None
        delivery.encoded = broker.journal.encode(event)
    return event, delivery, event_for(broker, delivery, ROUTING.steps[name], hosted=hosted)


@pytest.mark.parametrize("hosted", [False, True])
def test_a_body_that_runs_once_gets_the_event_itself(hosted: bool) -> None:
    event, _, got = delivery_of("once", hosted=hosted)
    assert got is event


def test_what_came_is_read_from_its_encoding_if_another_attempt_needs_it() -> None:
    _, delivery, got = delivery_of("once", hosted=True)
    assert isinstance(got, Item)
    got.tags.append("b")
    assert delivery.event == Item(tags=["a"])


@pytest.mark.parametrize(("name", "hosted"), [("often", False), ("often", True), ("caught", True)])
def test_a_body_whose_failure_somebody_may_see_gets_a_copy(name: str, hosted: bool) -> None:
    event, delivery, got = delivery_of(name, hosted=hosted)
    assert isinstance(got, Item)
    assert got == event
    got.tags.append("b")
    assert delivery.event == Item(tags=["a"])


def test_a_sync_step_that_raises_stop_iteration_fails_with_what_a_future_can_carry() -> None:
    with pytest.raises(RuntimeError, match="raised StopIteration") as raised:
        call_sync(lambda: next(iter(())), {})
    assert isinstance(raised.value.__cause__, StopIteration)
    assert call_sync(dict, {"a": 1}) == {"a": 1}
