"""What a decorated step says of itself, and where that is kept."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, Protocol

from stepwire.workflow.events import Event
from stepwire.workflow.resource import ResourceDefinition
from stepwire.workflow.retry_policy import RetryPolicy
from stepwire.workflow.service import ServiceDefinition

__all__ = ["StepConfig", "StepFunction", "StepOwner", "set_step_config", "step_config_of"]

StepFunction = Callable[..., Any]

# The name that 1.x uses. Always through getattr and setattr: a class body would mangle it.
_ATTRIBUTE = "__step_config"


class StepOwner(Protocol):
    """A class that free functions can be added to as steps: every Workflow."""

    @classmethod
    def add_step(cls, func: StepFunction) -> None:
        """Add a decorated function as a step."""


@dataclass(frozen=True, kw_only=True)
class StepConfig:
    """Describe a step, as its signature and decorator do.

    `return_types` holds event classes and NoneType; with `list_returns` the step may also return
    a list of those events, each of which goes on by itself. `timeout` bounds one attempt, in
    seconds. `catches` is None for an ordinary step; for a `@catch_error` step it holds the names
    of the steps whose failures it takes, empty for all.
    """

    accepted_events: list[type[Event]]
    event_name: str
    return_types: list[type]
    context_parameter: str | None = None
    context_state_type: type | None = None
    num_workers: int = 4
    requested_services: list[ServiceDefinition] = field(default_factory=list)
    retry_policy: RetryPolicy | None = None
    resources: list[ResourceDefinition] = field(default_factory=list)
    accept_subclasses: bool = False
    timeout: float | None = None
    is_async: bool = True
    catches: tuple[str, ...] | None = None
    list_returns: bool = False

    def accepts(self, event_type: type) -> bool:
        """Tell whether the step takes this very class, or a subclass if it opted in (S5)."""
        if event_type in self.accepted_events:
            return True
        return self.accept_subclasses and issubclass(event_type, tuple(self.accepted_events))


def step_config_of(func: object) -> StepConfig | None:
    """Return the config of a step, bound or not; None for anything else."""
    config = getattr(getattr(func, "__func__", func), _ATTRIBUTE, None)
    return config if isinstance(config, StepConfig) else None


def set_step_config(func: object, config: StepConfig) -> None:
    """Make a step of a function."""
    setattr(func, _ATTRIBUTE, config)
