"""The store of a run: its state behind dotted paths, transactions and hooks for durability."""

from __future__ import annotations

import asyncio
import warnings
from collections.abc import Mapping, Sequence
from contextvars import ContextVar
from functools import cached_property
from types import TracebackType
from typing import Any, Generic, TypeVar

from pydantic import BaseModel

from stepwire.workflow.codec.model_json import UNSAVED, own_json
from stepwire.workflow.codec.models import load
from stepwire.workflow.errors import (
    ContextSerdeError,
    SerializationError,
    SnapshotError,
    StateNotFoundError,
    WorkflowRuntimeError,
)
from stepwire.workflow.state.copying import (
    copy_state,
    is_mutable,
    same,
    validated,
    values_of,
)
from stepwire.workflow.state.dict_state import DictState
from stepwire.workflow.state.hooks import StateHooks
from stepwire.workflow.state.paths import Edit, get_in, parse
from stepwire.workflow.state.serializers import BaseSerializer

__all__ = ["DictState", "InMemoryStateStore", "UnserializableKeyWarning", "in_edit_state"]

S = TypeVar("S", bound=BaseModel)

_Keys = set[str]  # inside the class `set` is the method

_UNSET: Any = object()

# The edits that are open around the code that runs, each with the task that opened it: tasks
# started inside an edit inherit the variable but not the edit.
_edits: ContextVar[tuple[tuple[object, asyncio.Task[Any] | None], ...]] = ContextVar("stepwire_edits", default=())


class UnserializableKeyWarning(UserWarning):
    """Tell that a key known not to be serializable was left out of `to_dict`."""


def in_edit_state(store: object = None) -> bool:
    """Say whether the current task is inside an `edit_state()`, of `store` when given."""
    edits = _edits.get()
    if not edits:
        return False
    task = _current_task()
    return any(owner is task and (store is None or edited is store) for edited, owner in edits)


def _current_task() -> asyncio.Task[Any] | None:
    try:
        return asyncio.current_task()
    except RuntimeError:
        return None


