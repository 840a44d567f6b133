"""The configuration that a decorator attaches to a step function.

`StepConfig` is what the rest of the engine knows about a step: the decorators write it, routing, validation and the
runner read it.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, Protocol

from stepwire.workflow.events import Event
from stepwire.workflow.resource import ResourceDefinition
from stepwire.workflow.retry_policy import RetryPolicy
from stepwire.workflow.service import ServiceDefinition

__all__ = ["CollectSpec", "StepConfig", "StepFunction", "StepOwner", "set_step_config", "step_config_of"]

StepFunction = Callable[..., Any]

# The name that 1.x uses. Always through getattr and setattr: a class body would mangle it.
_ATTRIBUTE = "__step_config"


class StepOwner(Protocol):
    """A class that free functions can be added to as steps: every Workflow."""

    @classmethod
    def add_step(cls, func: StepFunction) -> None:
        """Add a decorated function as a step."""


@dataclass(frozen=True)
class CollectSpec:
    """Say what a step collects before it is called, with one event that holds all of it.

    Attributes:
        make: Makes that event.
        slots: The types of the events, one for each parameter; empty: the events of a stream.
        most: How many events of a stream are enough; None: all of them.
    """

    make: Callable[[list[Any]], Event]
    slots: tuple[type[Event], ...] = ()
    most: int | None = None


@dataclass(frozen=True, kw_only=True)
class StepConfig:
    """Describe a step as its signature and its decorator declare it.

    Attributes:
        accepted_events: The event classes that the step accepts.
        event_name: The name of the parameter that receives the event.
        return_types: The event classes that the step may return, and NoneType.
        context_parameter: The name of the parameter that receives the context, if there is one.
        context_state_type: The model in `Context[Model]`, if the annotation names one.
        num_workers: How many executions may run at a time in one run.
        requested_services: The parameters that are filled by name from the workflow's services.
        retry_policy: Decides whether and when a failed attempt runs again; None: never.
        resources: The parameters that are filled by resource factories.
        accept_subclasses: Accept events of subclasses of `accepted_events` too.
        timeout: Seconds that one attempt may take; None: no limit.
        is_async: Whether the function is a coroutine function; others run in a thread.
        catches: None for an ordinary step. For a `@catch_error` step the names of the steps whose failures it
            receives; empty: all of them.
        max_recoveries: How often a `@catch_error` step may catch what its own recoveries lead to; None: any number.
        list_returns: The step may return a list of events; each is sent on by itself.
        tells_times: Whether the events of its failures say when it failed, and after how many seconds.
        waits: Whether the step's own code waits for events or time.
        collects: What the step collects before it is called; None: each event by itself.
        broad_waits: Whether the step's waits take events of subclasses, too.
        own_waits: Whether an event that answers a wait of the step comes to it that way only, and also answers waits of
            other steps that have the same id.
        feeds: The steps that collect what comes of a list that this step returns.
        aliases: The names that the step had before; saved runs may still name it so.
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
    max_recoveries: int | None = None
    list_returns: bool = False
    aliases: tuple[str, ...] = ()
    tells_times: bool = False
    waits: bool = False
    collects: CollectSpec | None = None
    feeds: tuple[str, ...] = ()
    broad_waits: bool = False
    own_waits: bool = False

    def accepts(self, event_type: type) -> bool:
        """Return whether the step accepts this very class, or one of its subclasses if it opted in (S5)."""
        if event_type in self.accepted_events:
            return True
        return self.accept_subclasses and issubclass(event_type, tuple(self.accepted_events))


def step_config_of(func: object) -> StepConfig | None:
    """Return the configuration of a step, bound or not; None for anything else."""
    config = getattr(getattr(func, "__func__", func), _ATTRIBUTE, None)
    return config if isinstance(config, StepConfig) else None


def set_step_config(func: object, config: StepConfig) -> None:
    """Make `func` a step with this configuration."""
    setattr(func, _ATTRIBUTE, config)
