"""The plan of a workflow: what its steps declare, worked out once for each instance.

A plan is all that the engine needs to know of an author's class: routing, how each step is called, the start and stop
events, and the type of the state. Nothing below this room sees the workflow itself.
"""

from __future__ import annotations

import inspect
from types import MethodType
from typing import Any, NamedTuple

from pydantic import ValidationError

from stepwire.workflow.checks import kind_of
from stepwire.workflow.definition.routing import Routing
from stepwire.workflow.definition.step_call import StepCall
from stepwire.workflow.definition.step_config import StepConfig, StepFunction
from stepwire.workflow.definition.validation import (
    context_state_type,
    start_event_class,
    steps_of,
    stop_event_class,
    validate_graph,
)
from stepwire.workflow.errors import SignatureError, WorkflowConfigurationError, WorkflowRuntimeError
from stepwire.workflow.events import StartEvent, StopEvent
from stepwire.workflow.resource import ResourceManager
from stepwire.workflow.service import ServiceManager
from stepwire.workflow.state.dict_state import DictState
from stepwire.workflow.state.store import InMemoryStateStore

__all__ = ["Plan", "Planned", "Settings", "plan_of", "settings_of"]


class Settings(NamedTuple):
    """What a workflow object was made with.

    Attributes:
        timeout: The seconds that a run may take; None for no bound.
        num_concurrent_runs: How many runs may be at work at a time; None for no bound.
        validates: Whether the steps are checked to fit together.
        verbose: Whether each step is printed.
        services: What steps get by the name of a parameter.
        resources: What steps get from factories.
    """

    timeout: float | None
    num_concurrent_runs: int | None
    validates: bool
    verbose: bool
    services: ServiceManager
    resources: ResourceManager


class Planned:
    """The base of Workflow: an object that has a plan and settings once its `__init__` is through.

    The names of the settings are those of 1.x, which subclasses know and may set.
    """

    _stepwire_plan: Plan
    _timeout: float | None
    _num_concurrent_runs: int | None
    _disable_validation: bool
    verbose: bool
    _service_manager: ServiceManager
    _resource_manager: ResourceManager


class Plan:
    """Hold the steps of a workflow, where each event goes, and how each step is called.

    Attributes:
        name: The name of the workflow's class.
        workflow_type: The class itself.
        steps: The step functions by name, bound to the workflow unless they are free functions.
        routing: Finds the steps that accept an event.
        calls: How each step is called, by name.
        start: The one StartEvent class that the steps accept.
        stop: The one StopEvent class that the steps return.
        state_type: The model of the state; DictState when no step names one.

    Raises:
        WorkflowConfigurationError: The class has no steps; or not exactly one StartEvent class is accepted and one
            StopEvent class returned; or the steps name different states, or one whose fields have no defaults.
        SignatureError: A step is a method without `self`.
    """

    __slots__ = (
        "_interactive",
        "_services",
        "calls",
        "name",
        "routing",
        "start",
        "state_type",
        "steps",
        "stop",
        "workflow_type",
    )

    def __init__(self, workflow: object) -> None:
        cls = type(workflow)
        self.name = cls.__name__
        self.workflow_type = cls
        functions = steps_of(cls)
        if not functions:
            raise WorkflowConfigurationError(f"Workflow {self.name!r} has no steps: mark its methods with @step")
        self.start: type[StartEvent] = start_event_class(self.name, functions)
        self.stop: type[StopEvent] = stop_event_class(self.name, functions)
        self.state_type: type[Any] = _state_type(self.name, functions)
        free = {function for base in cls.__mro__ for function in vars(base).get("_step_functions", {}).values()}
        self.steps: dict[str, StepFunction] = {
            name: function if function in free else getattr(workflow, name) for name, function in functions.items()
        }
        self.routing = Routing(self.steps)
        for name, function in self.steps.items():
            _check_self(name, function, self.routing.steps[name])
        self.calls = {name: StepCall(function, self.routing.steps[name]) for name, function in self.steps.items()}
        # The names of the services that `validate` last succeeded with.
        self._services: frozenset[str] | None = None
        self._interactive = False

    def new_store(self) -> InMemoryStateStore[Any]:
        """Return a store with the state of a new run."""
        if self.state_type is DictState:
            return InMemoryStateStore.empty()
        return InMemoryStateStore(self.state_type())

    def validate(self, services: ServiceManager) -> bool:
        """Check that the steps fit together and that their services exist; return whether a human is in the loop.

        The result is kept until services are added.

        Raises:
            WorkflowValidationError: The first rule that is broken, with the steps that break it.
        """
        known = self._services
        if known is None or known != services.keys():
            self._interactive = validate_graph(self.name, self.steps, self.start, self.stop, services)
            self._services = frozenset(services)
        return self._interactive


def plan_of(workflow: Any) -> Plan:
    """Return the plan of a workflow object.

    Raises:
        WorkflowConfigurationError: The workflow's `__init__` did not call `super().__init__()`.
        WorkflowRuntimeError: It is not a workflow object.
    """
    try:
        plan: Plan = workflow._stepwire_plan
    except AttributeError:
        if isinstance(workflow, Planned):
            name = type(workflow).__name__
            raise WorkflowConfigurationError(f"Workflow {name!r}: its __init__ must call super().__init__()") from None
        raise WorkflowRuntimeError(f"a context needs a Workflow object, not {kind_of(workflow)}") from None
    return plan


def settings_of(workflow: Planned) -> Settings:
    """Return the settings of a workflow object as they are now."""
    return Settings(
        workflow._timeout,
        workflow._num_concurrent_runs,
        not workflow._disable_validation,
        workflow.verbose,
        workflow._service_manager,
        workflow._resource_manager,
    )


def _check_self(name: str, function: StepFunction, config: StepConfig) -> None:
    """Raise SignatureError for a method whose first parameter is one that the engine passes, so that it has no self."""
    if not isinstance(function, MethodType):
        return
    code = getattr(inspect.unwrap(function.__func__), "__code__", None)
    first = code.co_varnames[0] if code is not None and code.co_argcount else ""
    passed = {config.event_name, config.context_parameter}
    passed |= {each.name for each in config.resources} | {each.name for each in config.requested_services}
    if first and first in passed:
        raise SignatureError(
            f"Step {name!r} is a method without self: write it as {name}(self, {first}…), or add @staticmethod",
            step=name,
        )


def _state_type(name: str, functions: dict[str, StepFunction]) -> type[Any]:
    state_type = context_state_type(name, functions)
    if state_type is None:
        return DictState
    try:
        state_type()
    except ValidationError as error:
        fields = ", ".join(".".join(map(str, each["loc"])) for each in error.errors())
        raise WorkflowConfigurationError(
            f"Workflow {name!r}: every field of its state {state_type.__name__} needs a default: {fields}"
        ) from error
    return state_type
