"""Find the steps that accept an event, by a table that is filled once for each workflow."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from stepwire.workflow.definition.step_config import StepConfig, step_config_of
from stepwire.workflow.events import Event, StepFailedEvent


class Routing:
    """Map event types to steps: by exact type, and by subclass for steps that opted in (S5).

    Steps that catch errors are not routed by type; `catcher` finds the one for a failed step.

    Attributes:
        steps: The configuration of each step, by name.
    """

    def __init__(self, steps: Mapping[str, Callable[..., Any]]) -> None:
        self.steps: dict[str, StepConfig] = {}
        for name, function in steps.items():
            config = step_config_of(function)
            assert config is not None
            self.steps[name] = config
        self._targets: dict[type[Event], tuple[str, ...]] = {}

    def targets(self, event_type: type[Event]) -> tuple[str, ...]:
        """Return the names of the steps that accept an event of this type, in order of definition."""
        targets = self._targets.get(event_type)
        if targets is None:
            targets = tuple(
                name for name, config in self.steps.items() if config.catches is None and config.accepts(event_type)
            )
            self._targets[event_type] = targets
        return targets

    def catcher(self, step: str) -> str | None:
        """Return the step that catches the failure of `step`; a step that names it wins over one that catches all."""
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
