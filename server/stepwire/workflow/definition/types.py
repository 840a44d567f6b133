"""The types of a workflow by their names, on the wire and in snapshots."""

from __future__ import annotations

import dataclasses
import hashlib
import json
import sys
import typing
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping
from enum import Enum
from typing import Any

from pydantic import BaseModel

from stepwire.workflow import events as engine_events
from stepwire.workflow.codec.names import qualified
from stepwire.workflow.codec.records import is_dataclass_record, is_named_tuple
from stepwire.workflow.definition.schema import json_schema, opaque
from stepwire.workflow.definition.step_config import step_config_of
from stepwire.workflow.errors import (
    SerializationError,
    UnknownTypeError,
    WorkflowConfigurationError,
)
from stepwire.workflow.events import Event
from stepwire.workflow.state.dict_state import DictState

__all__ = ["TypeRegistry"]

_RECORD = "@"
"""Begins the names of dataclasses and named tuples, so that they are not those of other types."""

# Bases whose own instances carry nothing; classes of these modules are never the author's.
_LIBRARIES = ("pydantic", "pydantic_core", "pydantic_settings", "enum")


class TypeRegistry:
    """Events, models and enums of one workflow by class name.

    Reading a payload through it never imports anything: a name is known or it is refused.
    """

    def __init__(self, types: Iterable[type]) -> None:
        self._types: dict[str, type] = {}
        self._names: dict[type, str] = {}
        # Dataclasses and named tuples: they are parts of values, and clients do not see their names.
        self._records: dict[str, type] = {}
        self._digest: str | None = None
        for cls in types:
            if _is_record(cls):
                self._add_record(cls)
            else:
                self._add(cls)

    @classmethod
    def of(cls, workflow_cls: type, steps: Mapping[str, Callable[..., Any]]) -> TypeRegistry:
        """Collect the types of a workflow class with these steps.

        It uses the engine's own events, the types in the steps' signatures and in the attribute `types` of the class,
        and the types of their fields. Each goes by the name of its class. The other Event, BaseModel and Enum classes
        that the globals of the workflow's module lead to may turn up in values too. One of those whose name is taken
        goes by its qualified name: `Order.Line`.

        Raises:
            WorkflowConfigurationError: Two classes that are used have one name, or a local class of the module has
                the name of another one; or `types` holds something that is no such class.
        """
        registry = cls(_engine_types())
        for step in steps.values():
            config = step_config_of(step)
            if config is None:
                continue
            for found in (*config.accepted_events, *config.return_types, config.context_state_type):
                registry._use(found)
        for found in getattr(workflow_cls, "types", ()):
            if not _is_payload_type(found):
                raise WorkflowConfigurationError(
                    f"{workflow_cls.__name__}.types holds something that is neither an Event, "
                    "a BaseModel nor an Enum class"
                )
            registry._use(found)
        module = sys.modules.get(workflow_cls.__module__)
        spare: dict[type, None] = {}
        for name, found in list(vars(module).items()) if module is not None else ():
            if not name.startswith("_") and _is_payload_type(found) and _is_authored(found):
                spare.update(dict.fromkeys(_payload_types(found)))
        registry._add_spare([each for each in spare if each not in registry._names])
        for found in [*registry._types.values(), *(vars(module).values() if module is not None else ())]:
            for each in _types_in(found) if _is_record(found) or _is_payload_type(found) else ():
                if _is_record(each):
                    registry._add_record(each)
        return registry

    def name_of(self, cls: type) -> str:
        """Return the wire name of `cls`.

        Raises:
            SerializationError: The workflow does not have this type.
        """
        try:
            return self._names[cls]
        except KeyError:
            raise SerializationError(
                f"{qualified(cls)} is not among the types of the workflow: "
                "name it in a step's signature, in the workflow's module or in `types`"
            ) from None

    def lookup(self, name: str) -> type:
        """Return the type called `name`.

        Raises:
            UnknownTypeError: The workflow has no type of this name.
        """
        try:
            return self._types[name] if name[:1] != _RECORD else self._records[name]
        except KeyError:
            raise UnknownTypeError(f"the workflow has no type {name[:200]!r}", type_name=name) from None

    def events(self) -> dict[str, type[Event]]:
        """Return the event types by name, in order of name."""
        return {name: cls for name, cls in self.items() if issubclass(cls, Event)}

    def items(self) -> Iterator[tuple[str, type]]:
        """Iterate over names and types, in order of name."""
        return iter(sorted(self._types.items()))

    def __iter__(self) -> Iterator[str]:
        return iter(sorted(self._types))

    def __contains__(self, name: object) -> bool:
        return name in self._types

    def __len__(self) -> int:
        return len(self._types)

    def json_schema(self, name: str) -> dict[str, Any]:
        """Return the JSON Schema of the type called `name`; a part that has none may be anything."""
        return json_schema(self.lookup(name))

    def schema_digest(self) -> str:
        """Return 64 hexadecimal digits that change if the JSON Schema of any type changes."""
        if self._digest is None:
            schemas = {name: json_schema(cls) for name, cls in self.items()}
            text = json.dumps(schemas, sort_keys=True, default=opaque)
            self._digest = hashlib.sha256(text.encode()).hexdigest()
        return self._digest

    def _use(self, annotation: Any) -> None:
        """Add every payload type in `annotation`, and those of their fields."""
        for cls in _payload_types(annotation):
            self._add(cls)

    def _add(self, cls: type) -> None:
        known = self._types.setdefault(cls.__name__, cls)
        if known is not cls:
            raise WorkflowConfigurationError(
                f"two types are called {cls.__name__!r}: {qualified(known)} and {qualified(cls)}"
            )
        self._names[cls] = cls.__name__

    def _add_record(self, cls: type) -> None:
        """Add a dataclass or a named tuple."""
        for name in (cls.__name__, cls.__qualname__, qualified(cls)):
            if self._records.setdefault(_RECORD + name, cls) is cls:
                self._names.setdefault(cls, _RECORD + name)
                return

    def _add_spare(self, classes: list[type]) -> None:
        """Add types that the workflow does not use; one whose name is taken goes by its qualified name."""
        times = Counter(cls.__name__ for cls in classes)
        for cls in classes:
            if (times[cls.__name__] == 1 and cls.__name__ not in self._types) or "<locals>" in cls.__qualname__:
                self._add(cls)
                continue
            names = [cls.__qualname__, qualified(cls)] if "." in cls.__qualname__ else [qualified(cls)]
            name = next((each for each in names if each not in self._types), None)
            if name is not None:
                self._types[name] = cls
                self._names[cls] = name


