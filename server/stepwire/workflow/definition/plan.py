"""The plan of a workflow: what its steps say, worked out once for each instance."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from pydantic import ValidationError

from stepwire.workflow.definition.routing import Routing
from stepwire.workflow.definition.step_call import StepCall
from stepwire.workflow.definition.step_config import StepFunction
from stepwire.workflow.definition.validation import (
    context_state_type,
    start_event_class,
    steps_of,
    stop_event_class,
    validate_graph,
)
from stepwire.workflow.errors import WorkflowConfigurationError
from stepwire.workflow.events import StartEvent, StopEvent
from stepwire.workflow.state.store import DictState, InMemoryStateStore

if TYPE_CHECKING:
    from stepwire.workflow.workflow import Workflow


class Plan:
    """The steps of a workflow by name, which event goes where, and how each step is called.

    WorkflowConfigurationError unless exactly one StartEvent type is accepted, exactly one StopEvent type is returned,
    and the steps agree on a state whose fields have defaults.
    """

    __slots__ = ("_interactive", "_name", "_services", "calls", "routing", "start", "state_type", "steps", "stop")

    def __init__(self, workflow: Workflow) -> None:
        cls = type(workflow)
        self._name = cls.__name__
        functions = steps_of(cls)
        if not functions:
            raise WorkflowConfigurationError(f"Workflow {self._name!r} has no steps: mark its methods with @step")
        self.start: type[StartEvent] = start_event_class(self._name, functions)
        self.stop: type[StopEvent] = stop_event_class(self._name, functions)
        self.state_type: type[Any] = _state_type(self._name, functions)
        free = {function for base in cls.__mro__ for function in vars(base).get("_step_functions", {}).values()}
        self.steps: dict[str, StepFunction] = {
            name: function if function in free else getattr(workflow, name) for name, function in functions.items()
        }
        self.routing = Routing(self.steps)
        self.calls = {name: StepCall(function, self.routing.steps[name]) for name, function in self.steps.items()}
        self._services: frozenset[str] | None = None
        """The services that the plan was last found valid with."""
        self._interactive = False

    def new_store(self) -> InMemoryStateStore[Any]:
        """Return a store with the state of a new run."""
        if self.state_type is DictState:
            return InMemoryStateStore.empty()
        return InMemoryStateStore(self.state_type())

    def validate(self, services: Any) -> bool:
        """Check that the steps fit together and their services are there; tell whether a human is in the loop.

        Raises WorkflowValidationError. What was found valid is not looked at again until the services change.
        """
        known = self._services
        if known is None or known != services.keys():
            self._interactive = validate_graph(self._name, self.steps, self.start, self.stop, services)
            self._services = frozenset(services)
        return self._interactive


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


__all__ = ["Plan"]
