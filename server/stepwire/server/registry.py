"""The workflows that a server serves, by name, with the types that may appear on the wire."""

from __future__ import annotations

import inspect
import logging
from collections.abc import Iterator
from dataclasses import dataclass, field

from stepwire.workflow.hosting import (
    Event,
    StartEvent,
    StepFailedEvent,
    StopEvent,
    TypeRegistry,
    Workflow,
    WorkflowConfigurationError,
    WorkflowDescription,
    plan_of,
    settings_of,
    steps_that_share,
)

__all__ = ["Registry", "Served"]

logger = logging.getLogger("stepwire.server")

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
        description: Its steps, as clients see them.
        timeout: Seconds that a run may take, unless its start says otherwise; None for no end.
        concurrent_runs: How many of its runs may work or wait at a time; None for any number.
    """

    name: str
    workflow: Workflow
    names: TypeRegistry
    version: str
    sendable: dict[str, type[Event]]
    description: WorkflowDescription = field(repr=False)
    timeout: float | None = None
    concurrent_runs: int | None = None

    @classmethod
    def of(cls, name: str, workflow: Workflow) -> Served:
        """Serve a workflow; WorkflowConfigurationError or WorkflowValidationError when it cannot run."""
        plan = plan_of(workflow)
        settings = settings_of(workflow)
        if settings.validates:
            plan.validate(settings.services)
        kind = type(workflow)
        names = TypeRegistry.of(kind, plan.steps)
        sendable = {
            type_name: event_type
            for type_name, event_type in names.events().items()
            if not issubclass(event_type, _NEVER_SENT) and event_type is not Event
        }
        version = str(getattr(kind, "version", "") or names.schema_digest())
        return cls(
            name=name,
            workflow=workflow,
            names=names,
            version=version,
            sendable=sendable,
            description=workflow.describe(),
            timeout=settings.timeout,
            concurrent_runs=settings.num_concurrent_runs,
        )

    @property
    def doc(self) -> str:
        """Return the documentation of the workflow's class."""
        return inspect.getdoc(type(self.workflow)) or "" if type(self.workflow).__doc__ else ""

    @property
    def state_type(self) -> str:
        """Return the class name of the state."""
        name: str = plan_of(self.workflow).state_type.__name__
        return name


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
