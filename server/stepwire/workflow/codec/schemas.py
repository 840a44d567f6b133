"""Validators and serializers for some fields of a model, derived from pydantic's core schema of its class.

Loading must not run an author's validators over values that have passed them, and saving must not serialize a whole
model to save one field. Pydantic offers neither for single fields, so they are derived here, once for each class.

What is derived:

- `partial`: validates some fields and takes the values of the others as they are;
- `serializer`: writes some fields, and no others, as the class does;
- `held`: checks whether values are of the types that the fields hold, without any function of the author's;
- `before` and `after`: the model's own validators of these modes, and nothing else;
- `extra`: validates undeclared fields that the class gives a type.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple, TypeVar

from pydantic import BaseModel
from pydantic_core import SchemaSerializer, SchemaValidator

__all__ = ["after", "before", "extra", "held", "partial", "serializer"]

T = TypeVar("T")
_Keys = frozenset[str]

_ATTRIBUTE = "__stepwire_derived__"
"""Where a class keeps them: in itself, so that they go when the class goes."""

_MOST = 64
"""How many derived validators and serializers a class keeps; each set of fields has its own."""


def partial(cls: type[BaseModel], given: _Keys, taken: _Keys) -> SchemaValidator:
    """Return a validator of the fields `given` that takes the fields `taken` as they are.

    It takes a dict and returns `(fields, extra, names that were given)`. Other fields, `given` or not, get defaults.
    No validator of the whole model runs.
    """

    def make() -> SchemaValidator:
        parts = _parts(cls)
        fields: dict[str, Any] = {}
        for key, field in parts.fields.items():
            if key in taken:
                fields[key] = {"type": "model-field", "schema": {"type": "any"}}
            elif key in given:
                fields[key] = {"type": "model-field", "schema": field["schema"]}
        schema: Any = {"type": "model-fields", "fields": fields, "model_name": cls.__name__, "extra_behavior": "ignore"}
        return SchemaValidator(_with(schema, parts.definitions), parts.config)

    return _once(cls, ("partial", given, taken), make)


def serializer(cls: type[BaseModel], keys: _Keys) -> SchemaSerializer:
    """Return a serializer that writes the fields `keys` of an instance of `cls` as a dict, excluded fields too."""

    def make() -> SchemaSerializer:
        parts = _parts(cls)
        fields = {key: {"type": "model-field", "schema": parts.fields[key]["schema"]} for key in keys}
        inner: Any = {"type": "model-fields", "fields": fields, "model_name": cls.__name__}
        schema: Any = {"type": "model", "cls": cls, "schema": inner, "config": parts.config}
        # Otherwise pydantic takes the serializer of the whole class.
        return SchemaSerializer(_with(schema, parts.definitions), parts.config, _use_prebuilt=False)

    return _once(cls, ("serializer", keys), make)


def held(cls: type[BaseModel]) -> SchemaValidator:
    """Return a validator that accepts values of the types that the fields of `cls` hold.

    It takes a dict of any of the fields, and is to be called with `strict=True`. Constraints hold (`gt`,
    `max_length`); functions of validators do not run.
    """

    def make() -> SchemaValidator:
        parts = _parts(cls)
        fields = {
            key: {"type": "typed-dict-field", "schema": _held(field["schema"]), "required": False}
            for key, field in parts.fields.items()
        }
        schema: Any = {"type": "typed-dict", "fields": fields, "extra_behavior": "ignore"}
        return SchemaValidator(_with(schema, [_held(each) for each in parts.definitions]), parts.config)

    return _once(cls, "held", make)


def before(cls: type[BaseModel]) -> SchemaValidator | None:
    """Return a validator that runs the model's validators of mode "before" over a dict; None when it has none."""

    def make() -> SchemaValidator | None:
        schema: Any = {"type": "any"}
        functions = _parts(cls).before
        for function in reversed(functions):
            schema = {"type": "function-before", "function": function, "schema": schema}
        return SchemaValidator(schema) if functions else None

    return _once(cls, "before", make)


def after(cls: type[BaseModel]) -> SchemaValidator | None:
    """Return a validator that runs the model's validators of mode "after" over an instance; None when it has none."""

    def make() -> SchemaValidator | None:
        schema: Any = {"type": "is-instance", "cls": cls}
        functions = _parts(cls).after
        for function in reversed(functions):
            schema = {"type": "function-after", "function": function, "schema": schema}
        return SchemaValidator(schema) if functions else None

    return _once(cls, "after", make)


