"""The workflow: a class of steps."""

from __future__ import annotations

import contextvars
import logging
import uuid
import weakref
from collections import deque
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from typing import TYPE_CHECKING, Any, ClassVar

from pydantic import ValidationError

from stepwire.workflow._broker import CANCELLED, FAILED
from stepwire.workflow._call import StepCall
from stepwire.workflow._graph import WorkflowDescription, describe, draw
from stepwire.workflow._routing import Routing
from stepwire.workflow._runner import Runner
from stepwire.workflow._validation import (
    context_state_type,
    start_event_class,
    steps_of,
    stop_event_class,
    validate_graph,
)
from stepwire.workflow.context.context import Context
from stepwire.workflow.context.serializers import BaseSerializer
from stepwire.workflow.context.state_store import DictState, InMemoryStateStore
from stepwire.workflow.decorators import StepFunction, step_config_of
from stepwire.workflow.errors import (
    WorkflowConfigurationError,
    WorkflowRuntimeError,
    WorkflowValidationError,
)
from stepwire.workflow.events import Event, StartEvent, StopEvent, WorkflowCancelledEvent, WorkflowFailedEvent
from stepwire.workflow.handler import WorkflowHandler
from stepwire.workflow.resource import ResourceManager
from stepwire.workflow.service import ServiceManager

if TYPE_CHECKING:
    from stepwire.workflow.checkpointer import Checkpoint, CheckpointCallback

logger = logging.getLogger("stepwire.workflow")


