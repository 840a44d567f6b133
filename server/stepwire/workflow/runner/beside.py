"""Find out whether the body of a step does something beside its open waits.

A delivery is parked as soon as one wait of its body is open, and its body may go on in other tasks: a stop button
beside the work, a timeout of asyncio around the wait. Only a body whose tasks all wait for the run may leave memory.

A body may have thousands of tasks, and each answer is a reason to look again. So a look is at those tasks that went on
since they were seen to only wait: the future that such a task awaits says when it goes on.
"""

from __future__ import annotations

import asyncio
import contextvars
import gc
import math
from collections.abc import Coroutine, Generator
from types import MethodType
from typing import Any, Final

from stepwire.workflow.broker.deliveries.delivery import PARKED, Execution
from stepwire.workflow.broker.log.stream import Progress, Told
from stepwire.workflow.runner.tasks import task_of

__all__ = ["works_beside"]

Body = Coroutine[Any, Any, Any] | Generator[Any, Any, Any]

_WAIT = asyncio.tasks._wait.__code__  # type: ignore[attr-defined]
_GROUP = asyncio.TaskGroup.__aexit__.__code__
_GATHERING: type[Any] = asyncio.tasks._GatheringFuture  # type: ignore[attr-defined]
_NOBODY: Final = contextvars.Context()
"""The context of what is called when a task goes on: nothing of the body is kept for it."""


def works_beside(execution: Execution) -> bool:
    """Tell whether the body of a parked delivery can go on without an answer from the run.

    True also when that cannot be seen: what works must not be stopped, what waits may stay in memory. A sync step is
    in one wait at a time, in its thread. A body that awaits a run that it has started waits while that run does.
    """
    main = task_of(execution)
    if main is None or not execution.is_async:
        return False
    if execution.nested:
        return _with_nested(execution, main)
    if not execution.children:
        return not main.done() and not _Look(execution, {main}).only_waits(main)
    watch = execution.watch
    if watch is None:
        watch = execution.watch = _Watch(execution, main)
    return bool(watch.works())


def _with_nested(execution: Execution, main: asyncio.Task[Any]) -> bool:
    tasks = {main, *(execution.children or ())}
    look = _Look(execution, tasks)
    for nested in execution.nested or ():
        if nested.works:
            return True
        look.streams.add(nested.stream)
        tasks.difference_update(nested.tasks)
    return not all(look.only_waits(task) for task in tasks if not task.done())


class _Look:
    """One look at the tasks of a body.

    Attributes:
        streams: Those of the runs that the body has started and that only wait.
    """

    def __init__(self, execution: Execution, tasks: set[asyncio.Task[Any]]) -> None:
        self._execution = execution
        self._tasks = tasks
        self._calm: set[asyncio.Task[Any]] = set()
        self.streams: set[object] = set()

    def has(self, task: Any) -> bool:
        """Tell whether a task is one of the body's."""
        return task in self._tasks

    def is_calm(self, task: asyncio.Task[Any]) -> bool:
        """Tell whether a task was seen to only wait, and has not gone on since."""
        return task in self._calm

    def calm(self, task: asyncio.Task[Any], future: Any) -> None:
        """Note that a task was seen to only wait for a future."""
        self._calm.add(task)

    def only_waits(self, task: asyncio.Task[Any]) -> bool:
        """Tell whether a task can do nothing before a wait of the run, or of another task that only waits, ends."""
        if self.is_calm(task):
            return True
        body = task.get_coro()
        if getattr(body, "cr_running", False) or _has_deadline(body):
            return False
        future = getattr(task, "_fut_waiter", None)
        if not self._is_wait(future):
            awaited = _awaited(future, _innermost(body))
            if not awaited or not all(
                each.done() or (self.has(each) and each is not task and self.only_waits(each)) for each in awaited
            ):
                return False
        self.calm(task, future)
        return True

    def _is_wait(self, future: Any) -> bool:
        """Tell whether a future is one of an open wait of the run, or of a run that the body has started."""
        if isinstance(future, Told):
            return future.execution is self._execution and not future.done()
        return isinstance(future, Progress) and not future.done() and future.stream in self.streams


class _Watch(_Look):
    """Look at the tasks of a body again and again, at those alone that went on.

    Attributes:
        restless: The tasks to look at.
    """

    def __init__(self, execution: Execution, main: asyncio.Task[Any]) -> None:
        assert execution.children is not None
        super().__init__(execution, execution.children)
        self._main = main
        self.restless: set[asyncio.Task[Any]] = {main, *execution.children}

    def works(self) -> bool:
        """Tell whether one of the tasks does something."""
        for task in list(self.restless):
            if task.done():
                self.restless.discard(task)
            elif not self.only_waits(task):
                return True
        return False

    def has(self, task: Any) -> bool:
        """Tell whether a task is one of the body's."""
        return task is self._main or task in self._tasks

    def is_calm(self, task: asyncio.Task[Any]) -> bool:
        """Tell whether a task was seen to only wait, and has not gone on since."""
        return task not in self.restless

    def calm(self, task: asyncio.Task[Any], future: Any) -> None:
        """Note that a task was seen to only wait for a future, which says when it goes on."""
        self.restless.discard(task)
        if future is not None:
            future.add_done_callback(_GoesOn(self, task), context=_NOBODY)

    def goes_on(self, task: asyncio.Task[Any]) -> None:
        """Look at a task again."""
        execution = self._execution
        if not task.done():
            self.restless.add(task)
            if execution.broker is not None and execution.delivery.status == PARKED:
                execution.broker.stir(execution)


class _GoesOn:
    """Have a task looked at again once what it has awaited is there."""

    __slots__ = ("_task", "_watch")

    def __init__(self, watch: _Watch, task: asyncio.Task[Any]) -> None:
        self._watch = watch
        self._task = task

    def __call__(self, future: object) -> None:
        self._watch.goes_on(self._task)


def _awaited(future: Any, inner: Any) -> list[Any]:
    """Return the tasks that a task awaits by itself, by gather, by wait or by a TaskGroup; else none."""
    if isinstance(future, asyncio.Task):
        return [future]
    if isinstance(future, _GATHERING):
        return list(future._children)
    code, frame = getattr(inner, "cr_code", None), getattr(inner, "cr_frame", None)
    if frame is None:
        return []
    if code is _WAIT and frame.f_locals.get("timeout_handle") is None:
        return list(frame.f_locals["fs"])
    if code is _GROUP:
        return list(frame.f_locals["self"]._tasks)
    return []


def _has_deadline(body: Any) -> bool:
    """Tell whether a suspended coroutine, or one that it awaits, is in a block that ends by itself."""
    while body is not None:
        for held in gc.get_referents(body):
            if isinstance(held, MethodType) and held.__name__ in ("__aexit__", "__exit__"):
                owner = held.__self__
                if isinstance(owner, asyncio.Timeout):
                    if owner.when() is not None:
                        return True
                elif isinstance(deadline := getattr(owner, "deadline", None), float) and math.isfinite(deadline):
                    return True  # as of anyio's cancel scopes
        body = _next(body)
    return False


def _innermost(body: Any) -> Any:
    while (inner := _next(body)) is not None and hasattr(inner, "cr_code"):
        body = inner
    return body


def _next(body: Any) -> Any:
    return getattr(body, "cr_await", None) or getattr(body, "gi_yieldfrom", None) or getattr(body, "ag_await", None)
