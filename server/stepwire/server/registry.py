"""The workflows that a server serves, by name, with the types that may appear on the wire."""

from __future__ import annotations

import inspect
import logging
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Any, Final

from stepwire.workflow.hosting import (
    Event,
    InMemoryStateStore,
    StartEvent,
    StepFailedEvent,
    StopEvent,
    TypeRegistry,
    Workflow,
    WorkflowConfigurationError,
    WorkflowDescription,
    code_digest,
    plan_of,
    settings_of,
    steps_that_share,
)

__all__ = ["OWN", "Registry", "Served"]

logger = logging.getLogger("stepwire.server")

OWN: Final = "~"
"""What the names of workflows of the server itself begin with. Served names begin with a letter or a digit."""
_NEVER_SENT = (StartEvent, StopEvent, StepFailedEvent)


@dataclass(eq=False)
class Served:
    """A workflow under its name.

    Attributes:
        name: The name that callers use.
        workflow: The workflow; all its runs share it.
        names: The types that payloads may hold.
        version: The class attribute `version` of the workflow, else a digest of its types.
        sendable: The event types that a client may send or publish, by name.
        internal: The names of event types that their author declared internal: no client may send them.
        code: A digest of its types and steps: what saved runs may name.
        description: Its steps, as clients see them.
        timeout: Seconds that a run may take, unless its start says otherwise; None for no end.
        concurrent_runs: How many of its runs may work or wait at a time; None for any number.
        tells: Gives what the records of its runs say of their states. Only workflows of the server itself have it.
        own: Whether it is a workflow of the server itself, which no caller sees.
        has_sync_steps: Whether some of its steps run in threads.
    """

    name: str
    workflow: Workflow
    names: TypeRegistry
    version: str
    sendable: dict[str, type[Event]]
    internal: frozenset[str]
    code: str
    description: WorkflowDescription = field(repr=False)
    timeout: float | None = None
    concurrent_runs: int | None = None
    tells: Callable[[InMemoryStateStore[Any]], dict[str, Any]] | None = None
    own: bool = field(init=False)
    has_sync_steps: bool = field(init=False)

    def __post_init__(self) -> None:
        self.own = self.tells is not None
        self.has_sync_steps = not all(call.config.is_async for call in plan_of(self.workflow).calls.values())

    @classmethod
    def of(cls, name: str, workflow: Workflow) -> Served:
        """Serve a workflow; WorkflowConfigurationError or WorkflowValidationError when it cannot run."""
        plan = plan_of(workflow)
        settings = settings_of(workflow)
        if settings.validates:
            plan.validate(settings.services)
        kind = type(workflow)
        _check_max_children(kind)
        names = TypeRegistry.of(kind, plan.steps)
        internal = _internal(kind, names)
        sendable = {
            type_name: event_type
            for type_name, event_type in names.events().items()
            if not issubclass(event_type, _NEVER_SENT) and event_type is not Event and type_name not in internal
        }
        code = code_digest(names, plan.routing)
        version = str(getattr(kind, "version", "") or code)
        return cls(
            name=name,
            workflow=workflow,
            names=names,
            version=version,
            sendable=sendable,
            internal=internal,
            code=code,
            description=workflow.describe(),
            timeout=settings.timeout,
            concurrent_runs=settings.num_concurrent_runs,
        )

    @property
    def told(self) -> str:
        """What tells this code from any other, to replicas: the version, and the digest where that is another text."""
        return self.version if self.version == self.code else f"{self.version} {self.code}"

    def current_step(self, name: str) -> str:
        """Return the name that a step has now, from a name that it has or had; any other text as it is."""
        current: str = plan_of(self.workflow).routing.current(name)
        return current

    def step_names(self, name: str) -> list[str]:
        """Return all names that a step has and had, from one of them; any other text as it is."""
        routing = plan_of(self.workflow).routing
        config = routing.steps.get(routing.current(name))
        return [name] if config is None else [routing.current(name), *config.aliases]

    def type_names(self, name: str) -> list[str]:
        """Return all names that a type has and had, from one of them; any other text as it is."""
        current = self.names.current(name)
        return [current, *self.names.aliases(current)]

    @property
    def doc(self) -> str:
        """Return the documentation of the workflow's class."""
        return inspect.getdoc(type(self.workflow)) or "" if type(self.workflow).__doc__ else ""

    @property
    def state_type(self) -> str:
        """Return the class name of the state."""
        name: str = plan_of(self.workflow).state_type.__name__
        return name


def _check_max_children(kind: type[Workflow]) -> None:
    most: object = kind.max_children
    if most is not None and (not isinstance(most, int) or isinstance(most, bool) or most < 1):
        raise WorkflowConfigurationError(f"{kind.__name__}.max_children must be an int of 1 or more, or None")


def _internal(kind: type[Workflow], names: TypeRegistry) -> frozenset[str]:
    """Return the names of the event types that no client may send. WorkflowConfigurationError for a wrong list."""
    listed = kind.internal_events
    events = names.events()
    for each in listed:
        if each not in events.values():
            raise WorkflowConfigurationError(
                f"{kind.__name__}.internal_events holds something that is not an event type of the workflow"
            )
    return frozenset(name for name, cls in events.items() if getattr(cls, "__internal__", False) or cls in listed)


class Registry:
    """The served workflows by name."""

    def __init__(self) -> None:
        self._served: dict[str, Served] = {}

    def add(self, name: str, workflow: Workflow | type[Workflow]) -> Served:
        """Serve a workflow, or an instance of a class made without arguments, under a name.

        WorkflowConfigurationError when the name is taken or the workflow cannot be made or run.
        """
        if name in self._served:
            raise WorkflowConfigurationError(f"two workflows are named {name!r}: give one another name")
        if isinstance(workflow, type):
            kind = workflow
            try:
                workflow = kind()
            except TypeError as error:
                raise WorkflowConfigurationError(
                    f"{kind.__name__} cannot be made without arguments: serve an instance instead"
                ) from error
        served = Served.of(name, workflow)
        for step, attributes in steps_that_share(plan_of(workflow).steps).items():
            logger.warning(
                "step %s of workflow %s assigns to %s: all runs share it, and a restart loses it; keep it in the state",
                step,
                name,
                ", ".join(f"self.{attribute}" for attribute in attributes),
            )
        self._served[name] = served
        return served

    def get(self, name: str) -> Served | None:
        """Return the workflow of this name; None when it is not served."""
        return self._served.get(name)

    def names(self) -> list[str]:
        """Return the names, sorted."""
        return sorted(self._served)

    def __iter__(self) -> Iterator[Served]:
        return iter(self._served.values())

    def __len__(self) -> int:
        return len(self._served)
