"""Models of libraries whose authors never thought of saving them whole.

A model of an adopted library may hold a client, a tokenizer or whatever a tool returned. Refusing it would refuse the
whole agent, so such a field is left out if the library itself never saves it, or kept as a text with a mark if it may
be anything. Only the operator's code names such libraries, by adopting workflows of theirs.
"""

from __future__ import annotations

import sys
from collections.abc import Collection, Iterator
from enum import Enum
from typing import Any, Self

from pydantic import BaseModel
from pydantic.fields import FieldInfo

__all__ = [
    "OpaqueText",
    "add_defaults",
    "add_library",
    "any_library",
    "is_component",
    "library_types",
    "may_be_left_out",
    "of_library",
]

_packages: set[str] = set()


class OpaqueText(str):
    """The text of a value that could not be saved, in its place.

    Attributes:
        type_name: The full name of the class of the value.
    """

    __slots__ = ("type_name",)
    type_name: str

    def __new__(cls, text: str, *, type_name: str = "") -> Self:
        """Make a text with a mark."""
        made = super().__new__(cls, text)
        made.type_name = type_name
        return made

    @classmethod
    def of(cls, value: object) -> Self:
        """Return the text of a value."""
        kind = type(value)
        name = f"{kind.__module__}.{kind.__qualname__}"
        try:
            return cls(str(value), type_name=name)
        except Exception:  # noqa: BLE001 - __str__ is the author's code
            return cls(name, type_name=name)

    def __copy__(self) -> Self:
        return self

    def __deepcopy__(self, memo: Any) -> Self:
        return self


def add_library(package: str) -> None:
    """Count the models of a top-level package as a library's."""
    _packages.add(package)


def any_library() -> bool:
    """Tell whether this process has adopted workflows of a library."""
    return bool(_packages)


def of_library(cls: type) -> bool:
    """Tell whether a class is of such a library."""
    return bool(_packages) and cls.__module__.partition(".")[0] in _packages


def is_component(cls: type) -> bool:
    """Tell whether a class writes and reads its objects as dicts, as components of such a library do."""
    return all(callable(getattr(cls, name, None)) for name in ("class_name", "to_dict", "from_dict"))


def library_types() -> Iterator[type]:
    """Give the models and enums of those libraries, of modules that this process has imported: never of others."""
    for name, module in list(sys.modules.items()):
        if name.partition(".")[0] not in _packages:
            continue
        for value in list(vars(module).values()):
            if not isinstance(value, type) or value.__module__ != name:
                continue
            if issubclass(value, BaseModel) or (issubclass(value, Enum) and value.__members__):
                yield value


def may_be_left_out(field: FieldInfo) -> bool:
    """Tell whether a library keeps a field out of what it saves, and makes it anew."""
    return bool(field.exclude) and not field.is_required()


def add_defaults(cls: type[BaseModel], fields: dict[str, Any], others: Collection[str]) -> None:
    """Give fields of a library's model that were left out their defaults.

    Args:
        cls: The class of the model.
        fields: The fields that were saved; gets the others.
        others: Further fields that were saved.
    """
    for name, field in cls.__pydantic_fields__.items():
        if name not in fields and name not in others and may_be_left_out(field):
            fields[name] = field.get_default(call_default_factory=True, validated_data=fields)
