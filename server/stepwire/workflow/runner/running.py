"""Find which step runs on an event loop, from outside its thread, without any mark that steps have to pay for."""

from __future__ import annotations

from types import FrameType

from stepwire.workflow.broker.current import execution_in
from stepwire.workflow.broker.deliveries.delivery import Execution
from stepwire.workflow.runner.runner import Runner

__all__ = ["execution_in", "step_at"]

_EXECUTE = Runner.execute.__code__


def step_at(frame: FrameType) -> tuple[Execution, FrameType] | None:
    """Return the execution whose step's body a frame is in, and the body's outermost frame.

    None when the frame is in no body that the runner called: a task that a step started has its own frames, and
    `execution_in` finds its step by the task's context.
    """
    below, at = frame, frame
    while at.f_code is not _EXECUTE:
        if at.f_back is None:
            return None
        below, at = at, at.f_back
    execution = at.f_locals.get("execution")
    return (execution, below) if isinstance(execution, Execution) else None
