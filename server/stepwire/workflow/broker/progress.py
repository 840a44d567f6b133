"""Whether a run goes on by itself, waits for the outside, has stalled or may leave memory; its clock follows (S14)."""

from __future__ import annotations

from stepwire.workflow.broker.broker import Broker
from stepwire.workflow.broker.deliveries.delivery import RUNNING
from stepwire.workflow.broker.waits.parking import any_works

__all__ = ["has_stalled", "is_at_work", "is_idle", "may_leave", "pauses", "tick", "waits_outside"]


def is_at_work(broker: Broker) -> bool:
    """Tell whether the body of a step runs, rather than waits."""
    return any(each.delivery.status == RUNNING for each in broker.executions)


def is_idle(broker: Broker) -> bool:
    """Tell whether nothing goes on before an event or a due time comes."""
    work = broker.work
    if broker.made_children is not None and broker.made_children.unsettled:
        return False
    return (len(broker.deliveries) == work.parked or (work.held and not is_at_work(broker))) and not any_works(work)


def may_leave(broker: Broker) -> bool:
    """Tell whether the run can leave memory: it is idle, nobody outside its steps waits in it, and nothing is lost.

    What a nested run has finished would be lost: its steps would run again.
    """
    nested = (each for execution in broker.executions for each in execution.nested or ())
    return (
        is_idle(broker)
        and not any(each.finished_steps for each in nested)
        and not any(waiter.delivery is None for waiter in broker.made_waits or ())
    )


def waits_outside(broker: Broker) -> bool:
    """Tell whether nothing is left to do before outside input arrives; a durable sleep waits for none.

    What a child does is outside: it has a time limit of its own.

    To a nested run comes only what the outer run is asked for.
    """
    children, waits = broker.made_children, broker.made_waits
    if len(broker.deliveries) > broker.work.parked or not (
        broker.asked
        or (waits is not None and waits.outside)
        or (children is not None and children.awaited and not children.unsettled)
    ):
        return False
    return (broker.outer is None or broker.outer.asks) and not any_works(broker.work)


def has_stalled(broker: Broker) -> bool:
    """Tell whether nothing goes on, nothing is asked and nothing but the run's time limit falls due."""
    return is_idle(broker) and not waits_outside(broker) and broker.work.next_due() is None and broker.outcome is None


def pauses(broker: Broker) -> bool:
    """Tell whether the time limit stands still while the run only waits for outside input: in a service."""
    return broker.journal is not None or (broker.outer is not None and broker.outer.pauses)


def tick(broker: Broker) -> None:
    """Start or stop the run's clock; called after each batch of transitions."""
    limit = broker.limit
    if limit.seconds is None or broker.outcome is not None or not broker.started:
        return
    stopped = broker.work.held or ((broker.journal is not None or pauses(broker)) and waits_outside(broker))
    if stopped == (limit.due is None):
        return  # nothing to change, as most often: do not ask what time it is
    if limit.tick(broker.work.clock.now(), stopped=stopped) and broker.journal is not None:
        broker.touch_head()
