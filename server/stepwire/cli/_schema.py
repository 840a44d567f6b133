"""The events of a workflow as one JSON Schema document."""

from __future__ import annotations

from collections.abc import Container, Mapping
from typing import Any

from stepwire.client import WorkflowInfo

__all__ = ["document"]

_PREFIX = "#/$defs/"


def document(info: WorkflowInfo) -> dict[str, Any]:
    """Return a document with every type of the workflow in `$defs`. `x-stepwire` says what the events are for."""
    types = {item.name: item.json_schema for item in info.types}
    definitions: dict[str, Any] = {}
    for name, schema in types.items():
        nested = schema.get("$defs", {})
        names = {inner: _place(inner, name, nested[inner], definitions, types) for inner in nested}
        for inner, place in names.items():
            if place not in types:
                definitions[place] = _renamed(nested[inner], names)
        body = {key: value for key, value in schema.items() if key != "$defs"}
        if body.get("$ref") == f"{_PREFIX}{name}" and name in nested:  # the type contains itself
            body = nested[name]
        definitions[name] = _renamed(body, names)
    return {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "title": info.name,
        "description": info.description,
        "x-stepwire": {
            "version": info.version,
            "start_event": info.start_event,
            "stop_event": info.stop_event,
            "state_type": info.state_type,
            "events": {
                item.name: {"role": str(item.role), "sendable": item.sendable}
                | ({"internal": True} if item.internal else {})
                | ({"aliases": list(item.aliases)} if item.aliases else {})
                for item in info.types
                if item.is_event
            },
        },
        "$defs": dict(sorted(definitions.items())),
    }


def _place(inner: str, outer: str, schema: Any, definitions: Mapping[str, Any], types: Container[str]) -> str:
    """Return the key of a nested definition: its own name, or `outer.inner` when another definition has that name.

    A name of the workflow's registry is the same type everywhere.
    """
    return inner if inner in types or definitions.get(inner, schema) == schema else f"{outer}.{inner}"


def _renamed(node: Any, names: Mapping[str, str]) -> Any:
    if isinstance(node, list):
        return [_renamed(item, names) for item in node]
    if not isinstance(node, dict):
        return node
    return {
        key: f"{_PREFIX}{names.get(value.removeprefix(_PREFIX), value.removeprefix(_PREFIX))}"
        if key == "$ref" and isinstance(value, str) and value.startswith(_PREFIX)
        else _renamed(value, names)
        for key, value in node.items()
    }