def _payload_types(annotation: Any) -> Iterator[type]:
    """Yield every payload type in an annotation, and those of their fields."""
    for found in _types_in(annotation):
        if _is_payload_type(found) and found is not BaseModel and found is not Enum:
            yield found


def _types_in(annotation: Any) -> Iterator[Any]:
    """Yield everything that an annotation is made of, and what the fields of its types are made of."""
    pending = [annotation]
    seen: set[int] = set()
    while pending:
        found = pending.pop()
        if id(found) in seen:
            continue
        seen.add(id(found))
        yield found
        pending.extend(_parts(found))


def _is_record(found: object) -> bool:
    return isinstance(found, type) and (is_dataclass_record(found) or is_named_tuple(found))


def _engine_types() -> list[type]:
    own = [getattr(engine_events, name) for name in engine_events.__all__]
    return [DictState, *(each for each in own if _is_payload_type(each))]


def _is_payload_type(found: object) -> bool:
    return (
        isinstance(found, type)
        # A parametrized list[int] is an instance of `type` only by its looks.
        and typing.get_origin(found) is None
        and issubclass(found, BaseModel | Enum)
    )


def _is_authored(cls: type) -> bool:
    if issubclass(cls, Enum) and not cls.__members__:
        return False
    return cls.__module__.partition(".")[0] not in _LIBRARIES


def _parts(found: Any) -> Iterable[Any]:
    """Return the parts of an annotation, or the annotations of the fields of a class."""
    if isinstance(found, type) and typing.get_origin(found) is None:
        if issubclass(found, BaseModel):
            return [each.annotation for each in found.model_fields.values()]
        # By its attribute: typing does not know the TypedDict of typing_extensions.
        if dataclasses.is_dataclass(found) or hasattr(found, "__total__") or is_named_tuple(found):
            try:
                return typing.get_type_hints(found, include_extras=True).values()
            except (NameError, TypeError, SyntaxError, AttributeError):
                return ()  # names that exist for type checkers only
        return ()
    alias = getattr(found, "__value__", None)  # `type X = …` and TypeAliasType
    if alias is not None:
        return [alias]
    bound = getattr(found, "__bound__", None)
    return (*typing.get_args(found), bound, *getattr(found, "__constraints__", ()))
