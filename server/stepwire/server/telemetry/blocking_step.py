"""Who blocks the event loop: the step that runs on its thread now, found without any mark made beforehand."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from contextvars import Context
from itertools import islice
from types import FrameType
from typing import Any, NamedTuple

from stepwire.workflow.hosting import Execution, execution_in, step_at

__all__ = ["Culprit", "Locate", "culprit_of"]

_TEXT = 120


class Spot(NamedTuple):
    """Where a frame stands; `line` is None in compiled code."""

    file: str
    line: int | None
    function: str

    def told(self) -> str:
        """Return it with the text of the line, read from the file: `linecache` would keep all of it."""
        return f"{self.file}:{self.line or '?'} in {self.function}" + (f": {text}" if (text := self._text()) else "")

    def _text(self) -> str:
        if self.line is None:
            return ""
        try:
            with open(self.file, encoding="utf-8", errors="replace") as lines:
                return next(islice(lines, self.line - 1, None), "").strip()[:_TEXT]
        except OSError:
            return ""


class Culprit(NamedTuple):
    """What runs on the event loop: an execution of a step, or something else (`step` is empty)."""

    identity: int
    """The same as long as it is the same execution or task."""
    workflow: str
    step: str
    run_id: str
    attempt: int
    place: tuple[Spot, ...]
    """Where the step stands, or the task, and the innermost frame."""

    def where(self) -> str:
        """Return its place for people."""
        return " … ".join(spot.told() for spot in self.place)


Locate = Callable[[Any], tuple[str, str]]
"""Gives the served name of a broker's workflow and its run_id; empty when it is of no run in memory."""


def culprit_of(frame: FrameType, loop: asyncio.AbstractEventLoop, locate: Locate) -> Culprit:
    """Say what runs on the loop whose thread is in this frame."""
    task = asyncio.current_task(loop)
    below = frame
    execution: Execution | None = None
    if (found := step_at(frame)) is not None:
        execution, below = found
    elif task is not None:
        execution = _inherited(task)
        # The task's own coroutine, not what the loop was started from.
        below = _frame_of(task) or frame
    place = (_spot(frame),) if below is frame else (_spot(below), _spot(frame))
    if execution is None:
        return Culprit(id(task), "", "", "", 0, place)
    workflow, run_id = locate(execution.broker)
    return Culprit(id(execution), workflow, execution.delivery.step, run_id, execution.delivery.attempt, place)


def _inherited(task: asyncio.Task[Any]) -> Execution | None:
    """Return the execution whose step started a task: it is in the task's context."""
    get_context = getattr(task, "get_context", None)  # from Python 3.12 on
    if get_context is not None:
        context: Context = get_context()
        return execution_in(context)
    # Before, in the context of whoever awaits it.
    for _, context in getattr(task, "_callbacks", None) or ():
        if (found := execution_in(context)) is not None:
            return found
    return None


def _frame_of(task: asyncio.Task[Any]) -> FrameType | None:
    return getattr(task.get_coro(), "cr_frame", None)


def _spot(frame: FrameType) -> Spot:
    return Spot(frame.f_code.co_filename, frame.f_lineno, frame.f_code.co_name)
