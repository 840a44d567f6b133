"""The workflow: a class of steps."""

from __future__ import annotations

import logging
import math
import os
from collections.abc import AsyncIterator, Mapping, Sequence
from typing import Any, ClassVar

from pydantic import ValidationError

from stepwire.workflow.broker.current import running_execution
from stepwire.workflow.broker.deliveries.delivery import Execution
from stepwire.workflow.broker.outcome import DEFAULT_TIMEOUT, FAILED
from stepwire.workflow.checkpoint import Checkpoint, CheckpointCallback
from stepwire.workflow.checks import check_settings, kind_of
from stepwire.workflow.context.context import Context, run_of
from stepwire.workflow.decorators import StepFunction, step_config_of
from stepwire.workflow.definition.graph import WorkflowDescription, describe, draw
from stepwire.workflow.definition.plan import Plan, Planned, plan_of, settings_of
from stepwire.workflow.definition.validation import (
    steps_of,
)
from stepwire.workflow.errors import (
    WorkflowRuntimeError,
    WorkflowValidationError,
)
from stepwire.workflow.events import Event, StartEvent, StopEvent, WorkflowFailedEvent, event_to_json
from stepwire.workflow.handler import WorkflowHandler
from stepwire.workflow.local_runs import Runs
from stepwire.workflow.resource import ResourceManager
from stepwire.workflow.schedule import Declared
from stepwire.workflow.service import ServiceManager
from stepwire.workflow.state.own import is_sole, own
from stepwire.workflow.state.serializers import BaseSerializer

logger = logging.getLogger("stepwire.workflow")


