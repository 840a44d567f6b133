"""Validate what changed in a state, and nothing else: validators do not run over values that have passed them.

A model that was there before is compared with what it was: its validators run over the fields that differ. A model that
is new was validated when it was made, unless it was made by `model_construct` or changed since: its validators run over
the values that are not of a type that their field holds. In both cases the model's own validators of mode "after" look
at the result.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from pydantic import BaseModel, ValidationError

from stepwire.workflow.codec import schemas
from stepwire.workflow.codec.structure import same

__all__ = ["check_changes", "check_new"]

_ABSENT: Any = object()


def check_new(state: BaseModel) -> None:
    """Validate a state that is put in the place of another, and the models inside it.

    Values that do not fit are replaced by what the validators make of them, in place.

    Raises:
        pydantic.ValidationError: A value does not fit.
    """
    _Check({}).model(state)


def check_changes(state: BaseModel, before: Mapping[int, BaseModel]) -> set[str]:
    """Validate what changed in a state since a copy of it was taken, and return the top-level names that differ.

    Args:
        state: The state; values that validation converts are replaced in place.
        before: By the id of the state, and of each model that was inside it, the copy of what it was.

    Raises:
        pydantic.ValidationError: A value does not fit.
    """
    check = _Check(before)
    check.model(state)
    return check.touched[id(state)]


class _Check:
    """Look at each model of a state once."""

    def __init__(self, before: Mapping[int, BaseModel]) -> None:
        self._before = before
        self.touched: dict[int, set[str]] = {}
        """By the id of each model that was looked at, the names of what differs."""

    def model(self, model: BaseModel) -> bool:
        """Validate a model in place; return whether it is new or differs from what it was."""
        seen = self.touched.get(id(model))
        before = self._before.get(id(model))
        if seen is None:
            seen = self.touched[id(model)] = {""}  # a model that contains itself has changed
            if before is None:
                self._check_new(model)
            else:
                seen.clear()
                self._check_changes(model, before, seen)
        return before is None or bool(seen)

    def _check_new(self, model: BaseModel) -> None:
        for value in (*model.__dict__.values(), *(model.__pydantic_extra__ or {}).values()):
            self._differs(_ABSENT, value)
        cls = type(model)
        declared = cls.__pydantic_fields__
        fields = {key: value for key, value in model.__dict__.items() if key in declared}
        wrong = declared.keys() - fields.keys()
        try:
            schemas.held(cls).validate_python(fields, strict=True)
        except ValidationError as error:
            found = error.errors(include_input=False, include_url=False, include_context=False)
            wrong |= {str(each["loc"][0]) for each in found}
        _validate(model, wrong)
        _validate_extra(model, (model.__pydantic_extra__ or {}).keys())

    def _check_changes(self, model: BaseModel, before: BaseModel, touched: set[str]) -> None:
        declared = type(model).__pydantic_fields__
        old, new = before.__dict__, model.__dict__
        fields = {key for key in declared if self._differs(old.get(key, _ABSENT), new.get(key, _ABSENT))}
        old, new = before.__pydantic_extra__ or {}, model.__pydantic_extra__ or {}
        dynamic = {key for key in {**old, **new} if self._differs(old.get(key, _ABSENT), new.get(key, _ABSENT))}
        old, new = before.__pydantic_private__ or {}, model.__pydantic_private__ or {}
        private = {key for key in {**old, **new} if self._differs(old.get(key, _ABSENT), new.get(key, _ABSENT))}
        if fields or dynamic:
            _validate(model, fields)
            _validate_extra(model, dynamic)
        touched |= fields | dynamic | private

    def _differs(self, old: Any, new: Any) -> bool:
        """Return whether a value differs from what it was, having validated the models inside it."""
        if isinstance(new, BaseModel):
            return self.model(new) or self._before.get(id(new)) is not old
        if type(new) is dict:
            paired = type(old) is dict
            differs = not paired or not same(list(old), list(new))
            for key, item in new.items():
                differs = self._differs(old.get(key, _ABSENT) if paired else _ABSENT, item) or differs
            return differs
        if type(new) is list or type(new) is tuple:
            paired = type(old) is type(new) and len(old) == len(new)
            differs = not paired
            for at, item in enumerate(new):
                differs = self._differs(old[at] if paired else _ABSENT, item) or differs
            return differs
        return not same(old, new)


def _validate(model: BaseModel, keys: set[str]) -> None:
    """Run the validators of some fields, then those of the whole model."""
    cls = type(model)
    if keys:
        present = model.__dict__.keys() & cls.__pydantic_fields__.keys()
        taken = frozenset(present - keys)
        values = {key: model.__dict__[key] for key in present}
        fields, _, _ = schemas.partial(cls, frozenset(keys), taken).validate_python(values, by_name=True)
        model.__dict__.update(fields)
    rules = schemas.after(cls)
    if rules is not None:
        rules.validate_python(model)


def _validate_extra(model: BaseModel, keys: Any) -> None:
    validator = schemas.extra(type(model))
    if validator is not None and model.__pydantic_extra__:
        present = {key: model.__pydantic_extra__[key] for key in keys if key in model.__pydantic_extra__}
        model.__pydantic_extra__.update(validator.validate_python(present))
