"""Build models from the parts that were saved of them: as they were, or through their validators."""

from __future__ import annotations

from typing import Any, TypeVar

from pydantic import BaseModel, RootModel, ValidationError
from pydantic_core import PydanticUndefined

from stepwire.workflow.errors import SnapshotError

__all__ = ["fits", "load", "rebuild", "revive"]

M = TypeVar("M", bound=BaseModel)


def rebuild(
    cls: type[BaseModel],
    fields: dict[str, Any],
    extra: dict[str, Any],
    private: dict[str, Any] | None,
    fields_set: set[str],
) -> BaseModel:
    """Put an instance together from its parts; no validator and no `__init__` runs."""
    model = cls.__new__(cls)
    if private is None and cls.__private_attributes__:
        private = {}
    object.__setattr__(model, "__dict__", fields)
    object.__setattr__(model, "__pydantic_fields_set__", fields_set)
    allows_extra = cls.model_config.get("extra") == "allow"
    object.__setattr__(model, "__pydantic_extra__", extra if allows_extra else None)
    object.__setattr__(model, "__pydantic_private__", private)
    return model


def revive(
    cls: type[BaseModel],
    fields: dict[str, Any],
    extra: dict[str, Any],
    private: dict[str, Any] | None,
    fields_set: set[str],
) -> BaseModel:
    """Build an instance through its validators; fields may have come or gone since.

    SnapshotError naming the fields that no longer validate.
    """
    given: Any = fields["root"] if issubclass(cls, RootModel) else {**extra, **fields}
    try:
        model: BaseModel = cls.__pydantic_validator__.validate_python(given, by_name=True, by_alias=False)
    except ValidationError as error:
        told = ", ".join(
            f"{'.'.join(map(str, each['loc'])) or 'the model'} ({each['type']})"
            for each in error.errors(include_input=False, include_url=False, include_context=False)
        )
        raise SnapshotError(f"{cls.__name__} does not validate: {told}") from None
    except Exception as error:  # noqa: BLE001 - validators and __init__ are the author's code
        raise SnapshotError(f"{cls.__name__} cannot be built: {type(error).__name__}") from None
    object.__setattr__(model, "__pydantic_fields_set__", fields_set & model.__dict__.keys())
    if model.__pydantic_extra__:
        model.__pydantic_fields_set__.update(fields_set & model.__pydantic_extra__.keys())
    if private and model.__pydantic_private__ is not None:
        kept = {key: item for key, item in private.items() if key in cls.__private_attributes__}
        model.__pydantic_private__.update(kept)
    return model


def load(cls: type[M], values: dict[str, Any], *, validate: bool) -> M:
    """Build an instance from its declared and undeclared fields together.

    With `validate`, or when the fields are not those of `cls`, through its validators:
    SnapshotError naming what does not pass.
    """
    fields = {key: value for key, value in values.items() if key in cls.model_fields}
    extra = {key: value for key, value in values.items() if key not in fields}
    build = revive if validate or not fits(cls, fields, extra, None) else rebuild
    model = build(cls, fields, extra, None, set(values))
    assert isinstance(model, cls)
    return model


def fits(
    cls: type[BaseModel],
    fields: dict[str, Any],
    extra: dict[str, Any],
    private: dict[str, Any] | None,
) -> bool:
    """Say whether the parts are those of today's class, so that they need no validator."""
    if fields.keys() != cls.model_fields.keys():
        return False
    if extra and cls.model_config.get("extra") != "allow":
        return False
    attributes = cls.__private_attributes__
    given = private or {}
    # A private attribute without a default may be unset; one with a default is there.
    return given.keys() <= attributes.keys() and all(
        name in given or (attribute.default is PydanticUndefined and attribute.default_factory is None)
        for name, attribute in attributes.items()
    )
