"""Validators and serializers that read and write the names of the wire, made of pydantic's schemas of a class.

The validators also refuse misspelled names, in the class and in every model, dataclass or typed dict inside it.
Pydantic ignores a name that it does not know.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any
from weakref import WeakKeyDictionary

from pydantic import BaseModel
from pydantic_core import SchemaSerializer, SchemaValidator

from stepwire.workflow.wire_names import extra_forbidden, plain, shown_alias

__all__ = ["wire_assigner", "wire_serializer", "wire_validator"]

_LEAVES = frozenset(
    {"config", "metadata", "serialization", "default", "cls", "function", "expected", "validation_alias"}
)
"""Keys of a core schema that hold no schema of a field."""

Change = Callable[[dict[str, Any], dict[str, Any], Mapping[str, Any]], dict[str, Any]]
"""Gives what takes the place of a schema: from it with its inside changed, as it was, and its class's configuration."""

_validators: WeakKeyDictionary[type[BaseModel], SchemaValidator] = WeakKeyDictionary()
_assigners: WeakKeyDictionary[type[BaseModel], SchemaValidator] = WeakKeyDictionary()


def wire_serializer(cls: type[BaseModel]) -> SchemaSerializer:
    """Return a serializer that writes fields by their names on the wire if it is told `by_alias`.

    That is pydantic's own, unless the class or a model in it has fields that are written under another alias than they
    are read by.
    """
    schema = _rebuilt(cls.__pydantic_core_schema__, _aligned)
    if schema is cls.__pydantic_core_schema__:
        return cls.__pydantic_serializer__
    # Otherwise pydantic takes the serializers that the classes have.
    return SchemaSerializer(schema, _use_prebuilt=False)


def wire_validator(cls: type[BaseModel]) -> SchemaValidator:
    """Return a validator of `cls` that refuses misspelled names, here and in whatever is inside.

    A name is misspelled if no field has it, and it looks like that of a field that has an alias. The error names the
    path. That is pydantic's own validator, unless the class or what is inside it has aliases.
    """
    validator = _validators.get(cls)
    if validator is None:
        schema = _rebuilt(cls.__pydantic_core_schema__, _checked)
        validator = _validators[cls] = _validator(cls, schema)
    return validator


def wire_assigner(cls: type[BaseModel]) -> SchemaValidator:
    """Return a validator of values that are assigned to fields of `cls`, as `wire_validator`.

    It leaves the dynamic fields alone that an object of the class has already.
    """
    validator = _assigners.get(cls)
    if validator is None:
        schema: Any = cls.__pydantic_core_schema__
        root = schema["schema"] if schema["type"] == "definitions" else schema
        if root["type"] == "definition-ref":
            root = next(each for each in schema["definitions"] if each["ref"] == root["schema_ref"])
            root = {key: value for key, value in root.items() if key != "ref"}
        own = _fields_of(root)

        def check(node: dict[str, Any], before: dict[str, Any], config: Mapping[str, Any]) -> dict[str, Any]:
            return node if before.get("fields") is own else _checked(node, before, config)

        made = _rebuilt(root, check)
        if schema["type"] == "definitions":
            definitions = _rebuilt(schema["definitions"], _checked)
            if made is not root or definitions is not schema["definitions"]:
                made = {**schema, "schema": made, "definitions": definitions}
        validator = _assigners[cls] = _validator(cls, schema if made is root else made)
    return validator


def _validator(cls: type[BaseModel], schema: Any) -> SchemaValidator:
    if schema is cls.__pydantic_core_schema__:
        own: SchemaValidator = cls.__pydantic_validator__  # type: ignore[assignment]  # or a plugin's, that does the same
        return own
    return SchemaValidator(schema, _use_prebuilt=False)


