"""A run in this process: what its context, its handler and its host share."""

from __future__ import annotations

import asyncio
import concurrent.futures
from collections.abc import AsyncIterator, Callable, Coroutine, Generator, Mapping
from functools import partial
from threading import get_ident
from typing import Any, Final, ParamSpec, Protocol, TypeVar

from stepwire.workflow.broker.broker import Broker
from stepwire.workflow.broker.changes.state_hooks import GONE, IN_PROCESS, DurableHooks
from stepwire.workflow.broker.changes.state_notes import LOCAL_NOTES, DurableNotes
from stepwire.workflow.broker.deliveries.delivery import Execution
from stepwire.workflow.broker.ledger import Answer
from stepwire.workflow.broker.log.entries import RECEIVED
from stepwire.workflow.broker.log.journal import Journal
from stepwire.workflow.broker.outcome import CANCELLED, FAILED, Outcome
from stepwire.workflow.context.nested import Outer, OuterContext
from stepwire.workflow.definition.plan import Plan
from stepwire.workflow.errors import ChildRunError, DeadAttemptError, WorkflowRuntimeError
from stepwire.workflow.events import Event, HumanResponseEvent, WorkflowCancelledEvent, WorkflowFailedEvent
from stepwire.workflow.runner.runner import Runner

__all__ = ["MOST_NESTED", "ChildStarts", "Run", "RunHandle"]

P = ParamSpec("P")
T = TypeVar("T")

MOST_NESTED: Final = 100
"""Runs that steps start in each other in process. Ending some hundreds at once is deeper than Python's stack."""
_TOLD: Final = 16
"""Workflows that the error names of those."""


class RunHandle(Protocol):
    """A run that a step has started: await it for its result, as the handler of `Workflow.run`."""

    run_id: str

    def __await__(self) -> Generator[Any, None, Any]:
        """Wait for the end of the run; return its result, or raise what it failed with."""

    def stream_events(self, after: int | None = None) -> AsyncIterator[Event]:
        """Iterate over the stream of the run, to its terminal event."""

    async def cancel_run(self) -> None:
        """Cancel the run."""

    def done(self) -> bool:
        """Tell whether the run has ended."""

    def result(self) -> Any:
        """Return the result, or raise what the run failed with; InvalidStateError before its end."""

    def exception(self) -> BaseException | None:
        """Return what the run failed with; None when it completed; InvalidStateError before its end."""


class ChildStarts(Protocol):
    """Starts runs of their own for the steps of a run."""

    def served_as(self, workflow: object) -> str:
        """Return the name under which a workflow object is served; empty if it is not."""

    def start(
        self,
        workflow: str,
        fields: Mapping[str, Any] | bytes,
        *,
        run_id: str = "",
        labels: Mapping[str, str] | None = None,
        parent_close: str = "cancel",
        timeout: float | None = None,
    ) -> RunHandle:
        """Start a run."""


