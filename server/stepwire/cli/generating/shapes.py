"""What is written of a workflow: its events, input, state and result, under names that a person would choose."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Final

from stepwire.cli._schema import document
from stepwire.client import WorkflowInfo

__all__ = ["Shapes"]

_PREFIX: Final = "#/$defs/"
_ENGINE: Final = frozenset({"Event", "StartEvent", "StopEvent", "HumanResponseEvent", "StepFailedEvent", "DictState"})
"""Types of every workflow, which are written only where one uses them."""
_ENDINGS: Final = ("WorkflowFailedEvent", "WorkflowCancelledEvent", "WorkflowTimedOutEvent")
"""Events that end the stream of a run without a result."""
_QUESTION: Final = "InputRequiredEvent"
"""A question without a class of its own."""
_ANNOTATIONS: Final = ("title",)
_LINK: Final = re.compile(r" \(semantics\.md#\w+\)")
"""A link in the description of an engine's type, which leads nowhere from another project."""


@dataclass(frozen=True)
class Shapes:
    """The types of a workflow.

    Attributes:
        workflow: The name that the workflow is served under.
        title: That name as a type's name.
        definitions: JSON Schemas by the name of the type, with references to each other. Each type that declares fields
            allows no others.
        events: The name of the type of each event that a stream may carry, by the event's name on the wire.
        sendable: The names on the wire of those that a client may send.
        input: The type of the start event.
        state: The type of the state; None for a state of any keys.
        result: The type of the result; None for any JSON value.
    """

    workflow: str
    title: str
    definitions: dict[str, dict[str, Any]]
    events: dict[str, str]
    sendable: tuple[str, ...]
    input: str
    state: str | None
    result: str | None

    @classmethod
    def of(cls, info: WorkflowInfo) -> Shapes:
        """Return the types of a workflow."""
        schemas: dict[str, Any] = document(info)["$defs"]
        events = {item.name for item in info.types if item.is_event}
        streamed = sorted((events - _ENGINE) | {info.stop_event, *_ENDINGS, _QUESTION} & set(schemas))
        streamed = [name for name in streamed if name != info.start_event]
        # The result is the `result` of a StopEvent, which may be anything, or all fields of a custom stop event.
        result = None if info.stop_event == "StopEvent" else info.stop_event
        roots = [*streamed, info.start_event]
        roots += [name for name in (info.state_type, result) if name and name in schemas and name != "DictState"]
        kept = _closure(roots, schemas)
        names = _names(kept)
        return cls(
            workflow=info.name,
            title=_type_name(info.name),
            definitions={names[name]: _cleaned(schemas[name], names) for name in kept},
            events={name: names[name] for name in streamed},
            sendable=tuple(item.name for item in info.types if item.sendable and item.name in streamed),
            input=names[info.start_event],
            state=names.get(info.state_type),
            result=names[result] if result else None,
        )

    def schema(self) -> dict[str, Any]:
        """Return all types as one JSON Schema document."""
        return {"$schema": "https://json-schema.org/draft/2020-12/schema", "$defs": self.definitions}


def _references(node: Any) -> Iterator[str]:
    if isinstance(node, list):
        for item in node:
            yield from _references(item)
    elif isinstance(node, dict):
        for key, value in node.items():
            if key == "$ref" and isinstance(value, str):
                yield value.removeprefix(_PREFIX)
            else:
                yield from _references(value)


def _closure(roots: list[str], schemas: Mapping[str, Any]) -> list[str]:
    """Return the types that some types need, themselves included, in the order of their names."""
    found: set[str] = set()
    waiting = list(roots)
    while waiting:
        name = waiting.pop()
        if name not in found and name in schemas:
            found.add(name)
            waiting += _references(schemas[name])
    return sorted(found)


def _names(wire: list[str]) -> dict[str, str]:
    """Return a name that every language takes for each name on the wire: `Box[int]` is BoxInt, `A.B` is AB."""
    names: dict[str, str] = {}
    for name in sorted(wire, key=lambda each: (not each.isidentifier(), each)):
        wanted = name if name.isidentifier() and "_" not in name else _type_name(name)
        taken = set(names.values())
        number = 2
        found = wanted
        while found in taken:
            found, number = f"{wanted}{number}", number + 1
        names[name] = found
    return names


def _type_name(text: str) -> str:
    words = [word for word in re.split(r"[^A-Za-z0-9]+", text) if word]
    name = "".join(word[:1].upper() + word[1:] for word in words) or "Type"
    return name if name[0].isalpha() else f"Type{name}"


def _cleaned(schema: Any, names: Mapping[str, str], *, named: bool = True) -> Any:
    """Return a schema without titles, which generators would make types of, and with references to the new names."""
    if isinstance(schema, list):
        return [_cleaned(item, names, named=False) for item in schema]
    if not isinstance(schema, dict):
        return schema
    found: dict[str, Any] = {}
    for key, value in schema.items():
        if key in _ANNOTATIONS and isinstance(value, str):
            continue
        if key == "$ref":
            name = value.removeprefix(_PREFIX)
            found[key] = _PREFIX + names.get(name, name)
        elif key in ("properties", "$defs", "patternProperties"):
            found[key] = {name: _cleaned(item, names, named=False) for name, item in value.items()}
        elif key in ("enum", "const", "default", "examples"):
            found[key] = value
        elif key == "description" and isinstance(value, str):
            found[key] = _LINK.sub("", value)
        else:
            found[key] = _cleaned(value, names, named=False)
    if named and found.get("properties"):
        found["additionalProperties"] = False
    return found
