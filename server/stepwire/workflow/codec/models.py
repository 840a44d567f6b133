"""Build models from the parts that were saved of them.

A model whose class has the fields that were saved is put together as it was, without any validator. For a class that
has changed, what still fits is taken as it was; only the rest is validated.
"""

from __future__ import annotations

import copy
from collections.abc import Mapping
from typing import Any, TypeVar

from pydantic import BaseModel, ValidationError
from pydantic_core import PydanticUndefined

from stepwire.workflow.codec import schemas
from stepwire.workflow.errors import SnapshotError

__all__ = ["fits", "load", "rebuild"]

M = TypeVar("M", bound=BaseModel)


def rebuild(
    cls: type[BaseModel],
    fields: dict[str, Any],
    extra: dict[str, Any],
    private: dict[str, Any] | None,
    fields_set: set[str],
) -> BaseModel:
    """Put an instance together from its parts; no validator and no `__init__` runs.

    Args:
        cls: The class of the instance.
        fields: The values of the declared fields; becomes the instance's own dict.
        extra: The undeclared fields.
        private: The private attributes that are set; None: the class has none.
        fields_set: The names of the fields that were given explicitly.
    """
    model = cls.__new__(cls)
    if private is None and cls.__private_attributes__:
        private = {}
    object.__setattr__(model, "__dict__", fields)
    object.__setattr__(model, "__pydantic_fields_set__", fields_set)
    allows_extra = cls.model_config.get("extra") == "allow"
    object.__setattr__(model, "__pydantic_extra__", extra if allows_extra else None)
    object.__setattr__(model, "__pydantic_private__", private)
    return model


def fits(cls: type[BaseModel], fields: dict[str, Any], extra: dict[str, Any]) -> bool:
    """Return whether the class has just the fields that were saved."""
    return fields.keys() == cls.__pydantic_fields__.keys() and (not extra or cls.model_config.get("extra") == "allow")


def load(
    cls: type[M],
    fields: dict[str, Any],
    extra: dict[str, Any],
    private: dict[str, Any] | None,
    fields_set: set[str],
    *,
    own: Mapping[str, Any] | None = None,
    validate: bool,
) -> M:
    """Restore an instance from its parts.

    Args:
        cls: The class of the instance, as it is today.
        fields: The declared fields that were saved, but those in `own`.
        extra: The undeclared fields that were saved.
        private: The private attributes that were saved; None: nothing was saved of them.
        fields_set: The names of the fields that were given explicitly.
        own: The fields that were saved in the class's own JSON.
        validate: The class may have changed since: check that every value is of a type that its field holds, and
            validate those that are not. Without it that is done only if the class has other fields than were saved.

    Raises:
        SnapshotError: A value does not fit the class; the error names the field, never the value.
    """
    try:
        if own:
            fields = _read_own(cls, fields, own)
        if validate or not fits(cls, fields, extra):
            fields, extra, fields_set = _adapt(cls, fields, extra, fields_set)
        private, fresh = _privates(cls, private, fields)
        model: Any = rebuild(cls, fields, extra, private, fields_set)
        if fresh:
            object.__setattr__(model, "__pydantic_private__", None)  # pydantic makes them only then
            model.model_post_init(None)
    except ValidationError as error:
        told = ", ".join(
            f"{'.'.join(map(str, each['loc'])) or 'the model'} ({each['type']})"
            for each in error.errors(include_input=False, include_url=False, include_context=False)
        )
        raise SnapshotError(f"{cls.__name__} does not validate: {told}") from None
    except SnapshotError:
        raise
    except Exception as error:  # noqa: BLE001 - validators and model_post_init are the author's code
        raise SnapshotError(f"{cls.__name__} cannot be built: {type(error).__name__}") from None
    restored: M = model
    return restored


def _read_own(cls: type[BaseModel], fields: dict[str, Any], own: Mapping[str, Any]) -> dict[str, Any]:
    """Return the fields with those that the class itself reads from JSON, in the order of the class."""
    declared = cls.__pydantic_fields__
    known = frozenset(own.keys() & declared.keys())
    taken = frozenset(fields.keys() & declared.keys())
    read, _, _ = schemas.partial(cls, known, taken).validate_python(
        {**fields, **own}, strict=False, by_name=True, by_alias=False
    )
    gone = {key: value for key, value in {**fields, **own}.items() if key not in declared}
    return {**read, **gone}


def _adapt(
    cls: type[BaseModel], fields: dict[str, Any], extra: dict[str, Any], fields_set: set[str]
) -> tuple[dict[str, Any], dict[str, Any], set[str]]:
    """Fit saved fields to a class that may have changed; return fields, undeclared fields and explicit names.

    The model's own validators run only if they are of mode "before" and a saved field is gone: those may know where it
    went.
    """
    declared = cls.__pydantic_fields__
    saved = {**extra, **fields}
    given = saved
    if fields.keys() - declared.keys() and (validator := schemas.before(cls)) is not None:
        moved = validator.validate_python(dict(saved))
        if isinstance(moved, dict):
            given = moved
    kept = {key: given[key] for key in declared if key in fields and key in given and given[key] is fields[key]}
    if kept:
        try:
            schemas.held(cls).validate_python(kept, strict=True)
        except ValidationError as error:
            for each in error.errors(include_input=False, include_url=False, include_context=False):
                kept.pop(str(each["loc"][0]), None)
        except Exception:  # noqa: BLE001 - an author's __instancecheck__ or __eq__; validators shall tell
            kept = {}
    if kept.keys() == declared.keys():
        fit = kept
    else:
        rest = frozenset(declared.keys() - kept.keys())
        fit, _, _ = schemas.partial(cls, rest, frozenset(kept)).validate_python(
            given, strict=cls.model_config.get("strict"), by_name=True, by_alias=True
        )
    undeclared = {key: value for key, value in given.items() if key not in declared}
    kind = cls.model_config.get("extra")
    if kind == "forbid" and undeclared:
        names = ", ".join(f"{key} (extra_forbidden)" for key in undeclared)
        raise SnapshotError(f"{cls.__name__} does not validate: {names}")
    if kind != "allow":
        undeclared = {}
    return fit, undeclared, fields_set & (fit.keys() | undeclared.keys())


def _privates(
    cls: type[BaseModel], saved: dict[str, Any] | None, fields: dict[str, Any]
) -> tuple[dict[str, Any] | None, bool]:
    """Return the private attributes to set, and whether the class has to make them as for a new instance."""
    attributes = cls.__private_attributes__
    if not attributes:
        return None, False
    if saved is None:
        return None, True
    kept = {key: value for key, value in saved.items() if key in attributes}
    for name, attribute in attributes.items():
        if name in kept:
            continue
        # One with a default is new in the class; one without may have been unset.
        factory: Any = attribute.default_factory
        if factory is not None:
            kept[name] = factory(fields) if getattr(attribute, "default_factory_takes_validated_data", 0) else factory()
        elif attribute.default is not PydanticUndefined:
            kept[name] = copy.deepcopy(attribute.default)
    return kept, False
