"""Fields of models that have no tag of their own: saved in the JSON that their class writes and reads.

A path, a URL, an object with the author's own serializer and validator: what pydantic writes for such a field is saved
if the class makes the same value of it again (S21).
"""

from __future__ import annotations

from collections.abc import Collection
from typing import Any

from pydantic import BaseModel

from stepwire.workflow.codec import schemas
from stepwire.workflow.codec.models import rebuild
from stepwire.workflow.codec.structure import same

__all__ = ["own_json"]


def own_json(cls: type[BaseModel], fields: dict[str, Any], keys: Collection[str]) -> dict[str, Any]:
    """Return what `cls` writes in JSON for some declared fields, but only for those that it reads back the same.

    Each field is serialized, validated and compared once. The class's serializers and validators are the author's code:
    a field for which they raise is left out.

    Args:
        cls: The class of the model.
        fields: The values of all declared fields.
        keys: The fields to write.
    """
    try:
        return _written(cls, fields, frozenset(keys))
    except Exception:  # noqa: BLE001 - the author's code; find out for which fields
        if len(keys) == 1:
            return {}
    halves = list(keys)
    middle = len(halves) // 2
    return own_json(cls, fields, halves[:middle]) | own_json(cls, fields, halves[middle:])


def _written(cls: type[BaseModel], fields: dict[str, Any], keys: frozenset[str]) -> dict[str, Any]:
    model = rebuild(cls, dict(fields), {}, None, set(fields))
    # `exclude_unset` and `round_trip`: models inside come back with the same explicit fields, and nothing computed.
    data = schemas.serializer(cls, keys).to_python(
        model, mode="json", by_alias=False, exclude_unset=True, round_trip=True, warnings=False
    )
    given = {**fields, **{key: data[key] for key in keys}}
    back, _, _ = schemas.partial(cls, keys, frozenset(fields) - keys).validate_python(
        given, strict=False, by_name=True, by_alias=False
    )
    return {key: data[key] for key in keys if same(fields[key], back[key], _opaque)}


def _opaque(one: Any, other: Any) -> bool:
    """Trust the class with objects that nothing can look into, such as clients: it chose what is written of them."""
    by_identity: object = object.__eq__
    return type(one).__eq__ is by_identity or bool(one == other)