class Workflow(Planned):
    """Subclass it and mark methods with `@step`; an instance can run any number of times.

    `timeout` bounds a run, in seconds; None does not. `num_concurrent_runs` bounds how many runs of this instance
    are at work; further ones queue. `types` names further types that events and state hold, for the service;
    `type_aliases` maps names that types had before to these types; `internal_events` are events that only steps may
    send, as if each were declared with `internal=True`. `max_children` bounds how many runs that a run has started are
    under way at a time, on a server; further ones wait, in order. `schedule` says when a server starts runs by itself.
    Raises WorkflowConfigurationError unless exactly one StartEvent type is accepted and exactly one StopEvent type
    is returned.
    """

    types: ClassVar[Sequence[type[Any]]] = ()
    type_aliases: ClassVar[Mapping[str, type[Any]]] = {}
    internal_events: ClassVar[Sequence[type[Event]]] = ()
    max_children: ClassVar[int | None] = None
    schedule: ClassVar[Declared] = None
    context_type: ClassVar[type[Context[Any]]] = Context
    __shares_input__: ClassVar[bool] = False
    _step_functions: ClassVar[dict[str, StepFunction]] = {}

    def __init_subclass__(cls, **kwargs: Any) -> None:
        super().__init_subclass__(**kwargs)
        cls._step_functions = {}

    def __init__(
        self,
        timeout: float | None = DEFAULT_TIMEOUT,
        disable_validation: bool = False,
        verbose: bool = False,
        service_manager: ServiceManager | None = None,
        resource_manager: ResourceManager | None = None,
        num_concurrent_runs: int | None = None,
    ) -> None:
        check_settings(type(self).__name__, timeout, num_concurrent_runs)
        self._timeout = timeout
        self._disable_validation = disable_validation
        self.verbose = verbose
        self._service_manager = service_manager or ServiceManager()
        self._resource_manager = resource_manager or ResourceManager()
        self._num_concurrent_runs = num_concurrent_runs or None  # 0 is no bound, as in 1.x
        self._stepwire_plan = Plan(self)
        self._stepwire_runs = Runs(self._stepwire_plan, self._num_concurrent_runs)
        self.start_event_class = self._stepwire_plan.start
        self.stop_event_class = self._stepwire_plan.stop

    def __stands_for__(self, other: Workflow) -> bool:
        """Tell whether runs of another object may be runs of this one: it is of the same class."""
        return type(self) is type(other)

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

        On a server that serves such a workflow too, its runs are children: runs of their own, as durable as the outer
        one. Otherwise they are in process: nothing makes them durable, and their questions are asked at the outer run.
        """
        for name, workflow in workflows.items():
            if isinstance(workflow, type):
                raise WorkflowValidationError(
                    f"add_workflows: {name} is the class {workflow.__name__}, pass an object of it"
                )
            self._service_manager.add(name, workflow)

    def describe(self) -> WorkflowDescription:
        """Describe the steps, the events with their JSON Schemas, and the edges."""
        return describe(plan_of(self))

    def draw(self) -> str:
        """Draw the graph as a Mermaid flowchart."""
        return draw(plan_of(self))

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
        plan = plan_of(self)
        interactive = not self._disable_validation and plan.validate(self._service_manager)
        if interactive and stepwise:
            raise WorkflowRuntimeError("Human-in-the-loop is not supported with stepwise=True")
        if start_event is not None:
            if not isinstance(start_event, StartEvent):
                raise ValueError(f"start_event must be a StartEvent, not {kind_of(start_event)}")
            if not plan.routing.targets(type(start_event)):
                raise ValueError(
                    f"start_event: no step of {type(self).__name__!r} accepts {type(start_event).__name__};"
                    f" it starts with {plan.start.__name__}"
                )
            if kwargs:
                logger.info("start_event is given: the keyword arguments are ignored")
        if ctx is not None and not isinstance(ctx, Context):
            raise WorkflowRuntimeError(f"ctx must be a Context, not {kind_of(ctx)}; input is given by keyword")
        outer = running_execution()
        if outer is not None and ctx is None and not stepwise and checkpoint_callback is None:
            child = _start_child(self, outer, start_event, kwargs)
            if child is not None:
                return child
        if outer is not None and outer.context is not None:
            run_of(outer.context).check_nesting(plan.name)
        context: Context[Any] = self.context_type(self, stepwise=stepwise) if ctx is None else ctx
        held = run_of(context)
        if held.plan.workflow_type is not type(self):
            raise WorkflowRuntimeError(f"the context is of workflow {held.plan.name!r}, not {type(self).__name__!r}")
        if held.in_use:
            raise WorkflowRuntimeError("the context belongs to a run that has not ended")
        # Of a context that was made for it; one that was saved or has run before is stepwise when it is asked for.
        context.stepwise = stepwise or (context.stepwise and held.fresh)
        held.fresh = False
        broker = held.broker
        goes_on = broker.started and broker.outcome is None
        if broker.outcome is not None:
            broker.prepare()
        handler = WorkflowHandler(context, os.urandom(16).hex(), held)
        context.run_id = handler.run_id
        if outer is not None and outer.context is not None:
            held.nest(outer, outer.context, run_of(outer.context), plan.name)
        event: StartEvent | None = None
        if not goes_on:
            try:
                event = start_event or self.start_event_class(**kwargs)
                if not self.__shares_input__ and not is_sole(event, 1):  # the caller may hold it, or values of it
                    event = own(event)
            except Exception as error:  # noqa: BLE001 - whatever the author's validators raise is an invalid input
                invalid = _invalid(self.start_event_class, error)
                failed = WorkflowFailedEvent(
                    step=None, error_type=type(error).__name__, message=str(invalid), attempts=0
                )
                held.broker.end(FAILED, failed, invalid)
                held.conclude()
                return handler
        self._stepwire_runs.launch(settings_of(self), held, handler, event, checkpoint_callback)
        return handler

    def run_from(
        self,
        checkpoint: Checkpoint,
        ctx_serializer: BaseSerializer | None = None,
        checkpoint_callback: CheckpointCallback | None = None,
        **kwargs: Any,
    ) -> WorkflowHandler:
        """Run on from a checkpoint: its context is restored and its output event sent."""
        if not isinstance(checkpoint, Checkpoint):
            raise ValueError(f"run_from takes a Checkpoint, not {kind_of(checkpoint)}")
        context: Context[Any] = Context.from_dict(self, checkpoint.ctx_state, ctx_serializer)
        run_of(context).broker.started = True
        handler = self.run(ctx=context, checkpoint_callback=checkpoint_callback, **kwargs)
        if checkpoint.output_event is not None:
            context.send_event(checkpoint.output_event)
        return handler

    # -- one run at a time, as in 1.x -----------------------------------------------------------------------------

    async def stream_events(self) -> AsyncIterator[Event]:
        """Iterate over the stream of the only run in progress, or of the latest one when none is.

        Unlike a handler's stream it ends before the terminal event.
        """
        async for event in self._stepwire_runs.only_or_latest().stream_events():
            if not isinstance(event, StopEvent):
                yield event

    def send_event(self, message: Event, step: str | None = None) -> None:
        """Send an event to the only run in progress."""
        self._stepwire_runs.only().ctx.send_event(message, step)

    def is_done(self) -> bool:
        """Tell whether no run is in progress."""
        return not self._stepwire_runs.handlers


def _start_child(
    workflow: Workflow, outer: Execution, start_event: StartEvent | None, kwargs: dict[str, Any]
) -> WorkflowHandler | None:
    """Start a run of its own for a step of a hosted run, if the workflow is served there; else return None."""
    starts = None if outer.finished or outer.context is None else run_of(outer.context).children
    if starts is None or not (name := starts.served_as(workflow)):
        return None
    try:
        event = start_event or workflow.start_event_class(**kwargs)
    except Exception:  # noqa: BLE001 - whatever the author's validators raise is told by the nested run
        return None
    timeout = settings_of(workflow).timeout
    handler = starts.start(name, event_to_json(event), timeout=math.inf if timeout is None else timeout)
    assert isinstance(handler, WorkflowHandler)
    return handler


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
