"""Find out whether the body of a step does something beside its open waits.

A delivery is parked as soon as one wait of its body is open, and its body may go on in other tasks: a stop button
beside the work, a timeout of asyncio around the wait. Only a body whose tasks all wait for the run may leave memory.
"""

from __future__ import annotations

import asyncio
import gc
import math
from collections.abc import Callable, Coroutine, Generator
from contextvars import Context
from types import MethodType
from typing import Any

from stepwire.workflow.broker.delivery import PARKED, Execution, execution_in, running_execution

__all__ = ["watch_tasks", "works_beside"]

Body = Coroutine[Any, Any, Any] | Generator[Any, Any, Any]

_WAIT = asyncio.tasks._wait.__code__  # type: ignore[attr-defined]
_GROUP = asyncio.TaskGroup.__aexit__.__code__
_GATHERING: type[Any] = asyncio.tasks._GatheringFuture  # type: ignore[attr-defined]


class _TaskFactory:
    """Make tasks, and note those that the bodies of steps start with their execution."""

    def __init__(self, make: Callable[..., asyncio.Task[Any]] | None) -> None:
        self._make = make

    def __call__(self, loop: asyncio.AbstractEventLoop, coro: Any, **options: Any) -> asyncio.Task[Any]:
        """Make a task, as the factory that was there before does."""
        make = self._make
        task = asyncio.Task(coro, loop=loop, **options) if make is None else make(loop, coro, **options)
        context: Context | None = options.get("context")
        execution = running_execution() if context is None else execution_in(context)
        if execution is not None and not execution.dead and not task.done():
            if execution.children is None:
                execution.children = set()
            execution.children.add(task)
            task.add_done_callback(_Ended(execution))
        return task


class _Ended:
    """Take a task that is over off its execution, and look at the run again."""

    __slots__ = ("_execution",)

    def __init__(self, execution: Execution) -> None:
        self._execution = execution

    def __call__(self, task: asyncio.Task[Any]) -> None:
        execution = self._execution
        if execution.children is not None:
            execution.children.discard(task)
        if execution.broker is not None and execution.delivery.status == PARKED:
            execution.broker.stir(execution)


def watch_tasks(loop: asyncio.AbstractEventLoop) -> None:
    """Have an event loop note which tasks the bodies of steps start. Harmless when it does already."""
    factory: Any = loop.get_task_factory()
    if not isinstance(factory, _TaskFactory):
        loop.set_task_factory(_TaskFactory(factory))


def works_beside(execution: Execution) -> bool:
    """Tell whether the body of a parked delivery can go on without an answer from the run.

    True also when that cannot be seen: what works must not be stopped, what waits may stay in memory. A sync step is
    in one wait at a time, in its thread.
    """
    main = getattr(execution.cancel, "__self__", None)
    if not isinstance(main, asyncio.Task) or not execution.is_async:
        return False
    tasks = {main, *(execution.children or ())}
    waits = [waiter.notify for waiter in execution.delivery.waiters or ()]
    waits += execution.untold or ()
    waiting = {getattr(notify, "task", None) for notify in waits}
    return not all(_only_waits(task, tasks, waiting) for task in tasks if not task.done())


def _only_waits(task: asyncio.Task[Any], tasks: set[asyncio.Task[Any]], waiting: set[Any]) -> bool:
    """Tell whether a task can do nothing before a wait of the run, or of another task that only waits, ends."""
    body = task.get_coro()
    if getattr(body, "cr_running", False) or _has_deadline(body):
        return False
    if task in waiting:
        return True
    awaited = _awaited(task, _innermost(body))
    return bool(awaited) and all(
        each in tasks and each is not task and _only_waits(each, tasks, waiting) for each in awaited if not each.done()
    )


def _awaited(task: asyncio.Task[Any], inner: Any) -> list[Any]:
    """Return the tasks that a task awaits by itself, by gather, by wait or by a TaskGroup; else none."""
    future = getattr(task, "_fut_waiter", None)
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
