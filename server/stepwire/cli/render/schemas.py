"""A JSON Schema on one line."""

from __future__ import annotations

from typing import Any

from stepwire.cli.render.text import compact

__all__ = ["signature"]


def signature(schema: Any) -> str:
    """Return the fields of a schema as `name: type`, `?` after the optional ones."""
    if not isinstance(schema, dict):
        return ""
    if isinstance(reference := schema.get("$ref"), str):
        schema = schema.get("$defs", {}).get(reference.rpartition("/")[2], {})
    required = schema.get("required", ())
    return ", ".join(
        f"{name}{'' if name in required else '?'}: {_type(item)}" for name, item in schema.get("properties", {}).items()
    )


def _type(schema: Any) -> str:
    if not isinstance(schema, dict):
        return "any"
    if "anyOf" in schema or "oneOf" in schema:
        return " | ".join(_type(item) for item in schema.get("anyOf") or schema["oneOf"])
    if "enum" in schema:
        return "/".join(compact(item) for item in schema["enum"])
    if "const" in schema:
        return compact(schema["const"])
    if isinstance(reference := schema.get("$ref"), str):
        return reference.rpartition("/")[2]
    if schema.get("type") == "array":
        return f"array of {_type(schema.get('items'))}"
    return str(schema.get("type", "any"))
