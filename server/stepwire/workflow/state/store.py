"""The store of a run: its state behind dotted paths, transactions and hooks for durability."""

from __future__ import annotations

import asyncio
from collections.abc import Collection, Mapping, Sequence
from functools import cached_property
from typing import Any, Generic, TypeVar

from pydantic import BaseModel

from stepwire.workflow.errors import StateNotFoundError, WorkflowRuntimeError
from stepwire.workflow.state.checking import check_new
from stepwire.workflow.state.copying import copy_state, is_mutable, saved_values_of, values_of
from stepwire.workflow.state.dict_form import UnserializableKeyWarning, state_from_dict, state_to_dict
from stepwire.workflow.state.dict_state import DictState
from stepwire.workflow.state.edits import Draft, EditState, in_edit_state
from stepwire.workflow.state.hooks import StateHooks, StateNotes
from stepwire.workflow.state.paths import Edit, get_in, parse, top_key
from stepwire.workflow.state.saved_state import own_fields, state_of_values
from stepwire.workflow.state.serializers import BaseSerializer

__all__ = ["DictState", "InMemoryStateStore", "UnserializableKeyWarning", "in_edit_state"]

S = TypeVar("S", bound=BaseModel)

_Keys = set[str]  # inside the class `set` is the method

_UNSET: Any = object()


