"""Which attempt at a delivery code runs in: a context variable that tasks and threads of a body inherit."""

from __future__ import annotations

from contextvars import Context, ContextVar
from typing import Final

from stepwire.workflow.broker.deliveries.delivery import Execution, RunBroker

__all__ = ["current_execution", "enter_execution", "execution_in", "running_execution"]

_current: ContextVar[Execution | None] = ContextVar("stepwire_execution", default=None)


def current_execution(broker: RunBroker) -> Execution | None:
    """Return the execution of this broker that the caller runs in; None outside its steps.

    A task that a step left running when it returned is outside, too.
    """
    execution = _current.get()
    if execution is None or execution.finished:
        return None
    if execution.broker is broker or (execution.dead and execution.owner is broker):
        return execution
    return None


running_execution: Final = _current.get
"""Return the execution that the caller runs in, of whatever broker."""


def execution_in(context: Context) -> Execution | None:
    """Return the execution that tasks and threads with these context variables run in."""
    return context.get(_current)


enter_execution: Final = _current.set
"""Make this execution the current one for the calling task and what it starts."""