def _rebuilt(schema: Any, change: Change, config: Mapping[str, Any] = {}) -> Any:
    """Return a core schema with each schema in it changed, from the innermost; the same object if none was.

    Args:
        schema: A core schema, or a list, tuple or dict of them.
        change: Changes one schema.
        config: The configuration of the class that it is of.
    """
    if isinstance(schema, list | tuple):
        items = [_rebuilt(each, change, config) for each in schema]
        return schema if all(map(_is, items, schema)) else type(schema)(items)
    if not isinstance(schema, dict):
        return schema
    is_schema = isinstance(schema.get("type"), str)  # else it holds schemas by the names of fields, or by tags
    if is_schema:
        config = schema.get("config", config)
    made = {key: _rebuilt(value, change, config) for key, value in schema.items() if not (is_schema and key in _LEAVES)}
    node = schema if all(value is schema[key] for key, value in made.items()) else {**schema, **made}
    return change(node, schema, config) if is_schema else node


def _is(one: object, other: object) -> bool:
    return one is other


def _aligned(node: dict[str, Any], before: dict[str, Any], config: Mapping[str, Any]) -> dict[str, Any]:
    """Write a field by the name that it is read by."""
    if node["type"] not in ("model-field", "dataclass-field", "typed-dict-field"):
        return node
    alias = _alias_of(node)
    if alias == node.get("serialization_alias"):
        return node
    made = {key: value for key, value in node.items() if key != "serialization_alias"}
    return made if alias is None else {**made, "serialization_alias": alias}


def _checked(node: dict[str, Any], before: dict[str, Any], config: Mapping[str, Any]) -> dict[str, Any]:
    """Have the fields of a class refuse misspelled names."""
    kind = node["type"]
    if kind not in ("model-fields", "dataclass-args", "typed-dict"):
        return node
    fields = node["fields"]
    named = {field["name"]: field for field in fields} if kind == "dataclass-args" else fields
    aliases = {name: alias for name, field in named.items() if (alias := _alias_of(field)) not in (None, name)}
    behaviour = node.get("extra_behavior") or config.get("extra_fields_behavior", "ignore")
    if not aliases or behaviour == "forbid":
        return node
    title = str(node.get("model_name") or node.get("dataclass_name") or node.get("cls_name") or "typed dict")
    spellings = frozenset(plain(str(each)) for each in (*aliases, *aliases.values()))
    check = _Check(title, kind, frozenset(named), spellings, keeps=behaviour == "allow")
    made: dict[str, Any] = {key: value for key, value in node.items() if key != "ref"}
    made["extra_behavior"] = "allow"
    checked = {"type": "function-after", "function": {"type": "no-info", "function": check}, "schema": made}
    return {**checked, "ref": node["ref"]} if "ref" in node else checked


class _Check:
    """Refuse misspelled names among those that no field has, and drop the others where pydantic would.

    Args:
        title: The name of the class.
        kind: The type of the schema of its fields.
        names: The names of its fields.
        spellings: What the spellings of the fields that have an alias have in common.
        keeps: Whether the class keeps fields that it does not declare.
    """

    def __init__(self, title: str, kind: str, names: frozenset[str], spellings: frozenset[str], *, keeps: bool) -> None:
        self._title = title
        self._kind = kind
        self._names = names
        self._spellings = spellings
        self._keeps = keeps

    def __call__(self, validated: Any) -> Any:
        """Look at what pydantic's validation of the fields gave."""
        if self._kind == "model-fields":
            fields, extra, given = validated
            self._refuse(extra)
            return validated if self._keeps else (fields, None, given)
        found = validated[0] if self._kind == "dataclass-args" else validated
        extra = [key for key in found if key not in self._names]
        self._refuse(extra)
        if not self._keeps:
            for key in extra:
                del found[key]
        return validated

    def _refuse(self, keys: Any) -> None:
        if wrong := sorted(key for key in keys or () if plain(key) in self._spellings):
            raise extra_forbidden(self._title, wrong)


def _fields_of(schema: Any) -> Any:
    """Return the fields that the schema of a model validates; None if there are none."""
    while isinstance(schema, dict) and "fields" not in schema:
        schema = schema.get("schema")
    return None if schema is None else schema["fields"]


def _alias_of(field: Mapping[str, Any]) -> str | None:
    """Return the name on the wire of a field of a core schema, when it has an alias."""
    alias = field.get("validation_alias")
    if isinstance(alias, list):
        # One path, or several to choose from.
        paths = alias if all(isinstance(each, list) for each in alias) else [alias]
        return next((shown for path in paths if len(path) == 1 and (shown := shown_alias(path[0]))), None)
    return shown_alias(alias)
