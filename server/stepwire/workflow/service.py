"""Services: what steps get by the name of a parameter, usually a nested workflow."""

from __future__ import annotations

from collections.abc import Iterator, KeysView
from dataclasses import dataclass
from typing import Any

from stepwire.workflow.errors import WorkflowError

__all__ = ["NO_DEFAULT", "ServiceDefinition", "ServiceManager", "ServiceNotFoundError"]

NO_DEFAULT: Any = object()


class ServiceNotFoundError(WorkflowError):
    """Report a service that was not added and has no default."""

    def __init__(self, message: str = "", *, name: str = "") -> None:
        super().__init__(message)
        self.name = name


@dataclass(frozen=True)
class ServiceDefinition:
    """Describe a parameter of a step that a service is passed to.

    `default_value` is NO_DEFAULT when the parameter has none: `ServiceManager.get` then raises.
    """

    name: str
    service: Any
    default_value: Any = NO_DEFAULT

    @property
    def has_default(self) -> bool:
        """Tell whether the step can do without the service."""
        return self.default_value is not NO_DEFAULT


class ServiceManager:
    """Keep the services of a workflow by name."""

    def __init__(self) -> None:
        self._services: dict[str, Any] = {}

    def add(self, name: str, service: Any) -> None:
        """Add a service, in place of one that has the name already."""
        self._services[name] = service

    def get(self, name: str, default: Any = NO_DEFAULT) -> Any:
        """Return the service; without one `default`, else raise ServiceNotFoundError."""
        service = self._services.get(name, default)
        if service is NO_DEFAULT:
            raise ServiceNotFoundError(f"Service {name!r} not found", name=name)
        return service

    def keys(self) -> KeysView[str]:
        """Return the names."""
        return self._services.keys()

    def __contains__(self, name: object) -> bool:
        return name in self._services

    def __iter__(self) -> Iterator[str]:
        return iter(self._services)

    def __len__(self) -> int:
        return len(self._services)
