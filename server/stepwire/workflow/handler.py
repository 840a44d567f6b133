"""The handle of a run in process."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Generator
from typing import TYPE_CHECKING, Any

from stepwire.workflow._broker import CANCELLED, COMPLETED, ENDED_TIMED_OUT, Outcome
from stepwire.workflow._runner import Runner, result_error
from stepwire.workflow._stream import StreamReader
from stepwire.workflow.errors import (
    WorkflowCancelledByUser,
    WorkflowTimeoutError,
)
from stepwire.workflow.events import Event, StopEvent

if TYPE_CHECKING:
    from stepwire.workflow.context.context import Context


def result_of(event: StopEvent) -> Any:
    """Return the result of a run: the `result` of a plain StopEvent, else the event itself."""
    return event.result if type(event) is StopEvent else event


class WorkflowHandler:
    """Await a run, follow its stream, cancel it.

    Behaves like an asyncio future, but cancelling its awaiting does not cancel the run (S15): `cancel_run` does.
    """

    def __init__(self, ctx: Context[Any], run_id: str) -> None:
        self.run_id = run_id
        self.ctx = ctx
        self._future: asyncio.Future[Any] = asyncio.get_running_loop().create_future()
        self._runner: Runner | None = None
        self._callbacks: dict[Callable[[Any], object], list[Callable[[Any], None]]] = {}
        self._next = 0
        self._stream = ctx._broker.stream

    def __await__(self) -> Generator[Any, None, Any]:
        return asyncio.shield(self._future).__await__()

    def __str__(self) -> str:
        if self.done() and self._future.exception() is None:
            return str(self._future.result())  # as in 1.x
        return f"WorkflowHandler(run_id={self.run_id!r}, done={self.done()})"

    # -- like a future --------------------------------------------------------------------------------------------

    def done(self) -> bool:
        """Tell whether the run has ended."""
        return self._future.done()

    is_done = done

    def cancelled(self) -> bool:
        """Tell False: a cancelled run is one that failed with WorkflowCancelledByUser."""
        return False

    def result(self) -> Any:
        """Return the result, or raise what the run failed with; InvalidStateError before its end."""
        return self._future.result()

    def exception(self) -> BaseException | None:
        """Return what the run failed with; None when it completed; InvalidStateError before its end."""
        return self._future.exception()

    def add_done_callback(self, callback: Callable[[Any], object]) -> None:
        """Call back with this handler when the run has ended."""

        def call(_: object) -> None:
            callback(self)

        self._callbacks.setdefault(callback, []).append(call)
        self._future.add_done_callback(call)

    def remove_done_callback(self, callback: Callable[[Any], object]) -> int:
        """Undo `add_done_callback`; return how often it had been added."""
        calls = self._callbacks.pop(callback, [])
        for call in calls:
            self._future.remove_done_callback(call)
        return len(calls)

    def get_loop(self) -> asyncio.AbstractEventLoop:
        """Return the event loop of the run."""
        return self._future.get_loop()

    # -- the run --------------------------------------------------------------------------------------------------

    def stream_events(self, after: int | None = None) -> StreamReader:
        """Iterate over the stream of the run, to its terminal event.

        Each call has its own cursor (S13): it begins at the first event, or where an earlier iteration was left
        before its end; `after` skips that many events instead.
        """
        position = self._next if after is None else after
        self._next = 0
        return StreamReader(self._stream, position, self._left)

    def _left(self, position: int) -> None:
        self._next = position

    async def cancel_run(self) -> None:
        """Cancel the run; it ends at once."""
        if self._runner is not None:
            self._runner.cancel()
        elif not self.done():
            self.ctx._workflow._withdraw(self)

    async def run_step(self) -> list[Event] | None:
        """Run the pending steps of a stepwise run and return the events that they sent and returned.

        [] when they produced none, None once the run is over. The caller sends the events on: those that were
        returned go nowhere else, those that were sent do not go twice. Raises what the run
        failed with when a step fails now, and ValueError when the run is not stepwise.
        """
        if not self.ctx.stepwise:
            raise ValueError("run_step needs a run that was started with stepwise=True")
        if self.done() or self._runner is None:
            return None
        events = await self._runner.run_pending()
        if events is None and (error := self._future.exception()) is not None:
            raise error
        return events

    # -- for the workflow -----------------------------------------------------------------------------------------

    def _ended(self, outcome: Outcome) -> None:
        """Hand the outcome to whoever awaits."""
        if self._future.done():
            return
        status, event, error = outcome.status, outcome.event, outcome.error
        if status == COMPLETED:
            self._future.set_result(result_of(event))
            return
        if status == ENDED_TIMED_OUT:
            seconds = getattr(event, "timeout", None)
            self._future.set_exception(WorkflowTimeoutError(f"Operation timed out after {seconds} seconds"))
        elif status == CANCELLED:
            self._future.set_exception(WorkflowCancelledByUser("the run was cancelled"))
            self._future.exception()  # who cancels knows: no report when no one awaits
        else:
            self._future.set_exception(result_error(error, event))
