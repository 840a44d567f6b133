"""A workflow described for people and tools: steps, events, edges, and a Mermaid chart."""

from __future__ import annotations

import inspect
from collections.abc import Iterator
from dataclasses import dataclass
from types import NoneType
from typing import TYPE_CHECKING, Any, Literal

from pydantic.json_schema import GenerateJsonSchema, JsonSchemaValue, JsonSchemaWarningKind
from pydantic_core import core_schema

from stepwire.workflow.definition.step_config import StepConfig, step_config_of
from stepwire.workflow.events import (
    Event,
    HumanResponseEvent,
    InputRequiredEvent,
    StartEvent,
    StepFailedEvent,
    StopEvent,
)

if TYPE_CHECKING:
    from stepwire.workflow.workflow import Workflow

__all__ = [
    "Edge",
    "EventDescription",
    "EventKind",
    "StepDescription",
    "WorkflowDescription",
    "describe",
    "draw",
    "event_kind",
    "event_schema",
]

EventKind = Literal["start", "stop", "input_required", "human_response", "step_failed", "event"]

_KINDS: tuple[tuple[type[Event], EventKind], ...] = (
    (StartEvent, "start"),
    (StopEvent, "stop"),
    (InputRequiredEvent, "input_required"),
    (HumanResponseEvent, "human_response"),
    (StepFailedEvent, "step_failed"),
)


@dataclass(frozen=True)
class StepDescription:
    """Describe a step; `accepts` and `returns` are names of event types, `doc` its docstring."""

    name: str
    accepts: tuple[str, ...]
    returns: tuple[str, ...]
    num_workers: int
    doc: str


@dataclass(frozen=True)
class EventDescription:
    """Describe an event type that a signature names; the schema is of its plain JSON."""

    name: str
    json_schema: dict[str, Any]
    kind: EventKind


@dataclass(frozen=True)
class Edge:
    """Say that `event` goes from step `source` to step `target`.

    An empty name is the world outside.
    """

    source: str
    event: str
    target: str


@dataclass(frozen=True)
class WorkflowDescription:
    """Describe a workflow."""

    name: str
    steps: tuple[StepDescription, ...]
    events: tuple[EventDescription, ...]
    edges: tuple[Edge, ...]


def describe(workflow: Workflow) -> WorkflowDescription:
    """Return the steps, events and edges of the workflow, in the order of its steps."""
    configs = _configs(workflow)
    events: dict[type[Event], None] = {workflow.start_event_class: None}
    for config in configs.values():
        events.update(dict.fromkeys([*config.accepted_events, *_returned(config)]))
    return WorkflowDescription(
        name=type(workflow).__name__,
        steps=tuple(
            StepDescription(
                name=name,
                accepts=tuple(event.__name__ for event in config.accepted_events),
                returns=tuple(event.__name__ for event in _returned(config)),
                num_workers=config.num_workers,
                doc=inspect.getdoc(workflow._stepwire_plan.steps[name]) or "",
            )
            for name, config in configs.items()
        ),
        events=tuple(EventDescription(event.__name__, event_schema(event), event_kind(event)) for event in events),
        edges=tuple(dict.fromkeys(_edges(workflow.start_event_class, configs))),
    )


def draw(workflow: Workflow) -> str:
    """Return the workflow as a Mermaid flowchart: steps are boxes, the world outside is round."""
    configs = _configs(workflow)
    ids = {name: f"s{index}" for index, name in enumerate(configs)}
    lines = ["flowchart TD"]
    lines += [f'    {ids[name]}["{_label(name)}"]' for name in configs]
    outside: dict[str, str] = {}
    arrows = []
    for edge in dict.fromkeys(_edges(workflow.start_event_class, configs)):
        ends = []
        for end in (edge.source, edge.target):
            if not end and edge.event not in outside:
                outside[edge.event] = f"e{len(outside)}"
                lines.append(f'    {outside[edge.event]}(["{_label(edge.event)}"])')
            ends.append(ids.get(end) or outside[edge.event])
        source, target = ends
        label = f'|"{_label(edge.event)}"|' if edge.source and edge.target else ""
        arrows.append(f"    {source} -->{label} {target}")
    return "\n".join([*lines, *arrows]) + "\n"


def event_kind(event: type[Event]) -> EventKind:
    """Return which of the engine's event types it is or descends from."""
    return next((kind for base, kind in _KINDS if issubclass(event, base)), "event")


def event_schema(model: type[Any]) -> dict[str, Any]:
    """Return the JSON Schema of a model's plain JSON; a type that has none allows anything."""
    schema: dict[str, Any] = model.model_json_schema(schema_generator=_LenientSchema)
    return schema


class _LenientSchema(GenerateJsonSchema):
    def emit_warning(self, kind: JsonSchemaWarningKind, detail: str) -> None:
        """Say nothing: a default that has no JSON form is left out of the schema."""

    def handle_invalid_for_json_schema(self, schema: core_schema.CoreSchema, error_info: str) -> JsonSchemaValue:
        return {}


def _configs(workflow: Workflow) -> dict[str, StepConfig]:
    found = ((name, step_config_of(func)) for name, func in workflow._stepwire_plan.steps.items())
    return {name: config for name, config in found if config is not None}


def _returned(config: StepConfig) -> list[type[Event]]:
    return [event for event in config.return_types if event is not NoneType]


def _edges(start: type[Event], configs: dict[str, StepConfig]) -> Iterator[Edge]:
    def targets(event: type[Event]) -> list[str]:
        # A @catch_error step gets failures, not what is sent.
        ordinary = ((name, config) for name, config in configs.items() if config.catches is None)
        return [name for name, config in ordinary if config.accepts(event)]

    for target in targets(start):
        yield Edge("", start.__name__, target)
    for name, config in configs.items():
        for event in _returned(config):
            reached = targets(event)
            if issubclass(event, StopEvent | InputRequiredEvent):  # these leave by the stream
                yield Edge(name, event.__name__, "")
            for target in reached:
                yield Edge(name, event.__name__, target)
        for event in config.accepted_events:
            if issubclass(event, HumanResponseEvent):
                yield Edge("", event.__name__, name)
        for failing in _caught_by(name, configs):
            yield Edge(failing, StepFailedEvent.__name__, name)


def _caught_by(name: str, configs: dict[str, StepConfig]) -> list[str]:
    """Return the steps whose failures step `name` takes: those it names, or all left over."""
    catches = configs[name].catches
    if catches is None:
        return []
    named = {caught for config in configs.values() for caught in config.catches or ()}
    ordinary = [other for other, config in configs.items() if config.catches is None]
    return [step for step in ordinary if (step in catches if catches else step not in named)]


def _label(text: str) -> str:
    return text.replace('"', "#quot;")
