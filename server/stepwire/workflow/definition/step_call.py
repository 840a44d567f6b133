"""How to call a step: a plan, made once for each step of a workflow."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from stepwire.workflow.definition.step_config import StepConfig
from stepwire.workflow.events import Event

if TYPE_CHECKING:
    from stepwire.workflow.context.context import Context
    from stepwire.workflow.workflow import Workflow


class StepCall:
    """A step's function and where its arguments come from."""

    __slots__ = ("_context", "_event", "config", "function", "injected")

    def __init__(self, function: Callable[..., Any], config: StepConfig) -> None:
        self.function = function
        self.config = config
        self._event = config.event_name
        self._context = config.context_parameter
        self.injected = bool(config.requested_services or config.resources)

    def arguments(self, event: Event, context: Context[Any]) -> dict[str, Any]:
        """Return the keyword arguments that are at hand: the event and the context."""
        arguments: dict[str, Any] = {self._event: event}
        if self._context is not None:
            arguments[self._context] = context
        return arguments

    async def inject(self, workflow: Workflow, arguments: dict[str, Any]) -> None:
        """Add services by name and resources; only when `injected`."""
        services = workflow._service_manager
        for service in self.config.requested_services:
            arguments[service.name] = (
                services.get(service.name, service.default_value) if service.has_default else services.get(service.name)
            )
        for resource in self.config.resources:
            arguments[resource.name] = await workflow._resource_manager.get(resource.resource)
