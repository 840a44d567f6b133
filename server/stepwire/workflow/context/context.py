"""The context: what the steps of a run share."""

from __future__ import annotations

import asyncio
import warnings
from collections.abc import Awaitable, Generator, Mapping, Sequence
from functools import partial
from threading import get_ident
from typing import TYPE_CHECKING, Any, Generic, Literal, TypeVar, cast

from pydantic import BaseModel

from stepwire.workflow.broker.current import current_execution, running_execution
from stepwire.workflow.broker.deliveries.delivery import Execution, Waiter
from stepwire.workflow.broker.ledger import TIMED_OUT
from stepwire.workflow.broker.log.entries import RECEIVED, SENT
from stepwire.workflow.broker.outcome import COMPLETED, result_of
from stepwire.workflow.broker.receipts import Receipt
from stepwire.workflow.checks import check_wait, is_seconds, kind_of, name_of
from stepwire.workflow.context.blocking import BlockingContext
from stepwire.workflow.context.dict_form import StreamingQueue, restore_form, saved_form
from stepwire.workflow.context.run import Run, RunHandle
from stepwire.workflow.context.step_info import StepInfo
from stepwire.workflow.context.waiting import NO_REQUIREMENTS, default_waiter_id, wait
from stepwire.workflow.definition.plan import Planned, plan_of
from stepwire.workflow.errors import ChildRunError, SnapshotError, WorkflowRuntimeError
from stepwire.workflow.events import EVENTS, Event
from stepwire.workflow.runner.runner import Runner
from stepwire.workflow.runner.stepwise import Stepwise
from stepwire.workflow.state.dict_state import DictState
from stepwire.workflow.state.own import is_sole
from stepwire.workflow.state.serializers import BaseSerializer, JsonSerializer
from stepwire.workflow.state.store import InMemoryStateStore, in_edit_state

if TYPE_CHECKING:
    import typing_extensions

    # A bare `Context` has a DictState; the running Python may be too old to say so.
    StateT = typing_extensions.TypeVar("StateT", bound=BaseModel, default=DictState)
else:
    StateT = TypeVar("StateT", bound=BaseModel)

EventT = TypeVar("EventT", bound=Event)

_MISSING: Any = object()


def run_of(context: Context[Any]) -> Run:
    """Return what the engine keeps of a context's run: for handlers and hosts, not for authors."""
    return context._run


