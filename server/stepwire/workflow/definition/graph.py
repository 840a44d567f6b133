"""Describe a workflow for people and tools: steps, events, edges, and a Mermaid chart."""

from __future__ import annotations

import inspect
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from types import NoneType
from typing import Any

from stepwire.workflow.definition.asking import asked_in
from stepwire.workflow.definition.plan import Plan
from stepwire.workflow.definition.roles import EventKind, role_of
from stepwire.workflow.definition.schema import json_schema
from stepwire.workflow.definition.step_config import StepConfig
from stepwire.workflow.events import (
    Event,
    HumanResponseEvent,
    InputRequiredEvent,
    StepFailedEvent,
    StopEvent,
)

__all__ = [
    "Edge",
    "EventDescription",
    "EventKind",
    "StepDescription",
    "WorkflowDescription",
    "describe",
    "draw",
]


@dataclass(frozen=True)
class StepDescription:
    """Describe a step.

    Attributes:
        name: The name of the step's function.
        accepts: The names of the event types that it accepts.
        returns: The names of the event types that it may return.
        num_workers: How many executions may run at a time in one run.
        doc: The docstring of the function; empty when it has none.
        aliases: The names that the step had before.
    """

    name: str
    accepts: tuple[str, ...]
    returns: tuple[str, ...]
    num_workers: int
    doc: str
    aliases: tuple[str, ...] = ()


@dataclass(frozen=True)
class EventDescription:
    """Describe an event type that a step's signature or a wait in it names; `json_schema` is that of its plain JSON."""

    name: str
    json_schema: dict[str, Any]
    kind: EventKind


@dataclass(frozen=True)
class Edge:
    """Connect the step that produces an event to a step that accepts it.

    An empty `source` or `target` is the outside: clients and the stream.
    """

    source: str
    event: str
    target: str


@dataclass(frozen=True)
class WorkflowDescription:
    """Describe a workflow: its steps in the order of their definition, its event types and its edges."""

    name: str
    steps: tuple[StepDescription, ...]
    events: tuple[EventDescription, ...]
    edges: tuple[Edge, ...]


def describe(plan: Plan) -> WorkflowDescription:
    """Return the steps, events and edges of a workflow, in the order of its steps."""
    configs = plan.routing.steps
    events: dict[type[Event], None] = {plan.start: None}
    for name, config in configs.items():
        events.update(dict.fromkeys([*config.accepted_events, *_returned(config)]))
        for asked in asked_in(plan.steps[name]):
            events.update(dict.fromkeys(each for each in (asked.question, asked.answer) if each is not None))
    return WorkflowDescription(
        name=plan.name,
        steps=tuple(
            StepDescription(
                name=name,
                accepts=tuple(event.__name__ for event in config.accepted_events),
                returns=tuple(event.__name__ for event in _returned(config)),
                num_workers=config.num_workers,
                doc=inspect.getdoc(plan.steps[name]) or "",
                aliases=config.aliases,
            )
            for name, config in configs.items()
        ),
        events=tuple(EventDescription(event.__name__, json_schema(event), role_of(event).kind) for event in events),
        edges=tuple(dict.fromkeys(_edges(plan))),
    )


def draw(plan: Plan) -> str:
    """Return the workflow as a Mermaid flowchart; steps are boxes, events from or to the outside are round."""
    configs = plan.routing.steps
    ids = {name: f"s{index}" for index, name in enumerate(configs)}
    lines = ["flowchart TD"]
    lines += [f'    {ids[name]}["{_label(name)}"]' for name in configs]
    outside: dict[str, str] = {}
    arrows = []
    for edge in dict.fromkeys(_edges(plan)):
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


def _returned(config: StepConfig) -> list[type[Event]]:
    return [event for event in config.return_types if event is not NoneType]


def _edges(plan: Plan) -> Iterator[Edge]:
    start, configs = plan.start, plan.routing.steps

    def targets(event: type[Event]) -> list[str]:
        # A @catch_error step receives failures, not events that are sent.
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
        for asked in asked_in(plan.steps[name]):
            if asked.question is not None:
                yield Edge(name, asked.question.__name__, "")
            yield Edge("", asked.answer.__name__, name)
        for failing in _caught_by(name, configs):
            yield Edge(failing, StepFailedEvent.__name__, name)


def _caught_by(name: str, configs: Mapping[str, StepConfig]) -> list[str]:
    """Return the steps whose failures step `name` receives: those it names, or all that no other step names."""
    catches = configs[name].catches
    if catches is None:
        return []
    named = {caught for config in configs.values() for caught in config.catches or ()}
    ordinary = [other for other, config in configs.items() if config.catches is None]
    return [step for step in ordinary if (step in catches if catches else step not in named)]


def _label(text: str) -> str:
    return text.replace('"', "#quot;")
