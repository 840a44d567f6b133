"""The events of a workflow as one document."""

from __future__ import annotations

from enum import Enum
from typing import Any

from pydantic import BaseModel

from stepwire.cli._schema import document
from stepwire.client import EventRole, WorkflowInfo, WorkflowType


class Colour(Enum):
    RED = "red"


class Node(BaseModel):
    colour: Colour
    children: list[Node]


class Ask(BaseModel):
    node: Node
    colour: Colour


def info(**schemas: dict[str, Any]) -> WorkflowInfo:
    types = tuple(WorkflowType(name, EventRole.UNSPECIFIED, True, True, schema) for name, schema in schemas.items())
    return WorkflowInfo("flow", "1", "About.", "Ask", "Stop", "DictState", (), types, (), "", None)


def references(node: Any) -> set[str]:
    if isinstance(node, dict):
        own = {node["$ref"]} if isinstance(node.get("$ref"), str) else set()
        return own.union(*(references(item) for item in node.values()))
    return set().union(*(references(item) for item in node)) if isinstance(node, list) else set()


def test_all_types_in_one_document() -> None:
    found = document(info(Ask=Ask.model_json_schema(), Node=Node.model_json_schema()))
    assert sorted(found["$defs"]) == ["Ask", "Colour", "Node"]
    assert references(found) == {"#/$defs/Node", "#/$defs/Colour"}
    assert found["$defs"]["Node"]["properties"]["children"]["items"] == {"$ref": "#/$defs/Node"}
    assert found["x-stepwire"]["start_event"] == "Ask"
    assert found["x-stepwire"]["events"]["Ask"] == {"role": "unspecified", "sendable": True}


def test_two_nested_types_of_one_name() -> None:
    def outer(kind: str) -> dict[str, Any]:
        return {"$defs": {"In": {"type": kind}}, "properties": {"x": {"$ref": "#/$defs/In"}}}

    found = document(info(One=outer("string"), Two=outer("integer")))["$defs"]
    assert found["In"] == {"type": "string"}
    assert found["Two.In"] == {"type": "integer"}
    assert found["One"]["properties"]["x"] == {"$ref": "#/$defs/In"}
    assert found["Two"]["properties"]["x"] == {"$ref": "#/$defs/Two.In"}
