"""The names of fields on the wire: aliases, as the JSON Schema of a class says.

Schemas, payloads, requirements of waits and state paths all use them. Where a class has aliases, a field can be given
by its own name too; another spelling of either is refused, so that it does not become an undeclared field, or nothing,
unnoticed.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any
from weakref import WeakKeyDictionary

from pydantic import AliasChoices, AliasPath, BaseModel, ValidationError
from pydantic_core import InitErrorDetails

__all__ = [
    "are_names",
    "extra_forbidden",
    "field_name",
    "misspelled",
    "on_wire",
    "plain",
    "shown_alias",
    "wire_names",
]

_wire_names: WeakKeyDictionary[type[BaseModel], dict[str, str]] = WeakKeyDictionary()
_field_names: WeakKeyDictionary[type[BaseModel], dict[str, str]] = WeakKeyDictionary()
_spellings: WeakKeyDictionary[type[BaseModel], frozenset[str]] = WeakKeyDictionary()


def wire_names(cls: type[BaseModel]) -> Mapping[str, str]:
    """Return the names on the wire of the fields whose own names differ, by their own names."""
    names = _wire_names.get(cls)
    if names is None:
        found = ((name, shown_alias(field.validation_alias)) for name, field in cls.__pydantic_fields__.items())
        names = _wire_names[cls] = {name: alias for name, alias in found if alias is not None and alias != name}
    return names


def field_name(cls: type[BaseModel], key: str) -> str | None:
    """Return the name of the declared field that `key` means, as its name on the wire or its own; None for no field."""
    names = _field_names.get(cls)
    if names is None:
        names = _field_names[cls] = {alias: name for name, alias in wire_names(cls).items()}
    return names.get(key) or (key if key in cls.__pydantic_fields__ else None)


def are_names(found: object) -> bool:
    """Tell whether something is a list of names: what `aliases` of steps and events may be."""
    return (
        not isinstance(found, str)
        and isinstance(found, Iterable)
        and all(isinstance(name, str) and name for name in found)
    )


def on_wire(cls: type[BaseModel], fields: Mapping[str, Any]) -> dict[str, Any]:
    """Return fields by their names on the wire."""
    names = wire_names(cls)
    return {names.get(key, key): value for key, value in fields.items()}


def misspelled(cls: type[BaseModel], keys: Iterable[str]) -> list[str]:
    """Return those undeclared names that look like a declared field of `cls` that has an alias."""
    spellings = _spellings.get(cls)
    if spellings is None:
        names = wire_names(cls)
        spellings = _spellings[cls] = frozenset(map(plain, [*names, *names.values()]))
    return [key for key in keys if plain(key) in spellings] if spellings else []


def extra_forbidden(title: str, keys: Iterable[str]) -> ValidationError:
    """Return the error that says which names the class of this name does not take."""
    return ValidationError.from_exception_data(
        title,
        [InitErrorDetails(type="extra_forbidden", loc=(key,), input=None) for key in keys],
        hide_input=True,
    )


def shown_alias(alias: Any) -> str | None:
    """Return the alias that the JSON Schema shows: the first that is one plain name; None for no such alias."""
    if isinstance(alias, str):
        return alias
    choices = alias.choices if isinstance(alias, AliasChoices) else [alias]
    for each in choices:
        path = each.path if isinstance(each, AliasPath) else [each]
        if len(path) == 1 and isinstance(path[0], str):
            return str(path[0])
    return None


def plain(key: str) -> str:
    """Return what all spellings of a name have in common."""
    return key.casefold().replace("_", "").replace("-", "")
