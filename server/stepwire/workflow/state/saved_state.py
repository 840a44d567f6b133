"""A state as snapshots hold it: values, private attributes, and fields in the JSON of the state's class."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from typing import Any, TypeVar

from pydantic import BaseModel

from stepwire.workflow.codec.model_json import own_json
from stepwire.workflow.codec.models import load
from stepwire.workflow.state.copying import values_of

__all__ = ["own_fields", "state_of_values"]

S = TypeVar("S", bound=BaseModel)


def own_fields(state: BaseModel, keys: Collection[str], new: Mapping[str, Any] | None = None) -> dict[str, Any]:
    """Return the JSON that the state's class writes for some fields, unless it reads it back otherwise.

    Args:
        state: The state.
        keys: The names of the fields.
        new: Values that are about to replace those of the state.
    """
    cls = type(state)
    declared = cls.__pydantic_fields__
    wanted = [key for key in keys if key in declared]
    if not wanted:
        return {}
    values = {**values_of(state), **(new or {})}
    return own_json(cls, {key: values[key] for key in declared if key in values}, wanted)


def state_of_values(cls: type[S], values: Mapping[str, Any], own: Mapping[str, Any] | None, *, validate: bool) -> S:
    """Return the state that was saved as values.

    Args:
        cls: The class of the state.
        values: The values and private attributes by name.
        own: Fields in the JSON of the class, as `own_fields` returned them.
        validate: The class may have changed since; see `stepwire.workflow.codec.models.load`.

    Raises:
        SnapshotError: The values do not fit the class; the error names the fields.
    """
    declared, attributes = cls.__pydantic_fields__, cls.__private_attributes__
    dynamic = cls.model_config.get("extra") == "allow"
    fields: dict[str, Any] = {}
    extra: dict[str, Any] = {}
    private: dict[str, Any] = {}
    for key, value in values.items():
        home = private if key in attributes else extra if dynamic and key not in declared else fields
        home[key] = value
    names = {*fields, *extra, *(own or ())}
    return load(cls, fields, extra, private or None, names, own=own, validate=validate)
