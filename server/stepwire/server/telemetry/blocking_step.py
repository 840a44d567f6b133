"""Find out what blocks the event loop: the step that runs on its thread, and the author's line in it."""

from __future__ import annotations

import asyncio
import sys
from collections.abc import Callable
from contextvars import Context
from inspect import CO_COROUTINE
from itertools import islice
from types import CodeType, FrameType
from typing import Any, Final, NamedTuple

from stepwire.server.telemetry.code_origin import package_of_file
from stepwire.workflow.hosting import Execution, execution_in, step_at

__all__ = ["Blocker", "Locate", "Spot", "blocker_at", "code_outside_tasks"]

_TEXT: Final = 120
"""Characters of a source line that are shown."""


class Spot(NamedTuple):
    """Where a frame stands. `line` is None in compiled code."""

    file: str
    line: int | None
    function: str

    @classmethod
    def of(cls, frame: FrameType) -> Spot:
        """Return where a frame stands now."""
        return cls(frame.f_code.co_filename, frame.f_lineno, frame.f_code.co_name)

    def describe(self) -> str:
        """Return the place with the text of its line. `linecache` would keep the whole file in memory."""
        return f"{self.file}:{self.line or '?'} in {self.function}" + (f": {text}" if (text := self._text()) else "")

    def _text(self) -> str:
        if self.line is None:
            return ""
        try:
            with open(self.file, encoding="utf-8", errors="replace") as lines:
                return next(islice(lines, self.line - 1, None), "").strip()[:_TEXT]
        except OSError:
            return ""


class Blocker(NamedTuple):
    """What runs on the event loop: an execution of a step, or other code, and then `step` is empty."""

    identity: int
    """Differs between executions and between tasks."""
    workflow: str
    step: str
    run_id: str
    attempt: int
    places: tuple[Spot, ...]
    """The step or task, the author's innermost line, and the innermost line; each once."""

    def where(self) -> str:
        """Describe the places."""
        return " … ".join(place.describe() for place in self.places)


Locate = Callable[[Any], tuple[str, str]]
"""Returns the served name of a broker's workflow and its run_id; empty when no run in memory has it."""


def blocker_at(frame: FrameType, loop: asyncio.AbstractEventLoop, locate: Locate) -> Blocker | None:
    """Return what runs on a loop; None if that is no code of an author.

    Args:
        frame: The innermost frame of the loop's thread.
        loop: The loop.
        locate: Finds the run of a step.
    """
    task = asyncio.current_task(loop)
    body = frame
    execution: Execution | None = None
    if (found := step_at(frame)) is not None:
        execution, body = found
    elif task is not None:
        execution = _inherited(task)
        body = getattr(task.get_coro(), "cr_frame", None) or frame
    places = _places(frame, body, of_step=execution is not None)
    if places is None:
        return None
    if execution is None:
        return Blocker(id(task), "", "", "", 0, places)
    workflow, run_id = locate(execution.owner)
    return Blocker(id(execution), workflow, execution.delivery.step, run_id, execution.delivery.attempt, places)


def code_outside_tasks() -> CodeType | None:
    """Return the code that the tasks of this thread's loop are called from; call it in a task."""
    frame: FrameType | None = sys._getframe()
    outermost = None
    while frame is not None:
        if frame.f_code.co_flags & CO_COROUTINE:
            outermost = frame
        frame = frame.f_back
    return outermost.f_back.f_code if outermost is not None and outermost.f_back is not None else None


def _places(frame: FrameType, body: FrameType, *, of_step: bool) -> tuple[Spot, ...] | None:
    """Return the places from the body of a step or task to the innermost frame; None without code of an author."""
    frames: list[FrameType] = []
    at: FrameType | None = frame
    while at is not None and at is not body:
        frames.append(at)
        at = at.f_back
    if at is None:  # the body runs on another thread, or awaits
        if not of_step and all(package_of_file(one.f_code.co_filename) for one in (body, *frames)):
            return None
        return tuple(dict.fromkeys((Spot.of(body), Spot.of(frame))))
    frames.append(body)
    own = [one for one in frames if not package_of_file(one.f_code.co_filename)]
    if not own and not of_step:
        return None
    if not own:  # a workflow of an installed package
        package = package_of_file(body.f_code.co_filename)
        own = [one for one in frames if package_of_file(one.f_code.co_filename) == package]
    return tuple(dict.fromkeys((Spot.of(own[-1]), Spot.of(own[0]), Spot.of(frame))))


def _inherited(task: asyncio.Task[Any]) -> Execution | None:
    """Return the execution whose step started a task, which the task's context knows."""
    get_context = getattr(task, "get_context", None)  # from Python 3.12 on
    if get_context is not None:
        context: Context = get_context()
        return execution_in(context)
    # Python 3.11 does not show a task's context, but that of the code that awaits the task.
    for _, context in getattr(task, "_callbacks", None) or ():
        if (found := execution_in(context)) is not None:
            return found
    return None
