"""Find the steps that accept an event, by a table that is filled once for each workflow."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from stepwire.workflow.definition.step_config import StepConfig, step_config_of
from stepwire.workflow.errors import StepDoesNotAcceptError, UnknownStepError, WorkflowConfigurationError
from stepwire.workflow.events import Event, StepFailedEvent


class Routing:
    """Map event types to steps: by exact type, and by subclass for steps that opted in (S5).

    Steps that catch errors are not routed by type; `catcher` finds the one for a failed step.

    Attributes:
        steps: The configuration of each step, by name.
        collects: What steps collect before they are called, by name.
        broad: The steps whose waits take events by subclass.

    Raises:
        WorkflowConfigurationError: An earlier name of a step is the name, or an earlier name, of another one.
    """

    def __init__(self, steps: Mapping[str, Callable[..., Any]]) -> None:
        self.steps: dict[str, StepConfig] = {}
        for name, function in steps.items():
            config = step_config_of(function)
            assert config is not None
            self.steps[name] = config
        self._current: dict[str, str] = {}
        for name, config in self.steps.items():
            for alias in config.aliases:
                other = alias if alias in self.steps else self._current.setdefault(alias, name)
                if other != name or alias == name:
                    raise WorkflowConfigurationError(
                        f"Step {name!r} cannot have the alias {alias!r}: it is a name of step {other!r}"
                    )
        self._targets: dict[type[Event], tuple[str, ...]] = {}
        self.collects = {name: config.collects for name, config in self.steps.items() if config.collects is not None}
        self._catchers: dict[str, str | None] = {}
        self.broad = frozenset(name for name, config in self.steps.items() if config.broad_waits)

    def current(self, name: str) -> str:
        """Return the name that a step has now, from a name that it has or had; any other text as it is."""
        return self._current.get(name, name)

    @property
    def former(self) -> Mapping[str, str]:
        """Return the names that steps had before, with those that they have now."""
        return self._current

    def targets(self, event_type: type[Event]) -> tuple[str, ...]:
        """Return the names of the steps that accept an event of this type, in order of definition."""
        targets = self._targets.get(event_type)
        if targets is None:
            targets = self._targets[event_type] = self._find_targets(event_type)
        return targets

    def _find_targets(self, event_type: type[Event]) -> tuple[str, ...]:
        return tuple(
            name for name, config in self.steps.items() if config.catches is None and config.accepts(event_type)
        )

    def target(self, step: str, event_type: type[Event]) -> tuple[str]:
        """Return the one step that an event is for. Raise UnknownStepError or StepDoesNotAcceptError."""
        step = self.current(step)
        config = self.steps.get(step)
        if config is None:
            raise UnknownStepError(f"Step {step} does not exist", step=step)
        if not config.accepts(event_type):
            raise StepDoesNotAcceptError(f"Step {step} does not accept event of type {event_type.__name__}", step=step)
        return (step,)

    def catcher(self, step: str) -> str | None:
        """Return the step that catches the failure of `step`; a step that names it wins over one that catches all."""
        if step not in self._catchers:
            self._catchers[step] = self._find_catcher(step)
        return self._catchers[step]

    def _find_catcher(self, step: str) -> str | None:
        if self.steps[step].catches is not None:
            return None
        found = None
        for name, config in self.steps.items():
            if config.catches is None:
                continue
            if step in config.catches:
                return name
            if not config.catches and found is None and StepFailedEvent in config.accepted_events:
                found = name
        return found
