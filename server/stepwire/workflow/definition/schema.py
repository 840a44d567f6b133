"""JSON Schemas of events, models and enums, as clients see them.

The only schema generator of the engine: descriptions, the type registry and its digest use it.
"""

from __future__ import annotations

import json
from enum import Enum
from typing import Any

from pydantic import BaseModel, PydanticUserError
from pydantic.json_schema import GenerateJsonSchema, JsonSchemaValue
from pydantic_core import PydanticOmit

__all__ = ["json_schema", "opaque"]


def json_schema(cls: type) -> dict[str, Any]:
    """Return the JSON Schema of a model's plain JSON, or of an enum.

    A part that has no JSON form is described by its title alone, so that it allows anything. A default that has no
    JSON form is left out.
    """
    if issubclass(cls, Enum):
        members = [each.value for each in cls]
        return {"title": cls.__name__, "enum": json.loads(json.dumps(members, default=opaque))}
    assert issubclass(cls, BaseModel)
    try:
        return cls.model_json_schema(schema_generator=_Generator)
    except (PydanticUserError, PydanticOmit):  # a forward reference that leads nowhere
        fields = {name: {"title": str(each.annotation)} for name, each in cls.model_fields.items()}
        return {"title": cls.__name__, "type": "object", "properties": fields}


def opaque(value: object) -> str:
    """Return what stands in JSON for a value without a JSON form: the name of its type."""
    return type(value).__name__


class _Generator(GenerateJsonSchema):
    """Describe what has no JSON Schema by its title, and leave out defaults that are not JSON."""

    ignored_warning_kinds = {"skipped-choice", "non-serializable-default"}  # noqa: RUF012 - pydantic's

    def handle_invalid_for_json_schema(self, schema: Any, error_info: str) -> JsonSchemaValue:
        cls = schema.get("cls")
        return {"title": cls.__name__} if isinstance(cls, type) else {}
