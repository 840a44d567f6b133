"""Names of types in payloads: the protocol that a registry follows, and names that are imported."""

from __future__ import annotations

import importlib
import sys
from typing import Any, Protocol

from stepwire.workflow.errors import SerializationError, UnknownTypeError

__all__ = ["Names", "QualifiedNames", "qualified"]


class Names(Protocol):
    """Name types in a payload, and find them again."""

    def name_of(self, cls: type) -> str:
        """Return the name of `cls`; SerializationError when it has none."""

    def lookup(self, name: str) -> type:
        """Return the type called `name`; UnknownTypeError when there is none."""


class QualifiedNames:
    """Name types by `module.qualname` and import them when they are looked up.

    Only for use inside one trusted process: a payload chooses what is imported.
    """

    components = True
    """Objects with `class_name`, `to_dict` and `from_dict` are saved too, as 1.x does."""

    def name_of(self, cls: type) -> str:
        """Return `module.qualname`; SerializationError when that does not lead back to `cls`."""
        name = qualified(cls)
        try:
            found = self.lookup(name)
        except UnknownTypeError:
            found = None
        if found is not cls:
            raise SerializationError(f"{name} cannot be found again by that name")
        return name

    def lookup(self, name: str) -> type:
        """Import the type called `name`; UnknownTypeError when there is none."""
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
