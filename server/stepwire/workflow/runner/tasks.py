"""The tasks of an event loop that hosts runs: which step has started each, and what steps must not cancel.

A body of a step may cancel its own tasks. It must not cancel the tasks of its host, nor the bodies of other steps: code
that cancels all tasks of "its" event loop is common, and would end the server.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Coroutine, Iterable
from contextvars import Context
from typing import Any, TypeVar

from stepwire.workflow.broker.current import execution_in, running_execution
from stepwire.workflow.broker.deliveries.delivery import PARKED, Execution
from stepwire.workflow.errors import DeadAttemptError

__all__ = [
    "HostTask",
    "in_step",
    "is_taken",
    "outside",
    "own_tasks",
    "runs_now",
    "start_body",
    "start_task",
    "task_of",
    "watch_tasks",
]

logger = logging.getLogger("stepwire.workflow")


T = TypeVar("T")


class HostTask(asyncio.Task[Any]):
    """A task of an event loop that hosts runs.

    Attributes:
        owner: The attempt of the step that has started it; None for a task of the host.
        is_body: Whether it runs the body of `owner`.
    """

    __slots__ = ()

    owner: Execution | None = None
    is_body: bool = False

    def cancel(self, msg: Any | None = None) -> bool:
        """Cancel the task; refused to a step whose task it is not."""
        caller = running_execution()
        if caller is not None and caller is not self.owner and (self.owner is None or self.is_body):
            delivery = caller.delivery
            logger.error("step %s tried to cancel a task that is not its own: refused", delivery.step)
            return False
        if caller is None and self.is_body and self.owner is not None:
            self.owner.taken = True
        return super().cancel(msg)

    def end(self) -> bool:
        """Cancel the task for the host, whoever calls."""
        return super().cancel()


class StepTask(HostTask):
    """A task of a step: its body, or one that its body has started."""

    __slots__ = ("is_body", "owner")


class _BodyTask(asyncio.Task[Any]):
    """The task of a body on an event loop that hosts no durable runs."""

    __slots__ = ()

    end = asyncio.Task.cancel


class _ForeignBody:
    """A task that somebody else's factory has made for a body."""

    __slots__ = ("task",)

    def __init__(self, task: asyncio.Task[Any]) -> None:
        self.task = task

    def end(self) -> bool:
        """Cancel the task."""
        return self.task.cancel()


class _TaskFactory:
    """Make tasks, and note those that the bodies of steps start with their execution."""

    def __init__(self, make: Callable[..., asyncio.Task[Any]] | None) -> None:
        self._make = make
        self.makes_own = make is None
        """Whether the tasks know the step that has started them."""

    def __call__(
        self, loop: asyncio.AbstractEventLoop, coro: Any, context: Context | None = None, **options: Any
    ) -> asyncio.Task[Any]:
        """Make a task, as the factory that was there before does."""
        execution = running_execution() if context is None else execution_in(context)
        task: asyncio.Task[Any]
        if self._make is not None:
            task = self._make(loop, coro, **options, **({} if context is None else {"context": context}))
        elif execution is None:  # each call of a server makes some of these
            return HostTask(coro, loop=loop, context=context, **options)
        else:
            task = StepTask(coro, loop=loop, context=context, **options)
            task.owner, task.is_body = execution, False
        if execution is not None and not execution.dead and not task.done():
            if execution.children is None:
                execution.children = set()
            execution.children.add(task)
            if execution.watch is not None:
                execution.watch.restless.add(task)
            task.add_done_callback(_Ended(execution))
        return task


class _Ended:
    """Take a task that is over off its execution, and look at the run again."""

    __slots__ = ("_execution",)

    def __init__(self, execution: Execution) -> None:
        self._execution = execution

    def __call__(self, task: asyncio.Task[Any]) -> None:
        execution = self._execution
        if execution.dead and isinstance(getattr(task, "_exception", None), DeadAttemptError):
            task.exception()  # it was told to end; that nobody asks for the error is no fault to be logged
        if execution.children is not None:
            execution.children.discard(task)
        if execution.watch is not None:
            execution.watch.restless.discard(task)
        if execution.broker is not None and execution.delivery.status == PARKED:
            execution.broker.stir(execution)


def watch_tasks(loop: asyncio.AbstractEventLoop) -> None:
    """Have an event loop note which tasks the bodies of steps start. Harmless when it does already."""
    factory: Any = loop.get_task_factory()
    if not isinstance(factory, _TaskFactory):
        loop.set_task_factory(_TaskFactory(factory))


def start_task(
    work: Coroutine[Any, Any, T], *, name: str | None = None, context: Context | None = None
) -> asyncio.Task[T]:
    """Start a task of the host, which is no step's although the code of a step has led to it.

    A task that a step starts is the step's work: the run would not wait while it goes on.

    Args:
        work: What it does.
        name: Its name.
        context: Its context variables. `Context()` has none, for what outlives the call that has led to it: that call
            would be named in its log lines.
    """
    return outside(lambda: asyncio.get_running_loop().create_task(work, name=name, context=context))


def outside(call: Callable[[], T]) -> T:
    """Call what the host does for all, such as a timer of it: what it starts or ends is not of the calling step.

    In a step the call sees none of its context variables.
    """
    return call() if running_execution() is None else Context().run(call)


def start_body(loop: asyncio.AbstractEventLoop, body: Any, context: Context, execution: Execution) -> None:
    """Start the task that runs the body of an execution, and note how the engine cancels it.

    The execution keeps the task alive. A name spares the making of one.
    """
    factory: Any = loop.get_task_factory()
    name = execution.delivery.step
    if isinstance(factory, _TaskFactory) and factory.makes_own:
        task = StepTask(body, loop=loop, context=context, name=name)
        task.owner, task.is_body = execution, True
        execution.body = task
    elif factory is None:  # as `create_task` does
        execution.body = _BodyTask(body, loop=loop, context=context, name=name)
    else:
        execution.body = _ForeignBody(loop.create_task(body, context=context))


def task_of(execution: Execution) -> asyncio.Task[Any] | None:
    """Return the task that runs the body of an execution; None when there is none."""
    body: Any = execution.body
    return body.task if isinstance(body, _ForeignBody) else body


def runs_now(execution: Execution) -> bool:
    """Tell whether the task that runs the body of an execution is running, rather than being closed from outside."""
    try:
        return asyncio.current_task() is task_of(execution)
    except RuntimeError:
        return False


def is_taken(execution: Execution) -> bool:
    """Tell whether somebody else than the step, such as a loop that is closed, has cancelled the task of its body.

    Of a task that a factory of the host made it is not known who cancelled it: it counts as somebody else.
    """
    task = asyncio.current_task()
    return execution.taken if isinstance(task, StepTask) else task is not None and task.cancelling() > 0


def in_step() -> str:
    """Return the name of the step that the caller runs in; empty outside the steps."""
    execution = running_execution()
    return "" if execution is None else execution.delivery.step


def own_tasks(tasks: Iterable[asyncio.Task[Any]]) -> set[asyncio.Task[Any]]:
    """Return those tasks that the calling step may call its own; outside the steps all of them."""
    execution = running_execution()
    return {task for task in tasks if execution is None or getattr(task, "owner", None) is execution}
