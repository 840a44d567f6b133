"""How types are named in a payload and found again.

Two naming schemes exist: `QualifiedNames` here, for one trusted process, and the registry of a workflow
(`stepwire.workflow.definition.types`), which never imports anything.
"""

from __future__ import annotations

import importlib
import sys
from collections.abc import Mapping
from typing import Any, Protocol

from stepwire.workflow.errors import SerializationError, UnknownTypeError

__all__ = ["Names", "QualifiedNames", "qualified"]


class Names(Protocol):
    """Give types names in a payload, and find the types again."""

    def name_of(self, cls: type) -> str:
        """Return the name of `cls`.

        Raises:
            SerializationError: `cls` has no name in this scheme.
        """

    def lookup(self, name: str) -> type:
        """Return the type called `name`.

        Raises:
            UnknownTypeError: No type has this name.
        """

    def former(self) -> Mapping[str, str]:
        """Return the names that types had before, with those that they have now."""


class QualifiedNames:
    """Name types `module.qualname` and find them by importing: for use inside one trusted process."""

    components = True
    """Objects with `class_name`, `to_dict` and `from_dict` are saved too, as in 1.x."""

    def name_of(self, cls: type) -> str:
        """Return `module.qualname`.

        Raises:
            SerializationError: That name does not lead back to `cls`, for example because `cls` is local to a
                function.
        """
        name = qualified(cls)
        try:
            found = self.lookup(name)
        except UnknownTypeError:
            found = None
        if found is not cls:
            raise SerializationError(f"{name} cannot be found again by that name")
        return name

    def lookup(self, name: str) -> type:
        """Import the type called `name`.

        Raises:
            UnknownTypeError: There is no such type.
        """
        parts = name.split(".")
        for split in range(len(parts) - 1, 0, -1):
            module = _import(".".join(parts[:split]))
            if module is None:
                continue
            found: Any = module
            for part in parts[split:]:
                found = getattr(found, part, None)
            if isinstance(found, type):
                return found
            break
        raise UnknownTypeError(f"there is no type {name[:200]!r}", type_name=name)

    def former(self) -> Mapping[str, str]:
        """Return nothing: types are found where they are."""
        return {}


def qualified(cls: type) -> str:
    """Return `module.qualname` of a class."""
    return f"{cls.__module__}.{cls.__qualname__}"


def _import(name: str) -> Any:
    if name in sys.modules:
        return sys.modules[name]
    try:
        return importlib.import_module(name)
    except (ImportError, ValueError):
        return None
