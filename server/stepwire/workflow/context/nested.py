"""A nested run: one that the step of another run has started, in process.

Its questions are asked at the outer run and answered there. The outer step waits for each of them, so the outer run
shows the question, and its ledger keeps the answer: when the outer step begins again, the nested run does too, and gets
the same answers without a second question. While the nested run can do nothing before an answer comes, the outer step
only waits.
"""

from __future__ import annotations

import asyncio
import contextvars
from collections.abc import Callable, Sequence
from typing import Any, Protocol

from stepwire.workflow.broker.broker import Broker
from stepwire.workflow.broker.deliveries.delivery import PARKED, Execution
from stepwire.workflow.broker.futures import call_there
from stepwire.workflow.broker.ledger import TIMED_OUT, Answer
from stepwire.workflow.broker.log.stream import EventStream
from stepwire.workflow.broker.progress import is_idle, pauses
from stepwire.workflow.errors import DeadAttemptError, WorkflowError
from stepwire.workflow.events import Event, HumanResponseEvent, InputRequiredEvent
from stepwire.workflow.runner.tasks import task_of

__all__ = ["Outer"]


class OuterContext(Protocol):
    """What a nested run needs of the context of the outer step."""

    async def wait_for_event(self, event_type: type[Any], *args: Any, **kwargs: Any) -> Any:
        """Wait for an event."""


class NestedRun(Protocol):
    """What the outer step needs of a nested run."""

    @property
    def broker(self) -> Broker:
        """Return its data and transitions."""

    def take_answer(self, answer: Answer) -> None:
        """Take an answer, or the error of a question that the outer run cannot ask."""

    def cancel(self) -> None:
        """End it as cancelled."""

    def pump(self) -> None:
        """Do what its last transition made possible."""


