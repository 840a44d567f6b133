"""Wait for the answer of a waiter: in a step without a worker, outside the steps by the clock of the event loop."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from functools import partial
from typing import Any, Final

from stepwire.workflow.broker.current import current_execution
from stepwire.workflow.broker.deliveries.delivery import Execution, Waiter
from stepwire.workflow.broker.ledger import TIMED_OUT, Answer
from stepwire.workflow.broker.log.stream import Told
from stepwire.workflow.broker.waits.default_names import path_of
from stepwire.workflow.context.run import Run
from stepwire.workflow.events import Event
from stepwire.workflow.runner.other_threads import await_on

__all__ = ["NO_REQUIREMENTS", "default_waiter_id", "wait", "waiter_id_of"]

NO_REQUIREMENTS: Final[dict[str, Any]] = {}
"""What most waits require. Nobody changes it."""


def default_waiter_id(event_type: type[Event], requirements: dict[str, Any]) -> str:
    """Name a wait by the event's full name and what is required of it."""
    return waiter_id_of(path_of(event_type), requirements)


def waiter_id_of(name: str, requirements: dict[str, Any]) -> str:
    """Name a wait by a name of the event and what is required of it."""
    return f"waiter_{name}_{_told(requirements)}" if requirements else f"waiter_{name}"


def _told(value: Any) -> str:
    """Return a value as `repr` does, sets in an order that the next process will find, too."""
    cls = type(value)
    if cls is dict:
        return "{" + ", ".join([f"{key!r}: {_told(item)}" for key, item in value.items()]) + "}"
    if cls is list:
        return f"[{', '.join(map(_told, value))}]"
    if cls is tuple and len(value) > 1:
        return f"({', '.join(map(_told, value))})"
    if cls in (set, frozenset) and len(value) > 1:
        items = f"{{{', '.join(sorted(map(_told, value)))}}}"
        return items if cls is set else f"frozenset({items})"
    return repr(value)


async def wait(
    run: Run,
    waiter_id: str,
    event_type: type[Event] | None,
    requirements: dict[str, Any],
    prompt: Event | None,
    timeout: float | None,
    opened: Callable[[Waiter, Execution], bool] | None = None,
) -> Answer:
    """Open a waiter, or take what an earlier execution got, and return the answer; TIMED_OUT if none came.

    Args:
        run: The run.
        waiter_id: Which waits are the same.
        event_type: The type that answers; None for none, so that only the deadline ends the wait.
        requirements: The fields that the answer must have.
        prompt: What goes to the stream first; None for nothing.
        timeout: Seconds until the deadline; None for no deadline.
        opened: Looks at a waiter that a step has just opened; tells whether it has been answered.

    Raises:
        Exception: What the wait was refused with.
    """
    runner = run.runner
    if runner is not None and not runner.here:  # an event loop of its own waits
        # No lambda: each variable that it took would cost every wait a cell.
        there = partial(wait, run, waiter_id, event_type, requirements, prompt, timeout, opened)
        return await await_on(runner.loop, there)
    broker = run.broker
    execution = current_execution(broker)
    # Outside the steps a wait is this task's alone, also when no run drives the broker: it keeps its own time.
    own_timeout = timeout if execution is None else None
    numbers = broker.work.numbers
    found = broker.wait(execution, waiter_id, event_type, requirements, prompt, None if execution is None else timeout)
    if not isinstance(found, Waiter):
        return found
    future = Told(execution)
    found.notify = future
    answered = False
    if opened is not None and execution is not None and broker.work.numbers != numbers:
        answered = opened(found, execution)
    run.pump()
    question = None
    outer = None if execution is None or answered else run.outer
    if outer is not None and event_type is not None and outer.takes(event_type, prompt):
        broker.waits.disarm(found)  # the outer wait has the deadline
        question = outer.ask(waiter_id, event_type, requirements, prompt, timeout, partial(_answered, run, found))
    opened = prompt = None  # a wait may take days
    timer = None if own_timeout is None else future.get_loop().call_later(own_timeout, future, TIMED_OUT)
    try:
        answer = await future
    except asyncio.CancelledError:
        await _give_up(run, found, execution)
        raise
    finally:
        if question is not None:
            question.cancel()
        future.execution = None  # whose task may refer to it in a circle
        if timer is not None:
            timer.cancel()
    if answer is TIMED_OUT and execution is None:
        broker.waits.abandon(found, None, future)
    if isinstance(answer, BaseException):
        raise answer
    return answer


def _answered(run: Run, waiter: Waiter, answer: Answer) -> None:
    """Take what the outer run has for a nested question: an answer, its deadline, or why it could not ask."""
    waits = run.broker.waits
    if isinstance(answer, Event):
        run.take_answer(answer)
    elif answer is TIMED_OUT and waits.get(waiter.number) is waiter:
        run.do(waits.settle, waiter, TIMED_OUT)
    elif waiter.notify is not None:
        waiter.notify(answer)


async def _give_up(run: Run, waiter: Waiter, execution: Execution | None) -> None:
    """Remove a waiter whose await was cancelled; its step goes on once it has a worker again."""
    future = Told(execution)
    regains = run.broker.waits.abandon(waiter, execution, future)
    run.pump()
    if regains:
        await future
