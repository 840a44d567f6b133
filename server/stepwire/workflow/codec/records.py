"""Dataclasses and named tuples as their attributes: what is in them comes back as it was.

Their own JSON would lose time zones, enums and attributes that `__init__` does not take.
"""

from __future__ import annotations

import dataclasses
from typing import Any

from stepwire.workflow.errors import SnapshotError

__all__ = ["attributes_of", "is_dataclass_record", "is_named_tuple", "make_dataclass_record", "make_named_tuple"]


def is_dataclass_record(cls: type) -> bool:
    """Return whether the instances of a class are made of the attributes of a dataclass and of nothing else."""
    return (
        dataclasses.is_dataclass(cls)
        and cls.__new__ is object.__new__  # a base of C may hold more
        and cls.__reduce_ex__ is object.__reduce_ex__
        and cls.__reduce__ is object.__reduce__
    )


def is_named_tuple(cls: type) -> bool:
    """Return whether a class was made by NamedTuple or namedtuple, and its instances hold nothing but the items."""
    return cls.__bases__ == (tuple,) and isinstance(getattr(cls, "_fields", None), tuple) and cls.__dictoffset__ == 0


def attributes_of(value: Any) -> dict[str, Any]:
    """Return the attributes of an instance of a dataclass, also those that are no fields."""
    attributes = dict(getattr(value, "__dict__", ()))
    for field in dataclasses.fields(value):
        if field.name not in attributes and hasattr(value, field.name):  # in slots
            attributes[field.name] = getattr(value, field.name)
    return attributes


def make_dataclass_record(cls: type, attributes: dict[str, Any]) -> Any:
    """Put an instance together from its attributes, without `__init__`; new fields get their defaults.

    Raises:
        SnapshotError: The class is not a dataclass, or has a new field without a default.
    """
    if not is_dataclass_record(cls):
        raise SnapshotError(f"{cls.__name__} is not of the kind that the payload says")
    made: Any = object.__new__(cls)
    fields = {field.name: field for field in dataclasses.fields(cls)}
    for name, field in fields.items():
        if name in attributes:
            continue
        if field.default_factory is not dataclasses.MISSING:
            attributes[name] = field.default_factory()
        elif field.default is not dataclasses.MISSING:
            attributes[name] = field.default
        else:
            raise SnapshotError(f"{cls.__name__} does not validate: {name} (missing)")
    for name, value in attributes.items():
        if name in fields or (hasattr(made, "__dict__") and not name.startswith("__")):
            object.__setattr__(made, name, value)
    return made


def make_named_tuple(cls: type, items: list[Any]) -> Any:
    """Put a named tuple together from its items, without its `__new__`.

    Raises:
        SnapshotError: The class is not a named tuple of so many items.
    """
    if not (issubclass(cls, tuple) and is_named_tuple(cls)):
        raise SnapshotError(f"{cls.__name__} is not of the kind that the payload says")
    if len(items) != len(cls._fields):  # type: ignore[attr-defined]
        raise SnapshotError(f"{cls.__name__} has another number of items now")
    return tuple.__new__(cls, items)