class InMemoryStateStore(Generic[S]):
    """Hold the state of one run.

    `get` returns live values, `get_state` an isolated copy. Writes are atomic: they validate first, and a write that
    fails changes nothing. Coroutines that write wait while an `edit_state()` of another task is open.

    Attributes:
        state_type: The class of the state.
        version: How many changes were made, from 0.
        locked: Whether an `edit_state()` is open.
        made: Whether there is a state: an empty one is made when it is first used.
        hooks: Lets the run refuse changes, and tells it of them; None if the store belongs to no run.
        notes: Is told what is about to change, so that the run can put it back; None as well.
        watched: The keys whose readers `notes` wants to know; None for none.
    """

    known_unserializable_keys: tuple[str, ...] = ("memory",)

    # A short run pays for each attribute that is set.
    version = 0
    locked = False
    made = False
    _lock: asyncio.Lock | None = None
    hooks: StateHooks | None = None
    notes: StateNotes | None = None
    watched: _Keys | None = None
    """The keys whose readers are to be told; None for none, as most often."""
    _root_keys: _Keys | None = None
    """The keys of the state when it was last looked at; None unless `get("")` has handed out the live state."""

    def __init__(self, initial_state: S) -> None:
        self.state_type: type[S] = type(initial_state)
        self._state = initial_state
        self.made = True

    @classmethod
    def empty(cls) -> InMemoryStateStore[DictState]:
        """Return a store of an empty DictState. The state is made when it is first used: many runs never use it."""
        store: InMemoryStateStore[DictState] = InMemoryStateStore.__new__(InMemoryStateStore)
        store.state_type = DictState
        return store

    @cached_property
    def _state(self) -> S:
        self.made = True
        return self.state_type()

    @property
    def lock(self) -> asyncio.Lock:
        """Return the lock that a writer holds."""
        if self._lock is None:
            self._lock = asyncio.Lock()
        return self._lock

    # --- for steps ----------------------------------------------------------------------------

    async def get_state(self) -> S:
        """Return a deep copy of the state."""
        self._reading()
        if self.watched is not None:
            self._see(self.watched)
        return copy_state(self._state)

    async def set_state(self, state: S) -> None:
        """Make a copy of `state` the state.

        Raises:
            ValueError: It is of another type than the state.
            pydantic.ValidationError: A value does not fit its field.
        """
        async with self._writing():
            self.replace(state)

    async def get(self, path: str, default: Any = _UNSET) -> Any:
        """Return the live value at `path`; the path `""` is the whole state.

        Args:
            path: A dotted path.
            default: What to return if nothing is there.

        Raises:
            StatePathError: The path is malformed.
            StateNotFoundError: Nothing is there, and no default was given.
        """
        self._reading()
        return self.peek(path, default)

    async def set(self, path: str, value: Any) -> None:
        """Put `value` at `path`, creating missing dicts on the way.

        Raises:
            StatePathError: The path is malformed or leads nowhere.
            pydantic.ValidationError: A typed state refuses the value.
        """
        async with self._writing():
            self.apply([(path, value)])

    async def clear(self) -> None:
        """Set every field to its default, and remove dynamic fields.

        Raises:
            ValueError: A field of the state has no default.
        """
        async with self._writing():
            self.reset()

    def edit_state(self) -> EditState[S]:
        """Open a transaction: `async with store.edit_state() as state`.

        `state` is a deep copy. At exit, what changed in it is validated and swapped in at once. An exception, from the
        body or from validation, leaves the state as it was.
        """
        return EditState(self)

    def _reading(self) -> None:
        if self.hooks is not None:
            self.hooks.reading(self)

    def _writing(self) -> asyncio.Lock:
        if in_edit_state(self):
            raise WorkflowRuntimeError(
                "the store cannot be written inside its own edit_state(): change the state it gives"
            )
        return self.lock

    # --- for the broker -----------------------------------------------------------------------

    @property
    def whole(self) -> S:
        """Return the live state; nobody is told that it is lent."""
        return self._state

    def peek(self, path: str, default: Any = _UNSET) -> Any:
        """Return the live value at `path`; contract of `get`."""
        if self.watched is not None:
            key = top_key(self._state, path.partition(".")[0])
            if not key or key in self.watched:
                self._see({key} if key else self.watched)
        if path == "":
            # The holder may rebind any of its keys, so all of them count as lent.
            keys = saved_values_of(self._state)
            self._root_keys = set(keys)
            for key in keys:
                self._lend(key)
            return self._state
        try:
            value = get_in(self._state, path)
        except StateNotFoundError:
            if default is _UNSET:
                raise
            return default
        if is_mutable(value):
            self._lend(top_key(self._state, parse(path)[0]))
        return value

    def apply(self, sets: Sequence[tuple[str, Any]], unsets: Sequence[str] = ()) -> None:
        """Set paths, then remove paths, in order: all or nothing.

        Raises:
            StatePathError: A path is malformed or leads nowhere.
            StateNotFoundError: Nothing is at a path that is to be removed.
            pydantic.ValidationError: A typed state refuses a value.
            Exception: What the hooks raise to refuse the change.
        """
        edit = Edit(self._state)
        for path, value in sets:
            edit.set(path, value)
        for path in unsets:
            edit.unset(path)
        keys = set(edit.keys())
        if not keys:
            return
        values = edit.changed()
        if self.notes is not None:
            held = values_of(self._state)
            same = [key for key, value in sets if key in keys and held.get(key) is value]
            self.notes.setting(self, values, keys, same)
        self._check(values)
        edit.commit()
        self._changed(keys)
        for path, value in sets:
            if is_mutable(value):
                self._lend(top_key(self._state, parse(path)[0]))  # the caller still holds it

    def replace(self, state: S, *, owned: bool = False) -> None:
        """Make a copy of `state` the state; contract of `set_state`.

        With `owned`, take `state` itself: it was just validated, and the caller keeps no reference to it.
        """
        if type(state) is not self.state_type:
            raise ValueError(f"the state is a {self.state_type.__name__}, not a {type(state).__name__}")
        if not owned:
            state = copy_state(state)
            check_new(state)
        self._swap(state)

    def reset(self) -> None:
        """Set every field to its default; contract of `clear`."""
        required = [name for name, field in self.state_type.model_fields.items() if field.is_required()]
        if required:
            raise ValueError(f"{self.state_type.__name__} cannot be cleared: no default for {', '.join(required)}")
        self._swap(self.state_type())

    def values(self) -> dict[str, Any]:
        """Return the live top-level values: declared fields, then dynamic ones.

        Also tell the hooks of keys that were added or removed through the live state that `get("")` returned.
        """
        if not self.made:
            return {}
        values = values_of(self._state)
        self.look_at_keys()
        return values

    def look_at_keys(self) -> None:
        """Tell the hooks of keys that were added or removed through the live state that `get("")` returned."""
        if self._root_keys is not None:
            keys = saved_values_of(self._state).keys()
            if self._root_keys != keys:
                self._changed(self._root_keys ^ keys)

    def saved(self) -> dict[str, Any]:
        """Return what has to be saved: the values, and after them the private attributes of a typed state."""
        values = self.values()
        if self.made and self._state.__pydantic_private__:
            values.update(self._state.__pydantic_private__)
        return values

    def value_of(self, key: str) -> Any:
        """Return a live top-level value or private attribute; KeyError if there is none."""
        state = self._state
        if key in state.__dict__:
            return state.__dict__[key]
        if state.__pydantic_private__ and key in state.__pydantic_private__:
            return state.__pydantic_private__[key]
        return (state.__pydantic_extra__ or {})[key]

    def own_json(self, keys: Collection[str], new: Mapping[str, Any] | None = None) -> dict[str, Any]:
        """Return the JSON that the state's class writes for some fields, unless it reads it back otherwise.

        Args:
            keys: The names of the fields.
            new: Values that are about to replace those of the state.
        """
        return own_fields(self._state, keys, new)

    def load_values(self, values: dict[str, Any], *, own: Mapping[str, Any] | None = None, validate: bool) -> None:
        """Make what was saved the state; calls no hook.

        Args:
            values: The values and private attributes, as `saved()` returned them.
            own: Fields in the JSON of the state's class, as `own_json` returned them.
            validate: The class may have changed since; see `stepwire.workflow.codec.models.load`.

        Raises:
            SnapshotError: The values do not fit the class; the error names the fields.
        """
        self.adopt(state_of_values(self.state_type, values, own, validate=validate))

    def put_back(self, values: dict[str, Any], own: Mapping[str, Any]) -> None:
        """Make values what they were before a delivery changed them; the others stay. Calls no hook.

        Args:
            values: The values.
            own: Fields in the JSON of the state's class, as `own_json` returned them.
        """
        merged = {**self.saved(), **values}
        for key in own:
            merged.pop(key, None)
        self.load_values(merged, own=own, validate=False)

    def take_over(self, other: InMemoryStateStore[Any]) -> None:
        """Make the state of a store that was restored the state; calls no hook.

        Raises:
            SnapshotError: It is of another class, and its values do not fit this one.
        """
        if other.state_type is self.state_type:
            self.adopt(other._state)
        else:
            self.load_values(other.saved(), validate=True)

    def adopt(self, state: S) -> None:
        """Make a state that was restored the state as it is; calls no hook."""
        self._state, self._root_keys, self.made = state, None, True
        self.version += 1

    # --- for edit_state() ---------------------------------------------------------------------

    def draft(self) -> Draft[S]:
        """Return a copy of the state to change. Raises what the hooks raise to refuse a read."""
        self._reading()
        if self.watched is not None:
            self._see(self.watched)
        return Draft(self._state)

    def merge(self, draft: Draft[S]) -> None:
        """Validate what changed in a draft, and take it over.

        Raises:
            pydantic.ValidationError: A value does not fit; nothing changed.
        """
        keys = draft.check()
        edited = draft.state
        new, live = saved_values_of(edited), saved_values_of(self._state)
        values = {key: value for key, value in new.items() if key in keys}
        if self.notes is not None and keys:
            self.notes.setting(self, values, keys, ())
        self._check(values)
        draft.keep_unchanged(live, keys)
        self._state, self._root_keys, self.made = edited, None, True
        if keys:
            self._changed(keys)

    def _swap(self, state: S) -> None:
        old, new = saved_values_of(self._state), saved_values_of(state)
        if self.notes is not None:
            self.notes.setting(self, new, old.keys() | new.keys(), ())
        self._check(new)
        self._state, self._root_keys, self.made = state, None, True
        self._changed(old.keys() | new.keys())

    def _see(self, keys: _Keys) -> None:
        if self.notes is not None and keys:
            self.notes.seen(self, list(keys))

    def _check(self, values: dict[str, Any]) -> None:
        if self.hooks is not None:
            self.hooks.check(self, values)

    def _changed(self, keys: _Keys) -> None:
        self.version += 1
        if self._root_keys is not None:
            self._root_keys = set(saved_values_of(self._state))
        if self.hooks is not None:
            self.hooks.changed(keys)

    def _lend(self, key: str) -> None:
        if self.hooks is not None:
            self.hooks.lent(key)
        if self.notes is not None:
            self.notes.lent(self, key)

    # --- serialization ------------------------------------------------------------------------

    def to_dict(self, serializer: BaseSerializer) -> dict[str, Any]:
        """Return the state in the form of 1.x; `known_unserializable_keys` may be left out, with a warning.

        Raises:
            SerializationError: Other values cannot be serialized; the error names every such key.
        """
        return state_to_dict(self._state, serializer, self.known_unserializable_keys)

    @classmethod
    def from_dict(cls, data: dict[str, Any], serializer: BaseSerializer) -> InMemoryStateStore[Any]:
        """Build a store from what `to_dict` returned.

        Raises:
            ContextSerdeError: The dict is not in that form, or a value cannot be read.
        """
        return InMemoryStateStore(state_from_dict(data, serializer))