class Workflow:
    """Subclass it and mark methods with `@step`; an instance can run any number of times.

    `timeout` bounds a run, in seconds; None does not. `num_concurrent_runs` bounds how many runs of this instance
    are at work; further ones queue. `types` names further types that events and state hold, for the service.
    Raises WorkflowConfigurationError unless exactly one StartEvent type is accepted and exactly one StopEvent type
    is returned.
    """

    types: ClassVar[Sequence[type[Any]]] = ()
    _step_functions: ClassVar[dict[str, StepFunction]] = {}

    def __init_subclass__(cls, **kwargs: Any) -> None:
        super().__init_subclass__(**kwargs)
        cls._step_functions = {}

    def __init__(
        self,
        timeout: float | None = 45.0,
        disable_validation: bool = False,
        verbose: bool = False,
        service_manager: ServiceManager | None = None,
        resource_manager: ResourceManager | None = None,
        num_concurrent_runs: int | None = None,
    ) -> None:
        self._timeout = timeout
        self._disable_validation = disable_validation
        self.verbose = verbose
        self._service_manager = service_manager or ServiceManager()
        self._resource_manager = resource_manager or ResourceManager()
        self._num_concurrent_runs = num_concurrent_runs or None  # 0 is no bound, as in 1.x
        self._running = 0
        self._queued: deque[tuple[WorkflowHandler, Callable[[], None]]] = deque()
        self._handlers: set[WorkflowHandler] = set()
        self._latest: weakref.ref[WorkflowHandler] | None = None
        self._build()

    def _build(self) -> None:
        name = type(self).__name__
        functions = steps_of(type(self))
        self.start_event_class = start_event_class(name, functions)
        self.stop_event_class = stop_event_class(name, functions)
        self._state_type = context_state_type(name, functions)
        if self._state_type is not None:
            try:
                self._state_type()
            except ValidationError as error:
                raise WorkflowConfigurationError(
                    f"Workflow {name!r}: every field of its state {self._state_type.__name__} needs a default"
                ) from error
        free = {function for cls in type(self).__mro__ for function in cls.__dict__.get("_step_functions", {}).values()}
        self._steps: dict[str, StepFunction] = {
            key: function if function in free else getattr(self, key) for key, function in functions.items()
        }
        self._routing = Routing(self._steps)
        self._calls = {key: StepCall(function, self._routing.steps[key]) for key, function in self._steps.items()}

    def _new_store(self) -> InMemoryStateStore[Any]:
        return InMemoryStateStore((self._state_type or DictState)())

    @classmethod
    def add_step(cls, func: StepFunction) -> None:
        """Add a free function as a step of this class and its subclasses.

        WorkflowValidationError when it is not decorated or its name is taken.
        """
        if step_config_of(func) is None:
            raise WorkflowValidationError(f"Step function {func.__name__} is missing the `@step` decorator")
        if func.__name__ in steps_of(cls):
            raise WorkflowValidationError(f"Step {func.__name__} is already defined in {cls.__name__}")
        if "_step_functions" not in vars(cls):
            cls._step_functions = {}
        cls._step_functions[func.__name__] = func

    def add_workflows(self, **workflows: Workflow) -> None:
        """Add nested workflows, for the steps that ask for them by parameter name.

        Their runs are in process: a service does not make them durable.
        """
        for name, workflow in workflows.items():
            self._service_manager.add(name, workflow)

    def describe(self) -> WorkflowDescription:
        """Describe the steps, the events with their JSON Schemas, and the edges."""
        return describe(self)

    def draw(self) -> str:
        """Draw the graph as a Mermaid flowchart."""
        return draw(self)

    # -- running --------------------------------------------------------------------------------------------------

    def run(
        self,
        ctx: Context[Any] | None = None,
        stepwise: bool = False,
        checkpoint_callback: CheckpointCallback | None = None,
        start_event: StartEvent | None = None,
        **kwargs: Any,
    ) -> WorkflowHandler:
        """Start a run and return its handler; needs a running event loop.

        The keyword arguments are the fields of the start event, unless `start_event` is given. A context that was
        restored while running goes on where it was, without a start event; one whose run has ended starts anew with
        its state. Raises WorkflowValidationError for a workflow that does not fit together, ValueError for a
        `start_event` that is none; an invalid input surfaces as WorkflowRuntimeError on await.
        """
        interactive = self._validate()
        if interactive and stepwise:
            raise WorkflowRuntimeError("Human-in-the-loop is not supported with stepwise=True")
        if start_event is not None:
            if not isinstance(start_event, StartEvent):
                raise ValueError("start_event must be a StartEvent")
            if kwargs:
                logger.info("start_event is given: the keyword arguments are ignored")
        context: Context[Any] = Context(self, stepwise=stepwise) if ctx is None else ctx
        if type(context._workflow) is not type(self):
            raise WorkflowRuntimeError(f"the context is one of {type(context._workflow).__name__}")
        if context._in_use:
            raise WorkflowRuntimeError("the context belongs to a run that has not ended")
        # Of a context that was made for it; one that was saved or has run before is stepwise when it is asked for.
        context.stepwise = stepwise or (context.stepwise and context._fresh)
        context._fresh = False
        goes_on = context.is_running
        if context._broker.outcome is not None:
            context._broker.prepare()
        handler = WorkflowHandler(context, uuid.uuid4().hex)
        context.run_id = handler.run_id
        event: StartEvent | None = None
        if not goes_on:
            try:
                event = start_event or self.start_event_class(**kwargs)
            except Exception as error:  # noqa: BLE001 - whatever the author's validators raise is an invalid input
                invalid = _invalid(self.start_event_class, error)
                failed = WorkflowFailedEvent(
                    step=None, error_type=type(error).__name__, message=str(invalid), attempts=0
                )
                context._broker.end(FAILED, failed, invalid)
                self._conclude(handler)
                return handler
        self._launch(handler, event, checkpoint_callback)
        return handler

    def run_from(
        self,
        checkpoint: Checkpoint,
        ctx_serializer: BaseSerializer | None = None,
        checkpoint_callback: CheckpointCallback | None = None,
        **kwargs: Any,
    ) -> WorkflowHandler:
        """Run on from a checkpoint: its context is restored and its output event sent."""
        context: Context[Any] = Context.from_dict(self, checkpoint.ctx_state, ctx_serializer)
        context._broker.started = True
        handler = self.run(ctx=context, checkpoint_callback=checkpoint_callback, **kwargs)
        if checkpoint.output_event is not None:
            context.send_event(checkpoint.output_event)
        return handler

    def _validate(self) -> bool:
        if self._disable_validation:
            return False
        return validate_graph(
            type(self).__name__,
            self._steps,
            self.start_event_class,
            self.stop_event_class,
            set(self._service_manager),
        )

    def _launch(
        self,
        handler: WorkflowHandler,
        event: StartEvent | None,
        callback: CheckpointCallback | None,
    ) -> None:
        """Start now, or when one of the concurrent runs has ended."""
        context = handler.ctx
        context._in_use = True
        self._latest = weakref.ref(handler)
        after_step: Callable[[str, Event, Event | None], Awaitable[None]] | None = None
        if callback is not None:
            checkpoint = callback

            async def after_step(name: str, given: Event, result: Event | None) -> None:
                await checkpoint(handler.run_id, name, given, result, context)

        def begin() -> None:
            self._running += 1
            runner = Runner(
                self,
                context,
                context._broker,
                on_end=ended,
                after_step=after_step,
                stepwise=context.stepwise,
            )
            handler._runner = context._runner = runner
            runner.start(event, self._timeout)

        def ended() -> None:
            self._conclude(handler)
            self._running -= 1
            while self._queued and self._free():
                self._queued.popleft()[1]()

        self._handlers.add(handler)
        if self._free():
            begin()
        else:
            # When it begins, it is the end of another run that calls: keep the caller's context variables.
            variables = contextvars.copy_context()
            self._queued.append((handler, lambda: variables.run(begin)))

    def _conclude(self, handler: WorkflowHandler) -> None:
        """Tell a handler how its run ended."""
        outcome = handler.ctx._broker.outcome
        assert outcome is not None
        handler.ctx._in_use = False
        handler.ctx._runner = None
        self._handlers.discard(handler)
        handler._ended(outcome)

    def _free(self) -> bool:
        return self._num_concurrent_runs is None or self._running < self._num_concurrent_runs

    def _withdraw(self, handler: WorkflowHandler) -> None:
        """Cancel a run that waits for others to end: it acts at once (S15)."""
        self._queued = deque(entry for entry in self._queued if entry[0] is not handler)
        handler.ctx._broker.end(CANCELLED, WorkflowCancelledEvent())
        self._conclude(handler)

    # -- one run at a time, as in 1.x -----------------------------------------------------------------------------

    def _only_handler(self) -> WorkflowHandler:
        if len(self._handlers) != 1:
            raise WorkflowRuntimeError(
                f"{len(self._handlers)} runs are in progress: use the handler of the one you mean"
            )
        return next(iter(self._handlers))

    async def stream_events(self) -> AsyncIterator[Event]:
        """Iterate over the stream of the only run in progress, or of the latest one when none is.

        Unlike a handler's stream it ends before the terminal event.
        """
        latest = self._latest() if self._latest is not None and not self._handlers else None
        async for event in (latest or self._only_handler()).stream_events():
            if not isinstance(event, StopEvent):
                yield event

    def send_event(self, message: Event, step: str | None = None) -> None:
        """Send an event to the only run in progress."""
        self._only_handler().ctx.send_event(message, step)

    def is_done(self) -> bool:
        """Tell whether no run is in progress."""
        return not self._handlers


def _invalid(kind: type[StartEvent], error: Exception) -> WorkflowRuntimeError:
    """Say which fields of a start event are wrong and how, but not their values."""
    if isinstance(error, ValidationError):
        found = error.errors(include_url=False, include_context=False, include_input=False)
        told = "; ".join(f"{'.'.join(map(str, each['loc'])) or 'the event'}: {each['msg']}" for each in found)
    else:
        told = type(error).__name__
    message = f"The input is no {kind.__name__}: {told}"
    invalid = WorkflowRuntimeError(message.encode(errors="replace").decode())
    invalid.__cause__ = error
    return invalid


__all__ = ["Workflow"]
