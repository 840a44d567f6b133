"""The fields of an answer, from the JSON Schema of its event, and the values that a person types for them."""

from __future__ import annotations

import json
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from typing import Any, Literal

__all__ = ["Field", "fields_of", "parse"]

Kind = Literal["text", "integer", "number", "boolean", "choice", "json", "any"]

_KINDS: Mapping[str, Kind] = {
    "string": "text",
    "integer": "integer",
    "number": "number",
    "boolean": "boolean",
    "array": "json",
    "object": "json",
}
_YES = frozenset({"y", "yes", "true", "1", "on"})
_NO = frozenset({"n", "no", "false", "0", "off"})


@dataclass(frozen=True, slots=True)
class Field:
    """A field to ask for. An empty line leaves the field out when it is optional, and is null when it is `nullable`."""

    name: str
    kind: Kind = "text"
    required: bool = True
    nullable: bool = False
    choices: tuple[Any, ...] = ()
    default: Any = None
    description: str = ""

    @property
    def hint(self) -> str:
        """Return what may be typed, for the prompt; "" when anything may be."""
        if self.kind == "choice":
            return "/".join(_label(choice) for choice in self.choices)
        return {"boolean": "yes/no", "integer": "integer", "number": "number", "json": "JSON"}.get(self.kind, "")

    @property
    def placeholder(self) -> str:
        """Return what stands for the value in a command that is to be completed; a shell takes it as it is."""
        if self.kind == "choice":
            return "/".join(_label(choice) for choice in self.choices)
        words = {"boolean": "true/false", "integer": "INTEGER", "number": "NUMBER", "json": "JSON", "any": "VALUE"}
        return words.get(self.kind, "TEXT")


def fields_of(schema: Mapping[str, Any], fixed: Collection[str] = ()) -> list[Field]:
    """Return the fields to ask for: the required ones that are not fixed, or the optional ones when there are none.

    An event that declares no field gets `response`, as in the 1.x model; it may be left out if other fields are fixed.
    """
    body = _resolve(schema, schema)
    properties: Mapping[str, Any] = body.get("properties", {})
    if not properties:
        return [] if "response" in fixed else [Field("response", required=not fixed)]
    required = set(body.get("required", ()))
    fields = [_field(name, item, name in required, schema) for name, item in properties.items() if name not in fixed]
    return [field for field in fields if field.required] or fields


def parse(field: Field, text: str) -> Any:
    """Return the value that a person typed. Raises ValueError, which says what may be typed instead."""
    text = text.strip() if field.kind != "text" else text
    if not text and field.nullable:
        return None
    if not text:
        raise ValueError('a value is needed ("" for empty text)' if field.kind == "text" else "a value is needed")
    if field.kind == "choice":
        return _choice(field, text)
    if field.kind == "boolean":
        if text.lower() in _YES | _NO:
            return text.lower() in _YES
        raise ValueError("type yes or no")
    if field.kind == "integer":
        try:
            return int(text)
        except ValueError:
            raise ValueError("type a whole number") from None
    if field.kind == "number":
        return _number(text)
    if field.kind == "json":
        try:
            return json.loads(text, parse_constant=_refuse)
        except ValueError:
            raise ValueError('type JSON, as [1, 2] or {"a": 1}') from None
    if field.kind == "any":
        try:
            return json.loads(text, parse_constant=_refuse)
        except ValueError:
            return text
    return "" if text == '""' else text


def _field(name: str, schema: Any, required: bool, root: Mapping[str, Any]) -> Field:
    body = _resolve(schema, root)
    nullable, choices, kind = False, (), "any"
    options = [_resolve(item, root) for item in body.get("anyOf") or body.get("oneOf") or [body]]
    if any(item.get("type") == "null" for item in options):
        nullable = True
        options = [item for item in options if item.get("type") != "null"]
    if options and all("enum" in item or "const" in item for item in options):
        choices = tuple(choice for item in options for choice in item.get("enum", [item.get("const")]))
        kind = "choice"
    elif len(options) == 1:
        kind = _KINDS.get(str(options[0].get("type")), "any")
    default = schema.get("default") if isinstance(schema, Mapping) else None
    description = str(schema.get("description", "")) if isinstance(schema, Mapping) else ""
    return Field(name, kind, required, nullable, choices, default, description)  # type: ignore[arg-type]


def _resolve(schema: Any, root: Mapping[str, Any]) -> Mapping[str, Any]:
    """Return the schema behind `$ref` and a single `allOf`. `true` and broken references allow anything: {}."""
    for _ in range(32):  # a schema may refer to itself
        if not isinstance(schema, Mapping):
            return {}
        if isinstance(reference := schema.get("$ref"), str) and reference.startswith("#/$defs/"):
            schema = root.get("$defs", {}).get(reference.removeprefix("#/$defs/"))
        elif isinstance(parts := schema.get("allOf"), list) and len(parts) == 1:
            schema = parts[0]
        else:
            return schema
    return {}


def _choice(field: Field, text: str) -> Any:
    for choice in field.choices:
        if text == _label(choice):
            return choice
    close = [choice for choice in field.choices if _label(choice).lower().startswith(text.lower())]
    if len(close) == 1:
        return close[0]
    raise ValueError(f"type one of {', '.join(_label(choice) for choice in field.choices)}")


def _number(text: str) -> float | int:
    try:
        value = json.loads(text, parse_constant=_refuse)
    except ValueError:
        value = None
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise ValueError("type a number")
    return value


def _label(choice: Any) -> str:
    return choice if isinstance(choice, str) else json.dumps(choice, ensure_ascii=False)


def _refuse(constant: str) -> None:
    raise ValueError(constant)
