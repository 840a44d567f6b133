"""The names of fields on the wire: aliases, as the JSON Schema of a class says.

Schemas, payloads, requirements of waits and state paths all use them. Where a class has aliases, a field can be given
by its own name too; another spelling of either is refused, so that it does not become an undeclared field unnoticed.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any
from weakref import WeakKeyDictionary

from pydantic import AliasChoices, AliasPath, BaseModel, ValidationError
from pydantic_core import InitErrorDetails, SchemaSerializer

__all__ = [
    "extra_forbidden",
    "field_name",
    "misspelled",
    "on_wire",
    "wire_names",
    "wire_serializer",
]

_wire_names: WeakKeyDictionary[type[BaseModel], dict[str, str]] = WeakKeyDictionary()
_field_names: WeakKeyDictionary[type[BaseModel], dict[str, str]] = WeakKeyDictionary()
_spellings: WeakKeyDictionary[type[BaseModel], frozenset[str]] = WeakKeyDictionary()


def wire_names(cls: type[BaseModel]) -> Mapping[str, str]:
    """Return the names on the wire of the fields whose own names differ, by their own names."""
    names = _wire_names.get(cls)
    if names is None:
        found = ((name, _first(field.validation_alias)) for name, field in cls.__pydantic_fields__.items())
        names = _wire_names[cls] = {name: alias for name, alias in found if alias is not None and alias != name}
    return names


def field_name(cls: type[BaseModel], key: str) -> str | None:
    """Return the name of the declared field that `key` means, as its name on the wire or its own; None for no field."""
    names = _field_names.get(cls)
    if names is None:
        names = _field_names[cls] = {alias: name for name, alias in wire_names(cls).items()}
    return names.get(key) or (key if key in cls.__pydantic_fields__ else None)


def on_wire(cls: type[BaseModel], fields: Mapping[str, Any]) -> dict[str, Any]:
    """Return fields by their names on the wire."""
    names = wire_names(cls)
    return {names.get(key, key): value for key, value in fields.items()}


def misspelled(cls: type[BaseModel], keys: Iterable[str]) -> list[str]:
    """Return those undeclared names that look like a declared field of `cls` that has an alias."""
    spellings = _spellings.get(cls)
    if spellings is None:
        names = wire_names(cls)
        spellings = _spellings[cls] = frozenset(map(_plain, [*names, *names.values()]))
    return [key for key in keys if _plain(key) in spellings] if spellings else []


def extra_forbidden(cls: type[BaseModel], keys: Iterable[str]) -> ValidationError:
    """Return the error that says which names `cls` does not take."""
    return ValidationError.from_exception_data(
        cls.__name__,
        [InitErrorDetails(type="extra_forbidden", loc=(key,), input=None) for key in keys],
        hide_input=True,
    )


def wire_serializer(cls: type[BaseModel]) -> SchemaSerializer:
    """Return a serializer that writes fields by their names on the wire if it is told `by_alias`.

    That is pydantic's own, unless the class or a model in it has fields that are written under another alias than they
    are read by.
    """
    schema, differs = _aligned(cls.__pydantic_core_schema__)
    # Otherwise pydantic takes the serializers that the classes have.
    return SchemaSerializer(schema, _use_prebuilt=False) if differs else cls.__pydantic_serializer__


def _aligned(schema: Any) -> tuple[Any, bool]:
    """Return a core schema that writes each field by the name that it reads, and whether that is another schema."""
    if isinstance(schema, dict):
        made = {key: _aligned(value) for key, value in schema.items() if key not in _LEAVES}
        differs = any(changed for _, changed in made.values())
        if schema.get("type") in ("model-field", "dataclass-field", "typed-dict-field"):
            alias = _first(schema.get("validation_alias"))
            if alias != schema.get("serialization_alias"):
                made["serialization_alias"] = (alias, True)
                differs = True
        if not differs:
            return schema, False
        merged = {**schema, **{key: value for key, (value, _) in made.items()}}
        return {key: value for key, value in merged.items() if value is not None or key != "serialization_alias"}, True
    if isinstance(schema, list):
        items = [_aligned(each) for each in schema]
        return [each for each, _ in items], any(changed for _, changed in items)
    return schema, False


_LEAVES = frozenset(
    {"config", "metadata", "serialization", "default", "cls", "function", "expected", "validation_alias"}
)
"""Keys of a core schema that hold no schema of a field."""


def _first(alias: Any) -> str | None:
    """Return the alias that the JSON Schema shows: the first that is one plain name."""
    if isinstance(alias, str):
        return alias
    if isinstance(alias, AliasChoices):
        alias = alias.choices
    elif isinstance(alias, AliasPath):
        alias = [alias]
    for each in alias or ():
        path = each.path if isinstance(each, AliasPath) else [each] if isinstance(each, str) else each
        if len(path) == 1 and isinstance(path[0], str):
            return str(path[0])
    return None


def _plain(key: str) -> str:
    return key.casefold().replace("_", "").replace("-", "")