class Outer:
    """The step that has started a nested run, to be made in the context of that step.

    Args:
        run: The nested run.
        execution: The attempt of the step.
        context: The context of the outer run.
        name: The name of the nested workflow: its waits are named after it.
        answers: The types of answers that the nested steps accept.
        apart: Whether the nested run has an event loop of its own, in another thread than the outer run.

    Attributes:
        pauses: Whether the clock of the nested run stands still while it only waits: that of the outer run does.
    """

    __slots__ = (
        "_answers",
        "_asking",
        "_context",
        "_execution",
        "_looking",
        "_loop",
        "_name",
        "_run",
        "_variables",
        "_worked",
        "apart",
        "pauses",
    )

    def __init__(
        self,
        run: NestedRun,
        execution: Execution,
        context: OuterContext,
        name: str,
        answers: Sequence[type[Event]],
        *,
        apart: bool = False,
    ) -> None:
        self._loop = asyncio.get_running_loop() if apart else None
        self.apart = apart
        self._run = run
        self._execution = execution
        self._context = context
        self._name = name
        self._answers = answers
        self._variables = contextvars.copy_context()
        self._asking: set[asyncio.Task[None]] = set()
        self._looking = False
        self._worked = True
        self.pauses = False

    def join(self) -> None:
        """Make the nested run one of the outer step; in a service its clock stands still while that of a run would."""
        execution = self._execution
        if execution.dead or execution.finished:
            return
        if execution.nested is None:
            execution.nested = []
        execution.nested.append(self)
        outer = execution.broker
        if isinstance(outer, Broker) and pauses(outer):
            self.pauses = True
            self._run.broker.work.works = outer.work.works

    def leave(self) -> None:
        """Take back what is still asked: the nested run is over."""
        execution = self._execution
        if execution.nested is not None and self in execution.nested:
            execution.nested.remove(self)
        for task in list(self._asking):
            task.cancel()

    # -- what the outer step sees of the nested run -------------------------------------------------------------------

    @property
    def works(self) -> bool:
        """Whether the nested run can go on before one of its questions is answered, or whether that cannot be seen."""
        if self.apart:
            return True
        broker = self._run.broker
        return not self._asking or broker.next_due() is not None or not is_idle(broker)

    @property
    def finished_steps(self) -> bool:
        """Whether a nested step has finished, which it does again when the outer step begins again."""
        work = self._run.broker.work
        return work.delivery_ids > len(work.deliveries)

    @property
    def stream(self) -> EventStream:
        """Return the stream of the nested run."""
        return self._run.broker.stream

    @property
    def tasks(self) -> list[object]:
        """Return the tasks of the nested steps."""
        return [task_of(each) for each in self._run.broker.executions]

    def abandon(self) -> None:
        """Cancel the nested run: the attempt that has started it was abandoned."""
        self._there(self._run.cancel)

    def let_go(self) -> None:
        """Let the nested run go on alone: the outer step has returned. Its waits keep their deadlines from here on."""
        self._there(self._let_go)

    def _there(self, call: Callable[[], object]) -> None:
        """Call something on the event loop of the nested run."""
        if self._loop is None:
            call()
        else:
            call_there(self._loop, call)

    def _let_go(self) -> None:
        self.leave()
        broker = self._run.broker
        self.pauses = False
        for waiter in broker.waits:
            if waiter.due is not None and waiter.timer is None:
                broker.work.arm(waiter.due, waiter)
        self._run.pump()

    # -- what the nested run sees of the outer step -------------------------------------------------------------------

    @property
    def asks(self) -> bool:
        """Whether the outer step asks a question of the nested run."""
        return bool(self._asking)

    def moved(self) -> None:
        """Look soon whether the nested run still works, or does again."""
        if not self._looking and self.pauses:
            self._looking = True
            asyncio.get_running_loop().call_soon(self._look)

    def _look(self) -> None:
        broker, execution = self._run.broker, self._execution
        if broker.outcome is None:
            self._run.pump()  # its clock may stand still, or go on
        self._looking = False
        works = broker.outcome is not None or self.works
        if works != self._worked:
            self._worked = works
            if self.apart:
                return  # the thread of the outer step waits for it: nothing is seen of it from there
            if execution.broker is not None and execution.delivery.status == PARKED:
                execution.broker.stir(execution)

    # -- questions ----------------------------------------------------------------------------------------------------

    def takes(self, event_type: type[Event] | None, prompt: Event | None) -> bool:
        """Tell whether a nested wait is a question to people, which the outer step can ask."""
        if event_type is None or self._execution.dead or self._execution.finished:
            return False
        return isinstance(prompt, InputRequiredEvent) or issubclass(event_type, HumanResponseEvent)

    def ask(
        self,
        waiter_id: str,
        event_type: type[Event],
        requirements: dict[str, Any],
        prompt: Event | None,
        timeout: float | None,
        answer: Callable[[Answer], object],
    ) -> asyncio.Task[None]:
        """Wait in the outer step for what a nested step waits for.

        Args:
            waiter_id: The id of the nested wait.
            event_type: The type that it waits for.
            requirements: The fields that it asks for.
            prompt: The question.
            timeout: Seconds until its deadline; None for none. The outer wait holds the deadline.
            answer: Called with the answer, with TIMED_OUT, or with the error of a question that cannot be asked.
        """
        asking = self._ask(f"{self._name}/{waiter_id}", event_type, requirements, prompt, timeout, answer)
        task = asyncio.get_running_loop().create_task(asking, context=self._variables.copy())
        self._asking.add(task)
        task.add_done_callback(self._asking.discard)
        return task

    def asked(self, question: InputRequiredEvent) -> None:
        """Ask a question that a nested step sent or returned; its answer is any that nested steps accept."""
        tasks: list[asyncio.Task[None]] = []

        def answered(found: Answer) -> None:
            for task in tasks:
                if task is not asyncio.current_task():
                    task.cancel()
            self._run.take_answer(found)

        name = type(question).__name__
        for number, cls in enumerate(self._answers):
            prompt = None if number else question
            if self.takes(cls, prompt):
                tasks.append(self.ask(name, cls, {}, prompt, None, answered))

    async def _ask(
        self,
        waiter_id: str,
        event_type: type[Event],
        requirements: dict[str, Any],
        prompt: Event | None,
        timeout: float | None,
        answer: Callable[[Answer], object],
    ) -> None:
        try:
            found = await self._context.wait_for_event(event_type, prompt, waiter_id, requirements, timeout=timeout)
        except DeadAttemptError:
            return  # the outer attempt is over, and the nested run with it
        except TimeoutError:
            answer(TIMED_OUT)
        except WorkflowError as error:
            answer(error)
        else:
            answer(found)
