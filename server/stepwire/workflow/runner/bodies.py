"""What the body of a step gets, and how a sync one is called; `results` has what it comes to."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from stepwire.workflow.broker.broker import Broker
from stepwire.workflow.broker.deliveries.delivery import Delivery
from stepwire.workflow.definition.step_config import StepConfig
from stepwire.workflow.events import Event
from stepwire.workflow.state.own import own

__all__ = ["call_sync", "event_for"]


def event_for(broker: Broker, delivery: Delivery, config: StepConfig, *, hosted: bool) -> Event:
    """Return the event for a body to do with what it likes: an attempt that may be repeated leaves it as it came.

    With a journal the event is encoded, and few attempts are repeated: a copy would take as much memory as long as
    the body waits.

    Args:
        broker: The broker of the run.
        delivery: The delivery that the body works on.
        config: The configuration of its step.
        hosted: Whether a host makes the run durable.
    """
    if config.retry_policy is None and not hosted and delivery.held is not None:
        return delivery.held
    event, journal = delivery.event, broker.journal
    if config.retry_policy is None:
        if not hosted:
            return event
        if (
            journal is not None
            and delivery.encoded is not None
            and not event.__pydantic_private__
            and broker.routing.catcher(delivery.step) is None
        ):
            return delivery.lend(journal)
    return own(event)


def call_sync(function: Callable[..., Any], kwargs: dict[str, Any]) -> Any:
    """Call a sync step; StopIteration, which no future can carry, becomes RuntimeError."""
    try:
        return function(**kwargs)
    except StopIteration as error:
        raise RuntimeError("the step raised StopIteration") from error
