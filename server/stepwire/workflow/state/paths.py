"""Dotted paths into state: dict keys, list indexes and fields of models (semantics.md#s18).

Clients send paths, so a path must not reach anything but data. This module reads dicts, lists and the instance dicts of
models directly. It never uses `getattr` or `[]`, so a path cannot call a method, a property or `__getitem__` of an
author's class.
"""

from __future__ import annotations

import copy
import re
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from pydantic import BaseModel, ValidationError
from pydantic_core import InitErrorDetails

from stepwire.workflow.errors import StateNotFoundError, StatePathError
from stepwire.workflow.wire_names import field_name, misspelled
from stepwire.workflow.wire_schemas import wire_assigner

__all__ = ["MAX_SEGMENTS", "Edit", "get_in", "parse", "set_in", "top_key", "unset_in"]

MAX_SEGMENTS = 64
_INDEX = re.compile(r"(?:0|[1-9][0-9]*)\Z")
_GONE: Any = object()


def parse(path: str) -> list[str]:
    """Split `path` into its segments.

    Raises:
        StatePathError: A segment is empty or begins with `_`, or there are too many.
    """
    if type(path) is not str:
        raise StatePathError(f"a state path is text, not {type(path).__name__}")
    segments = path.split(".", MAX_SEGMENTS)
    if len(segments) > MAX_SEGMENTS:
        raise _bad(path, f"more than {MAX_SEGMENTS} segments")
    for segment in segments:
        if not segment:
            raise _bad(path, "an empty segment")
        if segment[0] == "_":
            raise _bad(path, "a segment that begins with '_'")
    return segments


def get_in(root: Any, path: str) -> Any:
    """Return the live value at `path`.

    Raises:
        StatePathError: The path is malformed.
        StateNotFoundError: Nothing is there.
    """
    node = root
    for segment in parse(path):
        node = _child(node, segment)
        if node is _GONE:
            raise _absent(path)
    return node


def set_in(root: Any, path: str, value: Any) -> None:
    """Put `value` at `path` in place, creating missing dicts on the way.

    Raises:
        StatePathError: The path is malformed or leads nowhere; nothing changed.
        pydantic.ValidationError: A model on the way refuses the value; nothing changed.
    """
    edit = Edit(root)
    edit.set(path, value)
    edit.commit()


def unset_in(root: Any, path: str) -> None:
    """Remove what is at `path` in place: a key, a list item, a dynamic field. A declared field gets its default.

    Raises:
        StatePathError: The path is malformed, or a declared field has no default; nothing changed.
        StateNotFoundError: Nothing is there; nothing changed.
    """
    edit = Edit(root)
    edit.unset(path)
    edit.commit()


def top_key(root: Any, segment: str) -> str:
    """Return the name of the top-level value that the first segment of a path means."""
    return (field_name(type(root), segment) if isinstance(root, BaseModel) else None) or segment