class InMemoryStateStore(Generic[S]):
    """Hold the state of one run.

    `get` hands out live values; `get_state` an isolated copy. Writes are atomic: they validate
    first, and a write that fails changes nothing. Coroutines that write wait while an
    `edit_state()` of another task is open.

    `hooks` is the say of the run whose state it is; None: there is none.
    """

    known_unserializable_keys: tuple[str, ...] = ("memory",)

    def __init__(self, initial_state: S) -> None:
        self.state_type: type[S] = type(initial_state)
        self._state = initial_state
        self._prepare()

    @classmethod
    def empty(cls) -> InMemoryStateStore[DictState]:
        """Return a store of an empty DictState, which is made at the first need: short runs have none."""
        store: InMemoryStateStore[DictState] = InMemoryStateStore.__new__(InMemoryStateStore)
        store.state_type = DictState
        store._prepare()
        return store

    def _prepare(self) -> None:
        self.version = 0
        """Count of the changes made, from 0."""
        self.locked = False
        """Whether an `edit_state()` is open."""
        self._lock: asyncio.Lock | None = None
        self.hooks: StateHooks | None = None
        # The keys when the live root was last seen, while someone may hold it.
        self._root_keys: _Keys | None = None

    @cached_property
    def _state(self) -> S:
        return self.state_type()

    @property
    def lock(self) -> asyncio.Lock:
        """Return what a writer holds: one at a time."""
        if self._lock is None:
            self._lock = asyncio.Lock()
        return self._lock

    # --- for steps ----------------------------------------------------------------------------

    async def get_state(self) -> S:
        """Return a deep copy of the state."""
        return copy_state(self._state)

    async def set_state(self, state: S) -> None:
        """Replace the state; ValueError for another type, pydantic's ValidationError."""
        async with self._writing():
            self.replace(state)

    async def get(self, path: str, default: Any = _UNSET) -> Any:
        """Return the live value at `path`, `""` being the whole state.

        Without a `default` StateNotFoundError when nothing is there.
        """
        return self.peek(path, default)

    async def set(self, path: str, value: Any) -> None:
        """Put `value` at `path`, creating missing dicts on the way.

        StatePathError for a bad path, pydantic's ValidationError from a typed state.
        """
        async with self._writing():
            self.apply([(path, value)])

    async def clear(self) -> None:
        """Start anew with the defaults; ValueError when the state has fields without one."""
        async with self._writing():
            self.reset()

    def edit_state(self) -> EditState[S]:
        """Open a transaction: `async with store.edit_state() as state`.

        `state` is a deep copy. At exit it is validated and swapped in at once; an exception, from
        the body or from validation, leaves the state as it was.
        """
        return EditState(self)

    def _writing(self) -> asyncio.Lock:
        if in_edit_state(self):
            raise WorkflowRuntimeError(
                "the store cannot be written inside its own edit_state(): change the state it gives"
            )
        return self.lock

    # --- for the broker -----------------------------------------------------------------------

    def peek(self, path: str, default: Any = _UNSET) -> Any:
        """Return the live value at `path`; contract of `get`."""
        if path == "":
            # The holder may rebind any of its keys, so all of them count as lent.
            values = self.values()
            self._root_keys = set(values)
            for key in values:
                self._lend(key)
            return self._state
        try:
            value = get_in(self._state, path)
        except StateNotFoundError:
            if default is _UNSET:
                raise
            return default
        if is_mutable(value):
            self._lend(parse(path)[0])
        return value

    def apply(self, sets: Sequence[tuple[str, Any]], unsets: Sequence[str] = ()) -> None:
        """Set and unset paths in order, all or nothing.

        StatePathError, StateNotFoundError for an `unsets` where nothing is, pydantic's
        ValidationError, or what the hooks raise; then nothing changed.
        """
        edit = Edit(self._state)
        for path, value in sets:
            edit.set(path, value)
        for path in unsets:
            edit.unset(path)
        keys = set(edit.keys())
        if not keys:
            return
        self._check(edit.changed())
        edit.commit()
        self._changed(keys)
        for path, value in sets:
            if is_mutable(value):
                self._lend(parse(path)[0])  # the caller still holds it

    def replace(self, state: S) -> None:
        """Make a copy of `state` the state; ValueError for another type, ValidationError."""
        if type(state) is not self.state_type:
            raise ValueError(f"the state is a {self.state_type.__name__}, not a {type(state).__name__}")
        self._swap(copy_state(state), validate=True)

    def reset(self) -> None:
        """Start anew at once; contract of `clear`."""
        required = [name for name, field in self.state_type.model_fields.items() if field.is_required()]
        if required:
            raise ValueError(f"{self.state_type.__name__} cannot be cleared: no default for {', '.join(required)}")
        self._swap(self.state_type(), validate=False)

    def values(self) -> dict[str, Any]:
        """Return the live top-level values: declared fields, then dynamic ones.

        Tells the hooks of keys that a holder of the live root has added or removed.
        """
        if "_state" not in self.__dict__:
            return {}
        values = values_of(self._state)
        if self._root_keys is not None and self._root_keys != values.keys():
            self._changed(self._root_keys ^ values.keys())
        return values

    def own_json(self, key: str, new: Mapping[str, Any] | None = None) -> Any:
        """Return the JSON that the state's class has for a declared field, also of `new` values; else UNSAVED."""
        declared = self.state_type.model_fields
        if key not in declared:
            return UNSAVED
        values = {**values_of(self._state), **(new or {})}
        return own_json(self.state_type, {name: value for name, value in values.items() if name in declared}, key)

    def load_values(self, values: dict[str, Any], *, validate: bool) -> None:
        """Make `values`, as `values()` gave them, the state; calls no hook.

        Without `validate` they are taken as they are when they fit the declared fields.
        SnapshotError naming the fields that do not validate.
        """
        self._state, self._root_keys = load(self.state_type, values, validate=validate), None
        self.version += 1

    def _swap(self, state: S, *, validate: bool) -> None:
        old = values_of(self._state)
        if validate:
            state = validated(state)
        new = values_of(state)
        self._check(new)
        self._state, self._root_keys = state, None
        self._changed(old.keys() | new.keys())

    def _merge(self, base: dict[str, Any], edited: S) -> None:
        """Take over what `edited` changed of `base`, the values at the opening of the edit."""
        edited = validated(edited, _differing(base, values_of(edited)))
        new, live = values_of(edited), values_of(self._state)
        keys = _differing(base, new)
        self._check({key: value for key, value in new.items() if key in keys})
        # What did not change stays the object it was, so that references handed out stay live.
        fields, extra = edited.__dict__, edited.__pydantic_extra__
        for key in new.keys() - keys:
            if key in fields:
                fields[key] = live[key]
            elif extra is not None and key not in live:
                del extra[key]
        for key in live.keys() - keys - fields.keys():
            if extra is not None:
                extra[key] = live[key]
        self._state, self._root_keys = edited, None
        if keys:
            self._changed(keys)

    def _check(self, values: dict[str, Any]) -> None:
        if self.hooks is not None:
            self.hooks.check(self, values)

    def _changed(self, keys: _Keys) -> None:
        self.version += 1
        if self._root_keys is not None:
            self._root_keys = set(values_of(self._state))
        if self.hooks is not None:
            self.hooks.changed(keys)

    def _lend(self, key: str) -> None:
        if self.hooks is not None:
            self.hooks.lent(key)

    # --- serialization ------------------------------------------------------------------------

    def to_dict(self, serializer: BaseSerializer) -> dict[str, Any]:
        """Return the state in the form of 1.x.

        SerializationError naming every key that cannot be serialized; of those,
        `known_unserializable_keys` are left out with UnserializableKeyWarning.
        """
        state_data: Any
        if self.state_type is DictState:
            state_data = {"_data": self._serialize_keys(serializer)}
        else:
            state_data = serializer.serialize(self._state)
        return {
            "state_data": state_data,
            "state_type": self.state_type.__name__,
            "state_module": self.state_type.__module__,
        }

    def _serialize_keys(self, serializer: BaseSerializer) -> dict[str, str]:
        data: dict[str, str] = {}
        failed: list[tuple[str, str]] = []
        for key, value in self.values().items():
            try:
                data[key] = serializer.serialize(value)
            except Exception as error:  # noqa: BLE001 - a serializer may be the author's own
                if key in self.known_unserializable_keys:
                    warnings.warn(
                        f"state key {key!r} is not serializable and was left out",
                        UnserializableKeyWarning,
                        stacklevel=4,
                    )
                    continue
                told = str(error) if isinstance(error, SerializationError) else ""
                failed.append((key, f"state key {key!r}: {told or type(error).__name__}"))
        if failed:
            raise SerializationError("; ".join(told for _, told in failed), keys=tuple(key for key, _ in failed))
        return data

    @classmethod
    def from_dict(cls, data: dict[str, Any], serializer: BaseSerializer) -> InMemoryStateStore[Any]:
        """Build a store from what `to_dict` returned; ContextSerdeError when it is not that."""
        if not data:
            return InMemoryStateStore(DictState())
        try:
            state_data = data["state_data"]
            state_type = data.get("state_type", "DictState")
            if state_type == "DictState" and isinstance(state_data, dict):
                values = {
                    str(key): _deserialized(key, text, serializer) for key, text in state_data.get("_data", {}).items()
                }
                return InMemoryStateStore(DictState(_data=values))
            state = serializer.deserialize(state_data)
        except (KeyError, TypeError, AttributeError, ValueError) as error:
            raise ContextSerdeError(f"malformed state: {type(error).__name__}") from error
        if not isinstance(state, BaseModel):
            raise ContextSerdeError(f"the state is no model but a {type(state).__name__}")
        return InMemoryStateStore(state)


