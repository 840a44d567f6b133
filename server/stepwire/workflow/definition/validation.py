"""Check that the steps of a workflow fit together.

All functions take the steps by name; none of them sees the workflow.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator, Mapping
from types import NoneType
from typing import TypeVar

from stepwire.workflow.definition.step_config import StepConfig, StepFunction, step_config_of
from stepwire.workflow.errors import WorkflowConfigurationError, WorkflowValidationError
from stepwire.workflow.events import (
    Event,
    HumanResponseEvent,
    InputRequiredEvent,
    StartEvent,
    StepFailedEvent,
    StopEvent,
)

__all__ = [
    "context_state_type",
    "start_event_class",
    "steps_of",
    "stop_event_class",
    "validate_graph",
]

T = TypeVar("T", bound=Event)

_OUTSIDE = (InputRequiredEvent, HumanResponseEvent, StopEvent)


def steps_of(cls: type) -> dict[str, StepFunction]:
    """Return the steps of a workflow class by name: its methods, and functions added to it.

    Steps of base classes come first; within a class they are in the order of definition. An attribute of a class hides
    a step of that name in its bases, even if the attribute is not a step. Functions come from the dict
    `_step_functions` of each class.
    """
    steps: dict[str, StepFunction] = {}
    for base in reversed(cls.__mro__):
        for name, value in vars(base).items():
            if step_config_of(value) is not None:
                steps[name] = value.__get__(None, cls) if hasattr(value, "__get__") else value
            else:
                steps.pop(name, None)
        steps.update(vars(base).get("_step_functions", {}))
    return steps


def start_event_class(name: str, steps: Mapping[str, StepFunction]) -> type[StartEvent]:
    """Return the one StartEvent type that the steps of workflow `name` accept.

    Raises:
        WorkflowConfigurationError: They accept none, or more than one.
    """
    accepted = (event for _, config in _configs(steps) for event in config.accepted_events)
    return _exactly_one(name, accepted, StartEvent, "accept")


def stop_event_class(name: str, steps: Mapping[str, StepFunction]) -> type[StopEvent]:
    """Return the one StopEvent type that the steps of workflow `name` return.

    Raises:
        WorkflowConfigurationError: They return none, or more than one.
    """
    returned = (event for _, config in _configs(steps) for event in config.return_types)
    return _exactly_one(name, returned, StopEvent, "return")


def context_state_type(name: str, steps: Mapping[str, StepFunction]) -> type | None:
    """Return the state type in the annotations of the steps of workflow `name`; None if no step names one.

    Raises:
        WorkflowConfigurationError: The steps name different types (S20).
    """
    found: dict[type, str] = {}
    for step, config in _configs(steps):
        if config.context_state_type is not None:
            found.setdefault(config.context_state_type, step)
    if len(found) > 1:
        listed = ", ".join(f"{cls.__name__} (step {step!r})" for cls, step in found.items())
        raise WorkflowConfigurationError(f"Workflow {name!r}: its steps name different state types: {listed}")
    return next(iter(found), None)


def validate_graph(
    name: str,
    steps: Mapping[str, StepFunction],
    start: type[StartEvent],
    stop: type[StopEvent],
    services: Collection[str],
) -> bool:
    """Check that the steps of a workflow fit together; return whether a human is in the loop.

    Args:
        name: The name of the workflow, for errors.
        steps: The step functions by name.
        start: The StartEvent type that the steps accept.
        stop: The StopEvent type that the steps return.
        services: The names of the services that were added.

    Raises:
        WorkflowValidationError: The first of these: a step accepts a StopEvent; no step returns one; an event is
            consumed but never produced, or produced but never consumed; a service was not added and has no default;
            a @catch_error step names a step that does not exist.
    """
    configs = dict(_configs(steps))
    consumed = [(step, event) for step, c in configs.items() for event in c.accepted_events]
    produced = [(step, event) for step, c in configs.items() for event in c.return_types if event is not NoneType]
    stops = [(step, event) for step, event in consumed if issubclass(event, StopEvent)]
    if stops:
        raise _problem(name, "a StopEvent ends the run and no step may accept it", stops)
    if not any(issubclass(event, stop) for _, event in produced):
        raise _problem(name, f"no step produces {stop.__name__}")

    sources = {start, *(event for _, event in produced)}
    if any(config.catches is not None for config in configs.values()):
        sources.add(StepFailedEvent)
    orphans = [
        (step, event)
        for step, event in consumed
        if not issubclass(event, _OUTSIDE) and not _is_produced(event, configs[step], sources)
    ]
    if orphans:
        raise _problem(name, "the following events are consumed but never produced", orphans)
    unused = [
        (step, event)
        for step, event in produced
        if not issubclass(event, _OUTSIDE) and not any(config.accepts(event) for config in configs.values())
    ]
    if unused:
        raise _problem(name, "the following events are produced but never consumed", unused)

    missing = [
        f"{service.name} (step {step!r})"
        for step, config in configs.items()
        for service in config.requested_services
        if not service.has_default and service.name not in services
    ]
    if missing:
        raise _problem(name, f"the following services are not available: {', '.join(missing)}; add_workflows adds them")
    for step, config in configs.items():
        unknown = [caught for caught in config.catches or () if caught not in configs]
        if unknown:
            raise _problem(name, f"step {step!r} catches errors of unknown steps: {', '.join(unknown)}")
    return any(issubclass(event, InputRequiredEvent | HumanResponseEvent) for _, event in [*consumed, *produced])


def _configs(steps: Mapping[str, StepFunction]) -> Iterator[tuple[str, StepConfig]]:
    for name, func in steps.items():
        config = step_config_of(func)
        if config is None:
            raise WorkflowValidationError(f"Step {name!r} is not decorated with @step")
        yield name, config


def _exactly_one(name: str, types: Iterable[type], base: type[T], verb: str) -> type[T]:
    found = list(dict.fromkeys(event for event in types if issubclass(event, base)))
    if len(found) == 1:
        return found[0]
    if found:
        listed = ", ".join(event.__name__ for event in found)
        what = f"its steps {verb} more than one {base.__name__} type: {listed}"
    else:
        what = f"at least one step must {verb} a {base.__name__}"
    raise WorkflowConfigurationError(f"Workflow {name!r}: {what}")


def _is_produced(event: type[Event], config: StepConfig, sources: Collection[type]) -> bool:
    if config.accept_subclasses:
        return any(issubclass(source, event) for source in sources)
    return event in sources


def _problem(name: str, what: str, where: list[tuple[str, type]] | None = None) -> WorkflowValidationError:
    listed = ", ".join(f"{event.__name__} (step {step!r})" for step, event in where or ())
    return WorkflowValidationError(f"Workflow {name!r}: {what}" + (f": {listed}" if where else ""))