def extra(cls: type[BaseModel]) -> SchemaValidator | None:
    """Return a validator of a dict of undeclared fields; None when they may be anything."""

    def make() -> SchemaValidator | None:
        parts = _parts(cls)
        if parts.extra is None:
            return None
        schema: Any = {"type": "dict", "keys_schema": {"type": "any"}, "values_schema": parts.extra}
        return SchemaValidator(_with(schema, parts.definitions), parts.config)

    return _once(cls, "extra", make)


def _once(cls: type[BaseModel], key: object, make: Callable[[], T]) -> T:
    made: dict[object, Any] | None = cls.__dict__.get(_ATTRIBUTE)  # not that of a base
    if made is None:
        made = {}
        setattr(cls, _ATTRIBUTE, made)
    if key not in made:
        if len(made) >= _MOST:
            made.clear()
        made[key] = make()
    found: T = made[key]
    return found


class _Parts(NamedTuple):
    """What a core schema says of a model."""

    fields: dict[str, Any]
    definitions: list[Any]
    config: Any
    before: list[Any]
    after: list[Any]
    extra: Any


def _parts(cls: type[BaseModel]) -> _Parts:
    """Take a model's core schema apart; a root model has one field called `root`.

    Raises:
        KeyError: The class has a core schema of its own making.
    """
    schema: Any = cls.__pydantic_core_schema__
    definitions: list[Any] = []
    config: dict[str, Any] = {}
    before: list[Any] = []
    after: list[Any] = []
    while schema["type"] != "model-fields":
        kind = schema["type"]
        if kind == "definitions":
            definitions = schema["definitions"]
            schema = schema["schema"]
        elif kind == "definition-ref":
            name = schema["schema_ref"]
            schema = next(each for each in definitions if each.get("ref") == name)
        elif kind == "model":
            # Whether a field is strict is for the call to say; what is extra, for the caller.
            config = {key: value for key, value in schema.get("config", {}).items() if not key.startswith("extra")}
            config.pop("strict", None)
            if schema.get("root_model"):
                field = {"type": "model-field", "schema": schema["schema"]}
                return _Parts({"root": field}, definitions, config, before, after, None)
            schema = schema["schema"]
        else:
            if kind == "function-before":
                before.append(schema["function"])
            elif kind == "function-after":
                after.append(schema["function"])
            schema = schema["schema"]
    return _Parts(schema["fields"], definitions, config, before, after, schema.get("extras_schema"))


def _with(schema: Any, definitions: list[Any]) -> Any:
    return {"type": "definitions", "schema": schema, "definitions": definitions} if definitions else schema


def _held(schema: Any) -> Any:
    """Return a schema of the values that a field of this schema holds, without functions, for strict validation."""
    if isinstance(schema, list | tuple):
        return type(schema)(map(_held, schema))
    if not isinstance(schema, dict):
        return schema
    kind = schema.get("type")
    if not isinstance(kind, str):  # fields or choices by their names
        return {key: _held(value) for key, value in schema.items()}
    ref = {"ref": schema["ref"]} if "ref" in schema else {}
    if kind in ("model", "dataclass"):
        return {"type": "is-instance", "cls": schema["cls"], **ref}
    if kind in _INNER:
        return {**_held(schema[_INNER[kind]]), **ref}
    if kind == "chain":
        first, last = schema["steps"][0], schema["steps"][-1]
        return {**_held(first if first.get("type") == "is-instance" else last), **ref}  # a Sequence may be a tuple
    if kind in _ANY:
        return {"type": "any", **ref}
    return {key: _held(value) if key in _NESTED else value for key, value in schema.items() if key not in _DROPPED}


_INNER = {
    "function-before": "schema",
    "function-after": "schema",
    "function-wrap": "schema",
    "custom-error": "schema",
    "default": "schema",
    "lax-or-strict": "strict_schema",
    "json-or-python": "python_schema",
}
"""Kinds of schema that hold what another schema inside them holds, and the key of that one."""

_ANY = frozenset({"function-plain", "json", "call", "generator", "url", "multi-host-url"})
"""Kinds of schema of which nothing can be said about the values that they hold."""

_NESTED = frozenset(
    {
        "schema",
        "choices",
        "items_schema",
        "keys_schema",
        "values_schema",
        "fields",
        "extras_schema",
    }
)
_DROPPED = frozenset({"serialization", "metadata"})