def _deserialized(key: object, text: str, serializer: BaseSerializer) -> Any:
    try:
        return serializer.deserialize(text)
    except SnapshotError as error:
        error.args = (f"state key {key!r}: {error}",)
        raise


def _differing(old: dict[str, Any], new: dict[str, Any]) -> set[str]:
    return {key for key in old.keys() | new.keys() if not same(old.get(key, _UNSET), new.get(key, _UNSET))}


class EditState(Generic[S]):
    """The transaction that `InMemoryStateStore.edit_state` opens."""

    def __init__(self, store: InMemoryStateStore[S]) -> None:
        self._store = store
        self._base: dict[str, Any] = {}
        self._state: S | None = None

    async def __aenter__(self) -> S:
        """Wait for other edits to end, then return the copy to change."""
        store = self._store
        if in_edit_state(store):
            raise WorkflowRuntimeError("edit_state() cannot be opened inside itself")
        if self._state is not None:
            raise WorkflowRuntimeError("an edit_state() can be entered only once")
        await store.lock.acquire()
        try:
            live = store._state
            self._state = copy_state(live)
            # A second copy: what others do in place meanwhile is not this edit's change.
            self._base = values_of(copy_state(live))
        except BaseException:
            store.lock.release()
            raise
        store.locked = True
        _edits.set((*_edits.get(), (store, _current_task())))
        return self._state

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        """Swap the copy in, or drop it after an exception."""
        store, state = self._store, self._state
        _edits.set(tuple(edit for edit in _edits.get() if edit[0] is not store))
        store.locked = False
        try:
            if kind is None and state is not None:
                store._merge(self._base, state)
        finally:
            store.lock.release()
