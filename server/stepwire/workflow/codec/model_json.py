"""Fields of models that have no tag of their own: by the JSON that their class gives and takes.

A path, a URL, an object with the author's own serializer and validator: what pydantic writes for the field is saved
when the class makes the same value of it again (S21).
"""

from __future__ import annotations

from typing import Any

from pydantic import BaseModel

from stepwire.workflow.codec.models import rebuild

__all__ = ["UNSAVED", "own_json"]

UNSAVED: Any = object()
"""There is no such JSON."""


def own_json(cls: type[BaseModel], fields: dict[str, Any], key: str) -> Any:
    """Return what `cls` writes in JSON for the declared field `key`; UNSAVED unless it reads the same back.

    `fields` has the values of all declared fields. The class's serializers and validators are the author's code: what
    they raise means UNSAVED.
    """
    value = fields[key]
    try:
        model = rebuild(cls, fields, {}, None, set(fields))
        dump = cls.__pydantic_serializer__.to_python(model, mode="json", include={key}, by_alias=False, warnings=False)
        data = dump[key]
        given: Any = data if cls.__pydantic_root_model__ else {**fields, key: data}
        back = cls.__pydantic_validator__.validate_python(given, by_name=True, by_alias=False)
        return data if _came_back(value, back.__dict__[key]) else UNSAVED
    except Exception:  # noqa: BLE001 - see above
        return UNSAVED


def _came_back(value: Any, back: Any) -> bool:
    """Say whether a value was read back as it was; of one that is equal to itself only, its type must do."""
    cls = type(value)
    if cls is not type(back):
        return False
    if cls in (list, tuple):
        return len(value) == len(back) and all(map(_came_back, value, back))
    if cls is dict:
        return list(value) == list(back) and all(_came_back(item, back[key]) for key, item in value.items())
    if isinstance(value, BaseModel):
        return _came_back(value.__dict__, back.__dict__) and value.__pydantic_extra__ == back.__pydantic_extra__
    by_identity: object = object.__eq__
    return cls.__eq__ is by_identity or bool(value == back)