class Context(Generic[StateT]):
    """What the steps of a run share: events, waits, the stream and the state.

    A context belongs to one run at a time. It can be filled before `Workflow.run(ctx=…)`, read after, saved with
    `to_dict` and restored with `from_dict`.
    """

    run_id = ""
    _lock: asyncio.Lock | None = None
    _streaming: StreamingQueue | None = None

    def __init__(self, workflow: Planned, stepwise: bool = False) -> None:
        self.stepwise = stepwise
        run = self._run = Run(plan_of(workflow))
        # Every call uses these two.
        self._broker = run.broker
        self._store: InMemoryStateStore[Any] = run.broker.store

    # -- state ----------------------------------------------------------------------------------------------------

    @property
    def store(self) -> InMemoryStateStore[StateT]:
        """Return the state store of the run."""
        return self._store

    @property
    def lock(self) -> asyncio.Lock:
        """Return a lock for the steps of this run; it guards nothing by itself."""
        if self._lock is None:
            self._lock = asyncio.Lock()
        return self._lock

    @property
    def blocking(self) -> BlockingContext:
        """Return the blocking twins of store and waits, for sync steps."""
        return BlockingContext(self, self._store, self._run.run_blocking)

    # -- events ---------------------------------------------------------------------------------------------------

    def send_event(self, message: Event, step: str | None = None) -> Receipt:
        """Send an event to every step that accepts its type, or to one step.

        Returns its receipt (`delivered` is 0 when nothing took it). Raises UnknownStepError, StepDoesNotAcceptError,
        RunEndedError, and in a service SerializationError when the event cannot be saved.
        """
        if not EVENTS[type(message)] and not isinstance(message, Event):
            raise WorkflowRuntimeError(f"send_event takes an Event, not {kind_of(message)}")
        execution = current_execution(self._broker)
        kind = RECEIVED if execution is None else SENT
        if (runner := self._run.runner) is not None and (stepwise := runner.stepwise) is not None:
            return runner.on_loop(partial(self._send_stepwise, runner, stepwise, message, step, execution, kind))
        sole = execution is not None and is_sole(message, 1)
        return self._run.do(self._broker.accept, message, step, execution, kind, sole=sole)

    def _send_stepwise(
        self,
        runner: Runner,
        stepwise: Stepwise,
        message: Event,
        step: str | None,
        execution: Execution | None,
        kind: int,
    ) -> Receipt:
        """Send in a stepwise run: `run_step` returns what a step sent too, and the caller's sending that on is none."""
        if execution is None and step is None and (sent := stepwise.sent_already(message)) is not None:
            return sent
        try:
            receipt = self._broker.accept(message, step, execution, kind)
            if execution is not None:
                stepwise.hold_sent(message, receipt)
            return receipt
        finally:
            runner.pump()

    def write_event_to_stream(self, ev: Event | None) -> None:
        """Write an event to the stream of the run. None is taken and ignored."""
        if ev is None:
            return
        if not EVENTS[type(ev)] and not isinstance(ev, Event):
            raise WorkflowRuntimeError(f"write_event_to_stream takes an Event, not {kind_of(ev)}")
        broker, runner = self._broker, self._run.runner
        execution = running_execution()
        if execution is not None and (execution.finished or execution.broker is not broker):
            execution = current_execution(broker)
        sole = broker.journal is None and is_sole(ev, 1)  # most steps keep no reference to what they write
        if execution is not None and runner is not None and runner.thread == get_ident():
            # A step that writes makes nothing possible that the runner had to act on.
            broker.put(ev, execution, sole=sole)
        else:
            self._run.do(broker.put, ev, execution, sole=sole)

    def collect_events(
        self, ev: Event, expected: Sequence[type[Event]], buffer_id: str | None = None
    ) -> list[Event] | None:
        """Buffer an event; return the expected ones, in the order of `expected`, once all are there.

        All or nothing. The default buffer is the step's own for this set of types. Of very many expected events keep a
        tuple: a list is counted anew at each call.
        """
        if not isinstance(ev, Event):
            raise WorkflowRuntimeError(f"collect_events takes an Event, not {kind_of(ev)}")
        if buffer_id is not None:
            buffer_id = name_of("collect_events: buffer_id", buffer_id)
        execution = current_execution(self._broker)
        return self._run.do(self._broker.collect, ev, expected, buffer_id, execution)

    async def wait_for_event(
        self,
        event_type: type[EventT],
        waiter_event: Event | dict[str, Any] | None = None,
        waiter_id: str | None = None,
        requirements: dict[str, Any] | None = None,
        timeout: float | None = 2000,
    ) -> EventT:
        """Wait for an event of this type that has the required fields; `waiter_event` goes to the stream first.

        The step gives its worker back while it waits. Raises asyncio.TimeoutError after `timeout` seconds (None:
        never) and WorkflowRuntimeError inside `edit_state`.
        """
        if in_edit_state():
            raise WorkflowRuntimeError("wait_for_event cannot be awaited inside edit_state")
        check_wait(event_type, waiter_event, requirements, timeout)
        required = dict(requirements) if requirements else NO_REQUIREMENTS
        if isinstance(waiter_event, dict):
            warnings.warn(
                "a dict as waiter_event is taken as the fields of an Event; pass an event",
                stacklevel=2,
            )
            waiter_event = Event(**waiter_event)
        if waiter_id is None:
            waiter_id = default_waiter_id(event_type, required)
        else:
            waiter_id = name_of("wait_for_event: waiter_id", waiter_id)
        waiting = wait(self._run, waiter_id, event_type, required, waiter_event, timeout, self._opened)
        del waiter_event, requirements  # a wait may take days, and the run keeps a copy of its question
        answer = await waiting
        if answer is TIMED_OUT:
            raise TimeoutError(f"no {event_type.__name__} within {timeout} seconds")
        return cast(EventT, answer)

    async def sleep(self, seconds: float) -> None:
        """Sleep like a waiter: without a worker, and in a service over restarts."""
        if in_edit_state():
            raise WorkflowRuntimeError("sleep cannot be awaited inside edit_state")
        if not is_seconds(seconds):
            raise WorkflowRuntimeError(f"sleep takes a number of seconds, not {kind_of(seconds)}")
        await wait(self._run, "sleep", None, NO_REQUIREMENTS, None, max(0.0, seconds))

    def _opened(self, waiter: Waiter, execution: Execution) -> bool:
        """Look at a wait that a step has just opened; tell whether it has been answered."""
        return False

    # -- runs of their own ----------------------------------------------------------------------------------------

    def start_run(
        self,
        workflow: str,
        /,
        *,
        run_id: str | None = None,
        labels: Mapping[str, str] | None = None,
        parent_close: Literal["cancel", "abandon"] = "cancel",
        timeout: float | None = None,
        **fields: Any,
    ) -> RunHandle:
        """Start a run of a served workflow from a step: a child, as durable as any run. Await it for its result.

        It is started once, however often the step begins again: the same call with the same input is the same run.
        In process, without a server, a workflow of this name that `add_workflows` has added runs nested.

        Args:
            workflow: The name under which the workflow is served.
            run_id: The id that the run shall have; by default one is made.
            labels: Labels of the run.
            parent_close: What becomes of it when this run ends first: `cancel` or `abandon`.
            timeout: Seconds that it may take; by default what its workflow says.
            **fields: The fields of its start event.

        Raises:
            ChildRunError: The workflow is not served, runs are nested too deep, or a limit is reached.
            WorkflowRuntimeError: The caller is no step, the input does not fit, or an argument is wrong.
        """
        children = self._run.children
        if children is not None:
            return children.start(
                workflow,
                fields,
                run_id=run_id or "",
                labels=labels,
                parent_close=parent_close,
                timeout=timeout,
            )
        runner = self._run.runner
        nested = None if runner is None else runner.services.get(workflow, None)
        if nested is None or not hasattr(nested, "run"):
            raise ChildRunError(
                f"no server runs this, and add_workflows has added no {workflow!r}: its runs cannot be started"
            )
        handle: RunHandle = nested.run(**fields)
        return handle

    # -- the run --------------------------------------------------------------------------------------------------

    @property
    def is_running(self) -> bool:
        """Tell whether a run has begun and has not ended."""
        return self._broker.started and self._broker.outcome is None

    def step_info(self) -> StepInfo:
        """Tell which step, delivery and attempt is calling. WorkflowRuntimeError outside a step."""
        execution = current_execution(self._broker)
        if execution is None:
            raise WorkflowRuntimeError("step_info can only be called in a step")
        delivery = execution.delivery
        origin = next((run_id for run_id, last in self._broker.origins if delivery.id <= last), self.run_id)
        return StepInfo(self.run_id, delivery.step, delivery.id, delivery.attempt, origin)

    async def running_steps(self) -> list[str]:
        """Return the names of the steps whose bodies run or wait now."""
        return sorted({ex.delivery.step for ex in self._broker.executions})

    def get_result(self) -> Any:
        """Return the result of the run. WorkflowRuntimeError while it has none."""
        outcome = self._broker.outcome
        if outcome is None or outcome.status != COMPLETED:
            raise WorkflowRuntimeError("the run has no result yet")
        return result_of(outcome.event)

    @property
    def streaming_queue(self) -> StreamingQueue:
        """Return the stream as a queue, as in 1.x; `WorkflowHandler.stream_events` is the way to read it."""
        if self._streaming is None or self._streaming.stream is not self._broker.stream:
            self._streaming = StreamingQueue(self._broker.stream)
        return self._streaming

    # -- saving ---------------------------------------------------------------------------------------------------

    def to_dict(self, serializer: BaseSerializer | None = None) -> dict[str, Any]:
        """Return the context as a JSON-able dict: a view with the 1.x keys, and what `from_dict` restores.

        What is in progress runs again after a restore; only a step whose own checkpoint this is, is through. Raises
        SerializationError naming what cannot be saved.
        """
        execution = current_execution(self._broker)
        through = execution.delivery if execution is not None and execution.returned else None
        save = partial(
            saved_form,
            self._broker,
            self._run.plan.name,
            serializer or JsonSerializer(),
            stepwise=self.stepwise,
            without=through,
        )
        if self._run.runner is None:
            return save()
        return self._run.runner.on_loop(save)

    @classmethod
    def from_dict(
        cls,
        workflow: Planned,
        data: dict[str, Any],
        serializer: BaseSerializer | None = None,
    ) -> Context[StateT]:
        """Restore a context from `to_dict`, or from one that 1.x saved.

        Raises ContextSerdeError for a missing key, SnapshotVersionError and SnapshotWorkflowError for a mismatch.
        """
        if not isinstance(data, dict):
            raise SnapshotError(f"A saved context is a dict, not {type(data).__name__}")
        serializer = serializer or JsonSerializer()
        context = cls(workflow, stepwise=bool(data.get("stepwise", False)))
        context._run.fresh = False
        restore_form(context._broker, context._run.plan.name, data, serializer)
        return context

    # -- deprecated -----------------------------------------------------------------------------------------------

    async def get(self, key: str, default: Any = _MISSING) -> Any:
        """Get a value of the state. Deprecated: use `store.get`."""
        _deprecated("Context.get", "Context.store.get")
        if default is _MISSING:
            return await self._store.get(key)
        return await self._store.get(key, default=default)

    async def set(self, key: str, value: Any, make_private: bool = False) -> None:
        """Set a value of the state. Deprecated: use `store.set`."""
        _deprecated("Context.set", "Context.store.set")
        await self._store.set(key, value)

    def clear(self) -> Awaitable[None]:
        """Clear the state, at once; awaiting it is not needed. Deprecated: use `store.clear`."""
        _deprecated("Context.clear", "Context.store.clear")
        self._run.do(self._store.reset)
        return _Done()

    @property
    def session(self) -> Context[StateT]:
        """Return the context itself. Deprecated."""
        _deprecated("Context.session", "the Context")
        return self


class _Done:
    """What is done already and may be awaited or not."""

    def __await__(self) -> Generator[None]:
        yield from ()


def _deprecated(what: str, instead: str) -> None:
    warnings.warn(f"{what} is deprecated, use {instead}", DeprecationWarning, stacklevel=3)
