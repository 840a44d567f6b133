"""The context: what the steps of a run share."""

from __future__ import annotations

import asyncio
import warnings
from collections.abc import Awaitable, Generator, Sequence
from functools import partial
from typing import TYPE_CHECKING, Any, Generic, TypeVar, cast

from pydantic import BaseModel

from stepwire.workflow.broker.broker import Receipt
from stepwire.workflow.broker.delivery import (
    Execution,
    Waiter,
    current_execution,
)
from stepwire.workflow.broker.journal import RECEIVED, SENT
from stepwire.workflow.broker.ledger import TIMED_OUT, Answer, Notify
from stepwire.workflow.broker.outcome import COMPLETED, result_of
from stepwire.workflow.checks import check_wait, kind_of
from stepwire.workflow.context.blocking import BlockingContext
from stepwire.workflow.context.dict_form import StreamingQueue, restore_form, saved_form
from stepwire.workflow.context.run import Run
from stepwire.workflow.definition.plan import Planned, plan_of
from stepwire.workflow.errors import (
    SnapshotError,
    WorkflowRuntimeError,
)
from stepwire.workflow.events import Event
from stepwire.workflow.runner.runner import Runner
from stepwire.workflow.runner.stepwise import Stepwise
from stepwire.workflow.state.dict_state import DictState
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


class StepInfo:
    """Who is calling: the delivery that a step works on. `key` names the work, the same in every attempt."""

    __slots__ = ("attempt", "delivery_id", "run_id", "step")

    def __init__(self, run_id: str, step: str, delivery_id: int, attempt: int) -> None:
        self.run_id = run_id
        self.step = step
        self.delivery_id = delivery_id
        self.attempt = attempt
        """1 for the first execution; more when the work was tried before."""

    @property
    def key(self) -> tuple[str, str, int]:
        """Return (run_id, step, delivery_id): the stable key to make outside effects idempotent with."""
        return (self.run_id, self.step, self.delivery_id)


