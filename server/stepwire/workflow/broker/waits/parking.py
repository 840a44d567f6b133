"""Parking: a body that waits gives its worker back, and competes for one again when it is answered (S11).

A parked body may work beside its waits, in tasks of its own or in runs that it has started. `Work` keeps which parked
bodies are `unsure`: they worked when they were last looked at, or were not looked at since something in them went on.
"""

from __future__ import annotations

from stepwire.workflow.broker.deliveries.delivery import PARKED, READY, RUNNING, Delivery, Execution
from stepwire.workflow.broker.deliveries.work import Work
from stepwire.workflow.broker.ledger import TIMED_OUT, Answer, Notify

__all__ = ["any_works", "hand", "is_unsure", "look_at", "park", "regain", "take_back", "unpark"]


def park(work: Work, execution: Execution) -> None:
    """Give the worker back while at least one wait of the execution is open."""
    execution.open_waits += 1
    delivery = execution.delivery
    if delivery.status == RUNNING:
        work.queues.give_back(delivery.step)
        _stop_clock(work, execution)
        delivery.status = PARKED
        work.parked += 1
        work.moved(delivery)
    look_at(work, execution)


def unpark(work: Work, delivery: Delivery) -> None:
    """Queue a parked delivery for a worker, so that its body goes on."""
    work.parked -= 1
    if work.unsure:
        work.unsure.pop(delivery.id, None)
    delivery.status = READY
    work.queues.push(delivery)
    work.moved(delivery)


def hand(work: Work, execution: Execution, notify: Notify, answer: Answer) -> None:
    """Hand the answer of an open wait to its body, once that has a worker to go on with it."""
    delivery = execution.delivery
    execution.open_waits -= 1
    if delivery.status == RUNNING or (delivery.status == PARKED and execution.open_waits):
        if delivery.status == PARKED and work.works is not None:
            work.resume(_Handing(execution, notify), answer)
        else:
            work.resume(notify, answer)
    else:
        execution.settle(notify, answer)
        if delivery.status == PARKED:
            unpark(work, delivery)


def take_back(work: Work, execution: Execution) -> None:
    """Note that a body gave an open wait up; without another one its delivery is queued for a worker."""
    execution.open_waits -= 1
    if execution.delivery.status == PARKED and execution.open_waits == 0:
        unpark(work, execution.delivery)


def regain(execution: Execution, notify: Notify) -> bool:
    """Have a body told when it has its worker back; False if it holds one."""
    if execution.delivery.status == READY:
        execution.settle(notify, TIMED_OUT)
        return True
    return False


def look_at(work: Work, execution: Execution) -> None:
    """Have `any_works` look at a parked execution: something in it went on."""
    if work.works is not None:
        if work.unsure is None:
            work.unsure = {}
        work.unsure[execution.delivery.id] = execution


def is_unsure(work: Work, execution: Execution) -> bool:
    """Tell whether something went on in a parked execution since it was last seen to only wait."""
    return work.unsure is not None and execution.delivery.id in work.unsure


def any_works(work: Work) -> bool:
    """Tell whether the body of a parked delivery works beside its waits."""
    works, unsure = work.works, work.unsure
    if works is None or not unsure:
        return False
    for number, execution in list(unsure.items()):
        if works(execution):
            return True
        del unsure[number]
        if execution.beside:
            execution.beside = False
            work.touch(execution.delivery)
    work.unsure = None
    return False


def _stop_clock(work: Work, execution: Execution) -> None:
    """Stop the clock of the step's timeout: a step that waits takes no time."""
    if execution.timer is not None:
        execution.remaining = max(0.0, execution.timer.due - work.clock.now())
        work.timers.cancel(execution.timer)
        execution.timer = None


class _Handing:
    """Hand an answer to a body that stays parked, and look then whether it goes on beside its other waits."""

    __slots__ = ("_execution", "_notify")

    def __init__(self, execution: Execution, notify: Notify) -> None:
        self._execution = execution
        self._notify = notify

    def __call__(self, answer: Answer) -> None:
        execution = self._execution
        self._notify(answer)
        if execution.broker is not None and execution.delivery.status == PARKED:
            execution.broker.stir(execution)
