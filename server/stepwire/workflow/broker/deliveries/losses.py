"""Executions that are lost: they run again, and a delivery that loses too many is poison.

A crash of the process loses what ran; `snapshot.reader` finds it when the run is loaded. A delivery that has made
progress since its last loss counts from 0 again.
"""

from __future__ import annotations

from typing import Final

from stepwire.workflow.broker.deliveries.attempts import note
from stepwire.workflow.broker.deliveries.delivery import QUEUED, Delivery, Execution
from stepwire.workflow.broker.deliveries.executions import LOST
from stepwire.workflow.broker.deliveries.work import Work

__all__ = ["MAX_LOST_EXECUTIONS", "lose", "poison"]

MAX_LOST_EXECUTIONS: Final = 5
"""After so many lost executions a delivery is poison (DESIGN: Poison)."""


def lose(work: Work, execution: Execution) -> None:
    """Note an execution that was lost though the process lives; it runs again as after a crash."""
    delivery, broker = execution.delivery, execution.broker
    if broker is not None:
        note(broker, delivery, LOST)
    work.retire(execution)
    delivery.lost += 1
    if not poison(work, delivery):
        work.requeue(delivery)


def poison(work: Work, delivery: Delivery) -> bool:
    """Have the runner fail a delivery that was lost too often; return whether it was. It is queued until then."""
    if delivery.lost < MAX_LOST_EXECUTIONS:
        return False
    delivery.status = QUEUED
    work.moved(delivery)
    if work.poisoned is None:
        work.poisoned = []
    work.poisoned.append(delivery)
    return True
