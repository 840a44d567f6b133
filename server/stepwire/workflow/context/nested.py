"""Questions of a nested run: asked at the run whose step has started it, and answered there.

A nested run lives in process, inside a step of the outer run. The outer step waits for each of its questions, so the
outer run shows the question, and its ledger keeps the answer: when the step begins again, the nested run does too, and
gets the same answers without a second question.
"""

from __future__ import annotations

import asyncio
import contextvars
from collections.abc import Callable, Sequence
from typing import Any, Protocol

from stepwire.workflow.broker.delivery import Execution
from stepwire.workflow.broker.ledger import Answer
from stepwire.workflow.errors import DeadAttemptError, WorkflowError
from stepwire.workflow.events import Event, HumanResponseEvent, InputRequiredEvent

__all__ = ["Outer"]


class OuterContext(Protocol):
    """What a nested run needs of the context of the outer step."""

    async def wait_for_event(self, event_type: type[Any], *args: Any, **kwargs: Any) -> Any:
        """Wait for an event."""


class Outer:
    """The step that has started a run, to be made in its context.

    Args:
        execution: The attempt of the step.
        context: The context of the outer run.
        name: The name of the nested workflow: its waits are named after it.
    """

    __slots__ = ("_asking", "_context", "_execution", "_name", "_variables")

    def __init__(self, execution: Execution, context: OuterContext, name: str) -> None:
        self._execution = execution
        self._context = context
        self._name = name
        self._variables = contextvars.copy_context()
        self._asking: set[asyncio.Task[None]] = set()

    def ask(
        self,
        waiter_id: str,
        event_type: type[Event],
        requirements: dict[str, Any],
        prompt: Event | None,
        answer: Callable[[Answer], object],
    ) -> asyncio.Task[None] | None:
        """Wait in the outer step for what a nested step waits for; None when it is no question to people.

        Args:
            waiter_id: The id of the nested wait.
            event_type: The type that it waits for.
            requirements: The fields that it asks for.
            prompt: The question.
            answer: Called with the answer, or with the error of a question that the outer run cannot ask.
        """
        if self._execution.dead or self._execution.finished:
            return None
        if not (isinstance(prompt, InputRequiredEvent) or issubclass(event_type, HumanResponseEvent)):
            return None
        asking = self._ask(f"{self._name}/{waiter_id}", event_type, requirements, prompt, answer)
        task = asyncio.get_running_loop().create_task(asking, context=self._variables.copy())
        self._asking.add(task)
        task.add_done_callback(self._asking.discard)
        return task

    def ask_for_any(
        self, types: Sequence[type[Event]], answer: Callable[[Answer], object], question: InputRequiredEvent
    ) -> None:
        """Ask a question that steps of the nested run take the answer to, by any of these types.

        Args:
            types: What the steps take.
            answer: Called once, as by `ask`.
            question: The question.
        """
        tasks: list[asyncio.Task[None] | None] = []

        def answered(found: Answer) -> None:
            for task in tasks:
                if task is not None and task is not asyncio.current_task():
                    task.cancel()
            answer(found)

        name = type(question).__name__
        for number, cls in enumerate(types):
            tasks.append(self.ask(name, cls, {}, None if number else question, answered))

    def leave(self) -> None:
        """Take back what is still asked: the nested run is over."""
        for task in list(self._asking):
            task.cancel()

    async def _ask(
        self,
        waiter_id: str,
        event_type: type[Event],
        requirements: dict[str, Any],
        prompt: Event | None,
        answer: Callable[[Answer], object],
    ) -> None:
        try:
            found = await self._context.wait_for_event(event_type, prompt, waiter_id, requirements, timeout=None)
        except DeadAttemptError:
            return  # the outer attempt is over, and the nested run with it
        except WorkflowError as error:
            answer(error)
        else:
            answer(found)