class Context(Generic[StateT]):
    """What the steps of a run share: events, waits, the stream and the state.

    A context belongs to one run at a time. It can be filled before `Workflow.run(ctx=…)`, read after, saved with
    `to_dict` and restored with `from_dict`.
    """

    def __init__(self, workflow: Planned, stepwise: bool = False) -> None:
        self.stepwise = stepwise
        self.run_id = ""
        run = self._run = Run(plan_of(workflow))
        # Every call uses these two.
        self._broker = run.broker
        self._store: InMemoryStateStore[Any] = run.broker.store
        self._lock: asyncio.Lock | None = None
        self._streaming: StreamingQueue | None = None

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
        if not isinstance(message, Event):
            raise WorkflowRuntimeError(f"send_event takes an Event, not {kind_of(message)}")
        execution = current_execution(self._broker)
        kind = RECEIVED if execution is None else SENT
        if (runner := self._run.runner) is not None and (stepwise := runner.stepwise) is not None:
            return runner.on_loop(partial(self._send_stepwise, runner, stepwise, message, step, execution, kind))
        return self._run.do(lambda: self._broker.accept(message, step, execution, kind))

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
        if not isinstance(ev, Event):
            raise WorkflowRuntimeError(f"write_event_to_stream takes an Event, not {kind_of(ev)}")
        broker, runner = self._broker, self._run.runner
        execution = current_execution(broker)
        if execution is not None and runner is not None and runner.here:
            broker.put(ev, execution)  # a step that writes makes nothing possible that the runner had to act on
        else:
            self._run.do(lambda: broker.put(ev, execution))

    def collect_events(
        self, ev: Event, expected: Sequence[type[Event]], buffer_id: str | None = None
    ) -> list[Event] | None:
        """Buffer an event; return the expected ones, in the order of `expected`, once all are there.

        All or nothing. The default buffer is the step's own for this set of types. Of very many expected events keep a
        tuple: a list is counted anew at each call.
        """
        if not isinstance(ev, Event):
            raise WorkflowRuntimeError(f"collect_events takes an Event, not {kind_of(ev)}")
        execution = current_execution(self._broker)
        return self._run.do(lambda: self._broker.collect(ev, expected, buffer_id, execution))

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
        required = dict(requirements or {})
        if isinstance(waiter_event, dict):
            warnings.warn(
                "a dict as waiter_event is taken as the fields of an Event; pass an event",
                stacklevel=2,
            )
            waiter_event = Event(**waiter_event)
        if waiter_id is None:
            waiter_id = default_waiter_id(event_type, required)
        answer = await self._wait(waiter_id, event_type, required, waiter_event, timeout)
        if answer is TIMED_OUT:
            raise TimeoutError(f"no {event_type.__name__} within {timeout} seconds")
        return cast(EventT, answer)

    async def sleep(self, seconds: float) -> None:
        """Sleep like a waiter: without a worker, and in a service over restarts."""
        if in_edit_state():
            raise WorkflowRuntimeError("sleep cannot be awaited inside edit_state")
        await self._wait("sleep", None, {}, None, max(0.0, seconds))

    async def _wait(
        self,
        waiter_id: str,
        event_type: type[Event] | None,
        requirements: dict[str, Any],
        prompt: Event | None,
        timeout: float | None,
    ) -> Answer:
        broker = self._broker
        execution = current_execution(broker)
        # Outside the steps a wait is this task's alone, also when no run drives the broker: it keeps its own time.
        own_timeout = timeout if execution is None else None
        found = broker.wait(
            execution, waiter_id, event_type, requirements, prompt, None if execution is None else timeout
        )
        if not isinstance(found, Waiter):
            return found
        loop = asyncio.get_running_loop()
        future: asyncio.Future[Answer] = loop.create_future()

        notify = found.notify = _Telling(future, asyncio.current_task())
        self._run.pump()
        question = None
        if self._run.outer is not None and execution is not None and event_type is not None:
            question = self._run.outer.ask(waiter_id, event_type, requirements, prompt, partial(self._answered, notify))
        timer = None if own_timeout is None else loop.call_later(own_timeout, notify, TIMED_OUT)
        try:
            answer = await future
        except asyncio.CancelledError:
            await self._give_up_wait(found, execution)
            raise
        finally:
            if question is not None:
                question.cancel()
            notify.task = None  # whose cancellation would refer to it in a circle
            if timer is not None:
                timer.cancel()
        if answer is TIMED_OUT and execution is None:
            broker.waits.abandon(found, None, notify)
        if isinstance(answer, BaseException):
            raise answer
        return answer

    def _answered(self, notify: Notify, answer: Answer) -> None:
        """Take what the outer run has for a question of this nested one: an answer, or why it could not ask."""
        if isinstance(answer, Event):
            self._run.take_answer(answer)
        else:
            notify(answer)

    async def _give_up_wait(self, waiter: Waiter, execution: Execution | None) -> None:
        """Remove a waiter whose await was cancelled; its step goes on once it has a worker again."""
        future: asyncio.Future[Answer] = asyncio.get_running_loop().create_future()
        notify = _Telling(future)
        regains = self._broker.waits.abandon(waiter, execution, notify)
        self._run.pump()
        if regains:
            await future

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
        return StepInfo(self.run_id, delivery.step, delivery.id, delivery.attempt)

    async def running_steps(self) -> list[str]:
        """Return the names of the steps whose bodies run or wait now."""
        return sorted({ex.delivery.step for ex in self._broker.executions.values()})

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


def default_waiter_id(event_type: type[Event], requirements: dict[str, Any]) -> str:
    """Name a wait by the event's full name and what is required of it."""
    name = f"{event_type.__module__}.{event_type.__qualname__}"
    return f"waiter_{name}_{requirements!r}" if requirements else f"waiter_{name}"


class _Telling:
    """Tell a future its answer, unless it has one; lighter than a partial function, and many wait.

    `task` is the one that awaits it.
    """

    __slots__ = ("_future", "task")

    def __init__(self, future: asyncio.Future[Answer], task: asyncio.Task[Any] | None = None) -> None:
        self._future = future
        self.task = task

    def __call__(self, answer: Answer) -> None:
        if not self._future.done():
            self._future.set_result(answer)


class _Done:
    """What is done already and may be awaited or not."""

    def __await__(self) -> Generator[None]:
        yield from ()


def _deprecated(what: str, instead: str) -> None:
    warnings.warn(f"{what} is deprecated, use {instead}", DeprecationWarning, stacklevel=3)
