"""How to call a step: where each argument of its function comes from."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from stepwire.workflow.definition.step_config import StepConfig
from stepwire.workflow.events import Event
from stepwire.workflow.resource import ResourceManager
from stepwire.workflow.service import ServiceManager

__all__ = ["StepCall"]


class StepCall:
    """Bind the arguments of one step; made once for each step of a workflow.

    Attributes:
        function: The step's function, bound to the workflow unless it is a free function.
        config: The step's configuration.
        injected: Whether `inject` has anything to add.
    """

    __slots__ = ("_context", "_event", "config", "function", "injected")

    def __init__(self, function: Callable[..., Any], config: StepConfig) -> None:
        self.function = function
        self.config = config
        self._event = config.event_name
        self._context = config.context_parameter
        self.injected = bool(config.requested_services or config.resources)

    def arguments(self, event: Event, context: object) -> dict[str, Any]:
        """Return the keyword arguments that need no waiting: the event, and the context if the step takes one."""
        arguments: dict[str, Any] = {self._event: event}
        if self._context is not None:
            arguments[self._context] = context
        return arguments

    async def inject(self, services: ServiceManager, resources: ResourceManager, arguments: dict[str, Any]) -> None:
        """Add services and resources to `arguments`; call it only when `injected` is true.

        Raises:
            ServiceNotFoundError: A service that has no default is missing.
        """
        for service in self.config.requested_services:
            arguments[service.name] = (
                services.get(service.name, service.default_value) if service.has_default else services.get(service.name)
            )
        for resource in self.config.resources:
            arguments[resource.name] = await resources.get(resource.resource)
