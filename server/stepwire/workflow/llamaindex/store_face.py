"""The state store of a run as a store of LlamaIndex 2.x: an object of their class that asks ours."""

from __future__ import annotations

from contextlib import AbstractAsyncContextManager
from typing import Any

from stepwire.workflow.errors import StateNotFoundError
from stepwire.workflow.llamaindex import installed
from stepwire.workflow.state.dict_state import DictState
from stepwire.workflow.state.store import InMemoryStateStore, in_edit_state

__all__ = ["StoreFace"]

_UNSET: Any = ...


class StoreFace(installed.stores.InMemoryStateStore):  # type: ignore[misc]
    """Read and write the state of a run.

    Args:
        store: The store of the run.
    """

    def __init__(self, store: InMemoryStateStore[Any]) -> None:
        self._own = store

    @property
    def state_type(self) -> type:
        """Return the class of the state."""
        own = self._own.state_type
        return installed.stores.DictState if own is DictState else own

    @property
    def lock(self) -> Any:
        """Return the lock that a writer holds."""
        return self._own.lock

    async def get_state(self) -> Any:
        """Return a copy of the state."""
        state = await self._own.get_state()
        if type(state) is not DictState:
            return state
        made = installed.stores.DictState()
        made._data.update(state.items())
        return made

    async def set_state(self, state: Any) -> None:
        """Replace the state; one of a parent type of it replaces the fields that it has."""
        self._refuse_in_edit()
        kind = self._own.state_type
        if isinstance(state, installed.stores.DictState) and kind is DictState:
            state = DictState(_data=dict(state.items()))
        elif not isinstance(state, kind) and issubclass(kind, type(state)):
            before = await self._own.get_state()
            state = kind.model_validate({**before.model_dump(), **state.model_dump()})
        await self._own.set_state(state)

    async def get(self, path: str, default: Any = _UNSET) -> Any:
        """Return the live value at a path."""
        if default is not _UNSET:
            return await self._own.get(path, default)
        try:
            return await self._own.get(path)
        except StateNotFoundError as error:
            raise ValueError(f"Path '{path}' not found in state") from error

    async def set(self, path: str, value: Any) -> None:
        """Put a value at a path."""
        self._refuse_in_edit()
        await self._own.set(path, value)

    async def clear(self) -> None:
        """Set every field to its default."""
        self._refuse_in_edit()
        await self._own.clear()

    def edit_state(self) -> AbstractAsyncContextManager[Any]:
        """Open a transaction."""
        self._refuse_in_edit()
        return self._own.edit_state()

    def _refuse_in_edit(self) -> None:
        if in_edit_state(self._own):
            raise RuntimeError("the store cannot be written inside its own edit_state(): change the state it gives")

    def to_dict(self, serializer: Any) -> dict[str, Any]:
        """Return the state as their payload."""
        state: Any = self._own.whole
        if isinstance(state, DictState):
            state = installed.stores.DictState(**state.to_dict())
        payload: dict[str, Any] = installed.stores.InMemoryStateStore(state).to_dict(serializer)
        return payload
