"""Blocking twins of what a context offers to be awaited, for sync steps (S3)."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Coroutine, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Any, Protocol, TypeVar, cast

from stepwire.workflow.errors import WorkflowRuntimeError
from stepwire.workflow.events import Event
from stepwire.workflow.state.store import InMemoryStateStore

EventT = TypeVar("EventT", bound=Event)

_editing: ContextVar[bool] = ContextVar("stepwire_blocking_edit", default=False)


def _refuse_in_edit(what: str) -> None:
    if _editing.get():
        raise WorkflowRuntimeError(f"{what} cannot be called inside edit_state")


class Awaitables(Protocol):
    """What a context offers to be awaited."""

    async def wait_for_event(self, event_type: type[EventT], *args: Any, **kwargs: Any) -> EventT:
        """Wait for an event."""

    async def sleep(self, seconds: float) -> None:
        """Sleep as a waiter does."""

    def start_run(self, workflow: str, /, **options: Any) -> Awaitable[Any]:
        """Start a run of a served workflow."""


RunBlocking = Callable[[Callable[[], Coroutine[Any, Any, Any]]], Any]
"""Run the coroutine that a function makes on the run's loop, and block this thread until it is done."""


class BlockingStore:
    """The state store, blocking. Errors as the awaitable methods."""

    def __init__(self, store: InMemoryStateStore[Any], run: RunBlocking) -> None:
        self._store = store
        self._run = run

    def get(self, path: str, **default: Any) -> Any:
        """Return the value at a path, or `default` when it is given and nothing is there."""
        return self._run(lambda: self._store.get(path, **default))

    def set(self, path: str, value: Any) -> None:
        """Set the value at a path."""
        _refuse_in_edit("set")
        self._run(lambda: self._store.set(path, value))

    def get_state(self) -> Any:
        """Return an isolated copy of the state."""
        return self._run(self._store.get_state)

    def set_state(self, state: Any) -> None:
        """Replace the state."""
        _refuse_in_edit("set_state")
        self._run(lambda: self._store.set_state(state))

    def clear(self) -> None:
        """Reset the state."""
        _refuse_in_edit("clear")
        self._run(self._store.clear)

    @contextmanager
    def edit_state(self) -> Iterator[Any]:
        """Edit the state in a transaction."""
        _refuse_in_edit("edit_state")
        manager = self._store.edit_state()
        state = self._run(manager.__aenter__)
        token = _editing.set(True)
        failed: BaseException | None = None
        try:
            yield state
        except BaseException as error:
            failed = error
            raise
        finally:
            _editing.reset(token)
            kind = None if failed is None else type(failed)
            self._run(lambda: manager.__aexit__(kind, failed, None))


class BlockingContext:
    """The awaitable part of a context, blocking: for sync steps, which run in a thread."""

    def __init__(self, context: Awaitables, store: InMemoryStateStore[Any], run: RunBlocking) -> None:
        self._context = context
        self._run = run
        self.store = BlockingStore(store, run)

    def wait_for_event(self, event_type: type[EventT], *args: Any, **kwargs: Any) -> EventT:
        """Wait for an event; parameters and errors as `Context.wait_for_event`. It holds its thread."""
        _refuse_in_edit("wait_for_event")
        return cast(
            EventT,
            self._run(lambda: self._context.wait_for_event(event_type, *args, **kwargs)),
        )

    def sleep(self, seconds: float) -> None:
        """Sleep as `Context.sleep` does."""
        _refuse_in_edit("sleep")
        self._run(lambda: self._context.sleep(seconds))

    def start_run(self, workflow: str, /, **options: Any) -> Any:
        """Start a run as `Context.start_run` does, wait for its end, and return its result. It holds its thread."""
        _refuse_in_edit("start_run")

        async def ended() -> Any:
            return await self._context.start_run(workflow, **options)

        return self._run(ended)