class Edit:
    """Collect changes of one root, then apply all of them at once.

    Until `commit`, only copies of the containers on the paths change. Models are validated as by pydantic's
    `validate_assignment`, from the innermost to the root. `commit` puts the contents back into the original containers,
    so references to those stay valid. Do not use an edit after it has raised.
    """

    def __init__(self, root: Any) -> None:
        self._root = root
        self._draft = root
        # By id of the copy. A copy is private to this edit and may be changed in place.
        self._copies: dict[int, _Copy] = {}
        self._keys: set[str] = set()

    def set(self, path: str, value: Any) -> None:
        """Put `value` at `path` in the draft."""
        self._apply(path, value)

    def unset(self, path: str) -> None:
        """Remove what is at `path` from the draft."""
        self._apply(path, _GONE)

    def changed(self) -> dict[str, Any]:
        """Return the new values of the top-level keys that were touched, without those that were removed."""
        private = (self._draft.__pydantic_private__ or {}) if isinstance(self._draft, BaseModel) else {}
        found = {key: private[key] if key in private else _child(self._draft, key) for key in sorted(self._keys)}
        return {key: value for key, value in found.items() if value is not _GONE}

    def keys(self) -> frozenset[str]:
        """Return the top-level keys that were touched, with those that were removed."""
        return frozenset(self._keys)

    def commit(self) -> None:
        """Make the draft the contents of the original containers; cannot fail."""
        for each in self._copies.values():
            _adopt(each, self._original)

    def _original(self, value: Any) -> Any:
        known = self._copies.get(id(value))
        return value if known is None else known.original

    def _apply(self, path: str, value: Any) -> None:
        segments = parse(path)
        before = _top(self._draft)
        self._draft = self._put(self._draft, segments, 0, value, path)
        after = _top(self._draft)
        self._keys.add(top_key(self._root, segments[0]))
        if before is not None and after is not None:  # a model's validators may touch other fields
            self._keys.update(key for key in after if after[key] is not before.get(key, _GONE))
        if isinstance(self._root, BaseModel) and self._root.__pydantic_private__ and _has_rules(type(self._root)):
            self._keys.update(self._root.__pydantic_private__)  # which they may change in place

    def _put(self, node: Any, segments: list[str], at: int, value: Any, path: str) -> Any:
        """Return `node`, or its copy, with `value` at the rest of the path."""
        segment = segments[at]
        child = _child(node, segment)
        if child is _GONE and value is _GONE:
            raise _absent(path)
        if at + 1 == len(segments):
            new = value
        elif child is _GONE:
            new = value
            for missing in reversed(segments[at + 1 :]):
                new = {missing: new}
        else:
            new = self._put(child, segments, at + 1, value, path)
        draft = self._own(node, path)
        self._write(draft, segment, new, path)
        return draft

    def _own(self, node: Any, path: str) -> Any:
        if id(node) in self._copies:
            return node
        if isinstance(node, BaseModel):
            draft: Any = _copy_model(node)
        elif type(node) is dict or type(node) is list:
            draft = node.copy()
        elif isinstance(node, dict | list):
            draft = copy.copy(node)
        else:
            raise _bad(path, f"nothing can be set inside a {type(node).__name__}")
        self._copies[id(draft)] = _Copy(draft, node)
        return draft

    def _write(self, draft: Any, segment: str, new: Any, path: str) -> None:
        if isinstance(draft, dict):
            self._touch(draft, segment)
            if new is _GONE:
                dict.__delitem__(draft, segment)
            else:
                dict.__setitem__(draft, segment, new)
        elif isinstance(draft, list):
            if not _INDEX.match(segment) or int(segment[:19]) >= len(draft):
                raise _bad(path, "a list has no such index")
            self._touch(draft, segment)
            if new is _GONE:
                list.__delitem__(draft, int(segment))
            else:
                list.__setitem__(draft, int(segment), new)
        elif (name := field_name(type(draft), segment)) is not None:
            self._write_field(draft, name, new, path)
        elif draft.__pydantic_extra__ is None:
            raise _bad(path, f"{type(draft).__name__} has no such field")
        elif new is not _GONE and misspelled(type(draft), [segment]):
            raise _bad(path, f"{type(draft).__name__} has a field that is spelled otherwise")
        elif new is _GONE and not type(draft).model_config.get("frozen"):
            self._touch(draft, segment)
            del draft.__pydantic_extra__[segment]
            draft.__pydantic_fields_set__.discard(segment)
        elif _validates_extra(type(draft)):
            self._validate(draft, segment, new)
        else:
            self._touch(draft, segment)
            draft.__pydantic_extra__[segment] = new
            draft.__pydantic_fields_set__.add(segment)

    def _touch(self, draft: Any, segment: str) -> None:
        keys = self._copies[id(draft)].keys
        if keys is not None:
            keys[segment] = None

    def _write_field(self, draft: Any, segment: str, new: Any, path: str) -> None:
        if new is not _GONE:
            self._validate(draft, segment, new)
            return
        info = type(draft).model_fields[segment]
        if info.is_required():
            raise _bad(path, f"{type(draft).__name__} requires this field")
        self._validate(draft, segment, info.get_default(call_default_factory=True))
        draft.__pydantic_fields_set__.discard(segment)

    def _validate(self, draft: BaseModel, segment: str, new: Any) -> None:
        self._copies[id(draft)].keys = None
        if type(draft).model_config.get("frozen"):  # pydantic looks at that in __setattr__ only
            raise ValidationError.from_exception_data(
                type(draft).__name__,
                [InitErrorDetails(type="frozen_instance", loc=(segment,), input=None)],
                hide_input=True,
            )
        wire_assigner(type(draft)).validate_assignment(draft, segment, new, by_alias=True, by_name=True)
        known = self._copies.get(id(new))
        stored = _child(draft, segment)
        if known is not None and stored is not new and type(stored) is type(known.original):
            # Validation made a container of its own: that one now stands for the original.
            self._copies[id(stored)] = _Copy(stored, known.original, None)
            del self._copies[id(new)]


