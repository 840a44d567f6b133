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
from stepwire.workflow.codec.libraries import library_types, of_library
from stepwire.workflow.codec.names import qualified
from stepwire.workflow.codec.records import is_dataclass_record, is_named_tuple
from stepwire.workflow.definition.routing import Routing
from stepwire.workflow.definition.schema import json_schema, opaque
from stepwire.workflow.definition.step_config import step_config_of
from stepwire.workflow.errors import (
    SerializationError,
    UnknownTypeError,
    WorkflowConfigurationError,
)
from stepwire.workflow.events import Event
from stepwire.workflow.state.dict_state import DictState

__all__ = ["TypeRegistry", "code_digest", "engine_types"]

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
        self._aliases: dict[str, type] = {}
        # Types of libraries by their full names: objects of theirs may lie in the state, and clients do not see them.
        self._library: dict[str, type] = {}
        self._digest: str | None = None
        for cls in types:
            if _is_record(cls):
                self._add_record(cls)
            else:
                self._add(cls)
        self._add_aliases({})

    @classmethod
    def of(cls, workflow_cls: type, steps: Mapping[str, Callable[..., Any]]) -> TypeRegistry:
        """Collect the types of a workflow class with these steps.

        It uses the engine's own events, the types in the steps' signatures and in the attribute `types` of the class,
        and the types of their fields. Each goes by the name of its class. The other Event, BaseModel and Enum classes
        that the globals of the workflow's module lead to may turn up in values too. One of those whose name is taken
        goes by its qualified name: `Order.Line`.

        Names that types had before are the `aliases` of event classes, and the attribute `type_aliases` of the
        workflow class, which maps earlier names to classes.

        Raises:
            WorkflowConfigurationError: Two classes that are used have one name, or a local class of the module has
                the name of another one; or `types` holds something that is no such class; or an earlier name of a
                type is a name of another one.
        """
        registry = cls(getattr(workflow_cls, "base_types", None) or engine_types())
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
        spare: dict[type, None] = {}
        found_in_modules: list[Any] = []
        for module_name in getattr(workflow_cls, "type_modules", None) or (workflow_cls.__module__,):
            module = sys.modules.get(module_name)
            for name, found in list(vars(module).items()) if module is not None else ():
                found_in_modules.append(found)
                if not name.startswith("_") and _is_payload_type(found) and _is_authored(found):
                    spare.update(dict.fromkeys(each for each in _payload_types(found) if not of_library(each)))
        registry._add_spare([each for each in spare if each not in registry._names])
        registry.add_libraries()
        for found in [*registry._types.values(), *found_in_modules]:
            for each in _types_in(found) if _is_record(found) or _is_payload_type(found) else ():
                if _is_record(each):
                    registry._add_record(each)
        registry._add_aliases(getattr(workflow_cls, "type_aliases", {}))
        return registry

    def name_of(self, cls: type) -> str:
        """Return the wire name of `cls`.

        Raises:
            SerializationError: The workflow does not have this type.
        """
        try:
            return self._names[cls]
        except KeyError:
            if of_library(cls) and self.add_libraries() and cls in self._names:  # imported since
                return self._names[cls]
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
            if (found := self._aliases.get(name)) is not None:
                return found
            if (found := self._library.get(name)) is not None:
                return found
            if "." in name and self.add_libraries() and name in self._library:  # imported since
                return self._library[name]
            raise UnknownTypeError(f"the workflow has no type {name[:200]!r}", type_name=name) from None

    def add_libraries(self) -> bool:
        """Know the types of adopted libraries that this process has imported; return whether any is new.

        Those that occur in values only go by their full names. Descriptions and the digest leave all of them out.
        """
        known = len(self._library)
        events = {cls.__module__ for cls in self._types.values() if issubclass(cls, Event) and of_library(cls)}
        for found in library_types():
            if found in self._names:
                continue
            short = found.__name__
            if found.__module__ in events and issubclass(found, Event) and short not in self._types:
                # Beside the events of the steps: they may be written to the stream, so clients see their names.
                self._library.setdefault(short, found)
            if self._library.get(short) is found:
                self._names[found] = short
            else:
                self._library[qualified(found)] = found
                self._names[found] = qualified(found)
        return len(self._library) > known

    def events(self) -> dict[str, type[Event]]:
        """Return the event types by name, in order of name."""
        return {name: cls for name, cls in self.items() if issubclass(cls, Event)}

    def current(self, name: str) -> str:
        """Return the name that a type has now, from a name that it has or had; any other text as it is."""
        found = self._aliases.get(name)
        return name if found is None else self._names[found]

    def former(self) -> Mapping[str, str]:
        """Return the names that types had before, with those that they have now."""
        return {alias: self._names[cls] for alias, cls in self._aliases.items()}

    def aliases(self, name: str) -> list[str]:
        """Return the names that the type called `name` had before, sorted."""
        cls = self._types.get(name)
        return sorted(alias for alias, found in self._aliases.items() if found is cls)

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
        if isinstance(annotation, type) and annotation in self._names:
            return  # with its parts: for an adopted workflow these may be others than the engine's
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

    def _add_aliases(self, given: Mapping[str, type]) -> None:
        """Add the earlier names of types: those given, and those that event classes declare."""
        declared = [(name, cls) for cls in self._types.values() for name in getattr(cls, "__aliases__", ())]
        for name, cls in [*given.items(), *declared]:
            if cls not in self._names:
                raise WorkflowConfigurationError(
                    f"type_aliases: {name!r} names {qualified(cls)}, which is not among the types of the workflow"
                )
            if self._names[cls][:1] == _RECORD:
                name = _RECORD + name
            other = self._types.get(name) or self._aliases.setdefault(name, cls)
            if other is not cls or name == self._names[cls]:
                raise WorkflowConfigurationError(
                    f"{qualified(cls)} cannot have the alias {name!r}: it is a name of {qualified(other)}"
                )

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


def code_digest(names: TypeRegistry, routing: Routing) -> str:
    """Return 64 hexadecimal digits that change if a saved run may not fit any more: types, steps, what these accept."""
    steps = {name: sorted(map(names.name_of, config.accepted_events)) for name, config in routing.steps.items()}
    text = json.dumps([names.schema_digest(), steps], sort_keys=True)
    return hashlib.sha256(text.encode()).hexdigest()


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


def engine_types() -> list[type]:
    """Return the types that every workflow has."""
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
