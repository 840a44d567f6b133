"""The transaction that `store.edit_state()` opens."""

from __future__ import annotations

import asyncio
from contextvars import ContextVar
from types import TracebackType
from typing import Any, Generic, Protocol, TypeVar

from pydantic import BaseModel

from stepwire.workflow.errors import WorkflowRuntimeError
from stepwire.workflow.state.checking import check_changes
from stepwire.workflow.state.copying import copy_state, saved_values_of

__all__ = ["Draft", "EditState", "in_edit_state"]

S = TypeVar("S", bound=BaseModel)

# The edits that are open around the code that runs, each with the task that opened it: tasks
# started inside an edit inherit the variable but not the edit.
_edits: ContextVar[tuple[tuple[object, asyncio.Task[Any] | None], ...]] = ContextVar("stepwire_edits", default=())


def in_edit_state(store: object = None) -> bool:
    """Return whether the current task is inside an `edit_state()`, of `store` if one is given."""
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


class Draft(Generic[S]):
    """A copy of a state to change, and what it was: what others change in place meanwhile is no change of the draft."""

    __slots__ = ("_before", "_kept", "base", "state")

    def __init__(self, live: S) -> None:
        copies: dict[int, Any] = {}
        bases: dict[int, Any] = {}
        self.state: S = copy_state(live, copies)
        self.base: S = copy_state(live, bases)
        # By the id of each model in the draft; the copies are kept, so that no other object gets their ids.
        self._kept = copies
        self._before: dict[int, BaseModel] = {id(self.state): self.base}
        for key, copied in copies.items():
            base = bases.get(key)
            if isinstance(copied, BaseModel) and isinstance(base, BaseModel):
                self._before[id(copied)] = base

    def check(self) -> set[str]:
        """Validate what changed and return the top-level names that differ; contract of `check_changes`."""
        return check_changes(self.state, self._before)

    def keep_unchanged(self, live: dict[str, Any], changed: set[str]) -> None:
        """Take from the live state what did not change, so that references handed out stay live.

        Args:
            live: The values and private attributes of the live state.
            changed: The names that differ in the draft.
        """
        state = self.state
        homes = (state.__dict__, state.__pydantic_private__, state.__pydantic_extra__)
        for key in saved_values_of(state).keys() - changed:
            home = next(each for each in homes if each is not None and key in each)
            if key in live:
                home[key] = live[key]
            elif home is state.__pydantic_extra__:  # removed meanwhile, from the live root
                del home[key]
        extra = state.__pydantic_extra__
        if extra is not None:
            known = state.__dict__.keys() | (state.__pydantic_private__ or {}).keys()
            extra.update((key, live[key]) for key in live.keys() - changed - known if key not in extra)


class Editable(Protocol[S]):
    """A store whose state can be edited."""

    locked: bool

    @property
    def lock(self) -> asyncio.Lock:
        """Return the lock that a writer holds."""

    def draft(self) -> Draft[S]:
        """Return a draft of the state."""

    def merge(self, draft: Draft[S]) -> None:
        """Make what changed in a draft the state."""


class EditState(Generic[S]):
    """Give a copy of the state to change; at exit validate what changed and swap it in, unless there was an error."""

    def __init__(self, store: Editable[S]) -> None:
        self._store = store
        self._draft: Draft[S] | None = None

    async def __aenter__(self) -> S:
        """Wait for other edits to end, then return the copy to change."""
        store = self._store
        if in_edit_state(store):
            raise WorkflowRuntimeError("edit_state() cannot be opened inside itself")
        if self._draft is not None:
            raise WorkflowRuntimeError("an edit_state() can be entered only once")
        await store.lock.acquire()
        try:
            self._draft = draft = store.draft()
        except BaseException:  # `__aexit__` is not called for what fails in here
            store.lock.release()
            raise
        store.locked = True
        _edits.set((*_edits.get(), (store, _current_task())))
        return draft.state

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        """Swap the copy in, or drop it after an exception."""
        store, draft = self._store, self._draft
        _edits.set(tuple(edit for edit in _edits.get() if edit[0] is not store))
        store.locked = False
        try:
            if kind is None and draft is not None:
                store.merge(draft)
        finally:
            store.lock.release()