@dataclass(slots=True)
class _Copy:
    """One container on a path; `keys` are those that differ, None when any may."""

    draft: Any
    original: Any
    keys: dict[str, None] | None = field(default_factory=dict)  # ordered, as dicts of state are


def _child(node: Any, segment: str) -> Any:
    """Return the value under `segment`, or _GONE."""
    if isinstance(node, dict):
        return dict.get(node, segment, _GONE)
    if isinstance(node, list | tuple):
        if _INDEX.match(segment) and len(segment) < 20:
            index = int(segment)
            if index < len(node):
                if isinstance(node, list):
                    return list.__getitem__(node, index)
                return tuple.__getitem__(node, index)
        return _GONE
    if isinstance(node, BaseModel):
        name = field_name(type(node), segment)
        if name is not None:
            return node.__dict__.get(name, _GONE)
        return (node.__pydantic_extra__ or {}).get(segment, _GONE)
    return _GONE


def _top(node: Any) -> dict[str, Any] | None:
    """Return the declared fields and private attributes of a model as they are now; None for anything else."""
    return {**node.__dict__, **(node.__pydantic_private__ or {})} if isinstance(node, BaseModel) else None


def _has_rules(cls: type[BaseModel]) -> bool:
    """Return whether a model has validators that see the whole of it."""
    return bool(cls.__pydantic_decorators__.model_validators)


def _copy_model(model: BaseModel) -> BaseModel:
    """Return a shallow copy, `__copy__` of the author's class not asked."""
    draft = type(model).__new__(type(model))
    extra, private = model.__pydantic_extra__, model.__pydantic_private__
    object.__setattr__(draft, "__dict__", dict(model.__dict__))
    object.__setattr__(draft, "__pydantic_fields_set__", set(model.__pydantic_fields_set__))
    object.__setattr__(draft, "__pydantic_extra__", None if extra is None else dict(extra))
    object.__setattr__(draft, "__pydantic_private__", None if private is None else dict(private))
    return draft


def _validates_extra(cls: type[BaseModel]) -> bool:
    """Return whether dynamic fields of `cls` are validated."""
    return bool(
        cls.model_config.get("frozen")
        or _has_rules(cls)
        or any(
            "__pydantic_extra__" in vars(base).get("__annotations__", ())
            for base in cls.__mro__[: cls.__mro__.index(BaseModel)]
        )
    )


def _adopt(copied: _Copy, back: Callable[[Any], Any]) -> None:
    """Give the original the contents of its copy; `back` finds the original of a copy."""
    original, draft, keys = copied.original, copied.draft, copied.keys
    if isinstance(original, dict):
        _adopt_dict(original, draft, keys, back)
    elif isinstance(original, list):
        if keys is None or len(original) != len(draft):
            original[:] = [back(item) for item in draft]
        else:
            for index in map(int, keys):
                original[index] = back(draft[index])
    else:
        fields = {key: back(value) for key, value in draft.__dict__.items()}
        object.__setattr__(original, "__dict__", fields)
        object.__setattr__(original, "__pydantic_fields_set__", draft.__pydantic_fields_set__)
        object.__setattr__(original, "__pydantic_private__", draft.__pydantic_private__)
        if original.__pydantic_extra__ is not None:
            _adopt_dict(original.__pydantic_extra__, draft.__pydantic_extra__, keys, back)


def _adopt_dict(
    original: dict[str, Any],
    draft: dict[str, Any],
    keys: dict[str, None] | None,
    back: Callable[[Any], Any],
) -> None:
    # Key by key, so that a thread that iterates never finds the dict empty.
    for key in [*original, *draft] if keys is None else keys:
        value = dict.get(draft, key, _GONE)
        if value is _GONE:
            dict.pop(original, key, None)
        else:
            dict.__setitem__(original, key, back(value))


def _bad(path: str, reason: str) -> StatePathError:
    return StatePathError(f"bad state path {_shown(path)}: {reason}", path=path)


def _absent(path: str) -> StateNotFoundError:
    return StateNotFoundError(f"nothing is at state path {_shown(path)}", path=path)


def _shown(path: str) -> str:
    return repr(path if len(path) <= 200 else path[:200] + "…")