class Run:
    """Hold the broker of a run and, while it is at work, the runner that drives it.

    Attributes:
        plan: The plan of the workflow that the run was made for.
        broker: The run's data and transitions.
        runner: Drives the broker; None before the run begins and after its end.
        in_use: Whether a run in this process has the context.
        fresh: Whether no run has had the context yet.
        outer: The step of another run that has started it; None for a run of its own.
        above: The run of that step; None once it has ended.
        children: Starts runs of their own for the steps; None where nothing is made durable.
        on_end: Called once with the outcome.
        withdraw: Takes a run that waits for others to end out of their queue.
    """

    __slots__ = ("above", "broker", "children", "fresh", "in_use", "on_end", "outer", "plan", "runner", "withdraw")

    def __init__(self, plan: Plan) -> None:
        store = plan.new_store()
        store.hooks, store.notes = IN_PROCESS, LOCAL_NOTES
        self.plan = plan
        self.broker = Broker(plan.routing, store)
        self.runner: Runner | None = None
        self.in_use = False
        self.fresh = True
        self.outer: Outer | None = None
        self.above: Run | None = None
        self.children: ChildStarts | None = None
        self.on_end: Callable[[Outcome], None] | None = None
        self.withdraw: Callable[[], None] | None = None

    def make_durable(self, journal: Journal) -> None:
        """Keep a journal from here on: what cannot be saved is refused at the call."""
        broker = self.broker
        broker.keep(journal)
        broker.store.hooks, broker.store.notes = DurableHooks(broker, journal), DurableNotes(broker)

    # -- its end --------------------------------------------------------------------------------------------------

    def cancel(self, *, leave: bool = False) -> None:
        """End the run as cancelled, at once, also one that has not begun (S15).

        With `leave` the broker keeps what was in progress, for a context that is saved afterwards.
        """
        if self.runner is not None:
            self.runner.cancel(leave=leave)
            return
        if self.withdraw is not None:
            self.withdraw()
        self.broker.end(CANCELLED, WorkflowCancelledEvent())
        self.conclude()

    def conclude(self) -> None:
        """Tell how the run ended; another one may have the context then."""
        outcome, callback = self.broker.outcome, self.on_end
        assert outcome is not None
        self.in_use = False
        if self.outer is not None:
            self.outer.leave()
            self.broker.outer = None
        self.runner = self.on_end = self.withdraw = self.outer = None
        if callback is not None:
            callback(outcome)

    def check_nesting(self, name: str) -> None:
        """Refuse that a step of this run starts another one in process, if runs are nested too deep.

        Args:
            name: The name of the workflow that is to run.

        Raises:
            ChildRunError: They are; the error says which workflows start each other.
        """
        names = [name]
        run: Run | None = self
        while run is not None:
            names.append(run.plan.name)
            if run.above is not None and run.above.broker.outcome is not None:
                run.above = None  # it goes on alone
            run = run.above
        if len(names) > MOST_NESTED:
            told = " -> ".join(reversed(names[:_TOLD]))
            raise ChildRunError(f"runs are nested too deep in process, at most {MOST_NESTED}: … -> {told}")

    def nest(self, execution: Execution, context: OuterContext, above: Run, name: str) -> None:
        """Ask the questions of this run at the step that has started it.

        Args:
            execution: The attempt of that step.
            context: The context of its run.
            above: Its run.
            name: The name of this run's workflow.
        """
        self.above = above
        accepted = (cls for config in self.plan.routing.steps.values() for cls in config.accepted_events)
        answers = [cls for cls in accepted if issubclass(cls, HumanResponseEvent)]
        if execution.broker is not None:
            self.broker.work.clock = execution.broker.clock
        apart = above.runner is not None and not above.runner.here
        self.outer = self.broker.outer = Outer(self, execution, context, name, answers, apart=apart)
        self.outer.join()

    def take_answer(self, answer: Answer) -> None:
        """Take what the outer run has for a question: an answer, or the error of one that it could not ask."""
        broker = self.broker
        if broker.outcome is not None or not broker.started:
            return
        if isinstance(answer, Event):
            self.do(broker.accept, answer, kind=RECEIVED)
        elif isinstance(answer, BaseException):
            text = str(answer)
            failed = WorkflowFailedEvent(step=None, error_type=type(answer).__name__, message=text, attempts=0)
            self.do(broker.end, FAILED, failed, answer)

    def leave(self) -> None:
        """Cut what refers back, of a durable run that has left memory: its state takes no change any more.

        So the run is freed at once: the next collection of old garbage may be hours away.
        """
        self.runner = self.children = None
        self.broker.leave()
        self.broker.store.hooks, self.broker.store.notes = GONE, None

    # -- transitions ----------------------------------------------------------------------------------------------

    def do(self, transition: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> T:
        """Make a transition on the run's loop, from any thread, and let the runner act on it.

        It takes arguments because a closure would cost each call a cell for each of them.
        """
        runner = self.runner
        if runner is None:
            try:
                return transition(*args, **kwargs)
            finally:
                self.pump()
        if runner.thread == get_ident():
            try:
                return transition(*args, **kwargs)
            finally:
                runner.pump()
        return runner.on_loop(partial(_then_pump, runner, partial(transition, *args, **kwargs)))

    def pump(self) -> None:
        """Do what the last transition made possible: the runner does, or, without one, waits are told."""
        if self.runner is not None:
            self.runner.pump()
            return
        for notify, answer in self.broker.work.take_resumed():
            notify(answer)

    def run_blocking(self, make: Callable[[], Coroutine[Any, Any, T]]) -> T:
        """Run a coroutine on the run's loop and block this thread until it is done."""
        runner = self.runner
        if runner is None:
            raise WorkflowRuntimeError("blocking calls need a run")
        try:
            running = asyncio.get_running_loop()
        except RuntimeError:
            running = None
        if running is runner.loop:
            raise WorkflowRuntimeError("blocking calls are for sync steps; await in async ones")
        if runner.loop.is_closed():
            raise DeadAttemptError("the event loop of the run is closed")
        future: concurrent.futures.Future[T] = asyncio.run_coroutine_threadsafe(make(), runner.loop)
        try:
            return future.result()
        except concurrent.futures.CancelledError:  # an Exception, unlike asyncio's
            raise DeadAttemptError("the event loop of the run is being closed") from None


def _then_pump(runner: Runner, transition: Callable[[], T]) -> T:
    try:
        return transition()
    finally:
        runner.pump()
