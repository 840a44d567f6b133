"""The handle of a run in process."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Generator
from typing import Any

from stepwire.workflow.broker.futures import complete
from stepwire.workflow.broker.log.stream import StreamReader, progress_of
from stepwire.workflow.broker.outcome import CANCELLED, COMPLETED, ENDED_TIMED_OUT, Outcome, default_hint, result_of
from stepwire.workflow.context.context import Context
from stepwire.workflow.context.run import Run
from stepwire.workflow.errors import (
    WorkflowCancelledByUser,
    WorkflowRuntimeError,
    WorkflowTimeoutError,
)
from stepwire.workflow.events import Event, StopEvent
from stepwire.workflow.runner.results import result_error

_PENDING: Any = object()


def _timed_out(event: StopEvent, untaken: str) -> WorkflowTimeoutError:
    """Say how long it was; and of a run that had nothing more to do, why not."""
    seconds = getattr(event, "timeout", None)
    message = f"Operation timed out after {seconds} seconds"
    if not getattr(event, "active_steps", ()):
        message += f": no step was at work, and none took {untaken}" if untaken else ": no step was at work"
    return WorkflowTimeoutError(message + default_hint(seconds))


class WorkflowHandler:
    """Await a run, follow its stream, cancel it.

    Behaves like an asyncio future, but cancelling its awaiting does not cancel the run (S15): `cancel_run` does.
    """

    # A short run pays for each attribute that is set.
    _ctx: Context[Any] | None = None
    _result: Any = _PENDING
    """The result, or the error of a run that did not complete."""
    _completed = False
    _outcome: Outcome | None = None
    _awaiting: list[asyncio.Future[None]] | None = None
    _future: asyncio.Future[Any] | None = None
    _callbacks: dict[Callable[[Any], object], list[Callable[[Any], None]]] | None = None
    _next = 0

    def __init__(self, ctx: Context[Any], run_id: str, run: Run) -> None:
        try:
            loop = asyncio.get_running_loop()
        except RuntimeError:
            raise RuntimeError("a run needs a running event loop: call Workflow.run inside async code") from None
        self.run_id = run_id
        self._loop = loop
        self._ctx = ctx
        self._run = run
        run.on_end = self._ended
        self._stream = run.broker.stream

    @property
    def ctx(self) -> Context[Any]:
        """Return the context of the run. WorkflowRuntimeError for a child, which may run elsewhere."""
        if self._ctx is None:
            raise WorkflowRuntimeError(f"run {self.run_id} has a context of its own, and may run elsewhere")
        return self._ctx

    def __await__(self) -> Generator[Any, None, Any]:
        if self._result is _PENDING:
            future = progress_of(self._stream)
            if self._awaiting is None:
                self._awaiting = []
            self._awaiting.append(future)
            try:
                yield from future
            except BaseException:  # also a cancelled wait
                if self._awaiting is not None:
                    self._awaiting.remove(future)
                raise
        return self.result()

    def __str__(self) -> str:
        if self._completed:
            return str(self._result)  # as in 1.x
        return f"WorkflowHandler(run_id={self.run_id!r}, done={self.done()})"

    @property
    def outcome(self) -> Outcome | None:
        """Return how the run ended; None before its end."""
        return self._outcome

    # -- like a future --------------------------------------------------------------------------------------------

    def done(self) -> bool:
        """Tell whether the run has ended."""
        return self._result is not _PENDING

    is_done = done

    def cancelled(self) -> bool:
        """Tell False: a cancelled run is one that failed with WorkflowCancelledByUser."""
        return False

    def result(self) -> Any:
        """Return the result, or raise what the run failed with; InvalidStateError before its end."""
        return self._result if self._completed else self._as_future().result()

    def exception(self) -> BaseException | None:
        """Return what the run failed with; None when it completed; InvalidStateError before its end."""
        return None if self._completed else self._as_future().exception()

    def add_done_callback(self, callback: Callable[[Any], object]) -> None:
        """Call back with this handler when the run has ended."""

        def call(_: object) -> None:
            callback(self)

        if self._callbacks is None:
            self._callbacks = {}
        self._callbacks.setdefault(callback, []).append(call)
        self._as_future().add_done_callback(call)

    def remove_done_callback(self, callback: Callable[[Any], object]) -> int:
        """Undo `add_done_callback`; return how often it had been added."""
        calls = (self._callbacks or {}).pop(callback, [])
        for call in calls:
            self._as_future().remove_done_callback(call)
        return len(calls)

    def get_loop(self) -> asyncio.AbstractEventLoop:
        """Return the event loop of the run."""
        return self._loop

    def _as_future(self) -> asyncio.Future[Any]:
        """Return the outcome as a future, made when someone asks: most runs are awaited and nothing else."""
        if self._future is None:
            self._future = self._loop.create_future()
            self._fill()
        return self._future

    def _fill(self) -> None:
        if self._future is None or self._result is _PENDING:
            return
        if self._completed:
            self._future.set_result(self._result)
        else:
            self._future.set_exception(self._result)

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
        if not self.done():
            self._run.cancel()

    async def run_step(self) -> list[Event] | None:
        """Run the pending steps of a stepwise run and return the events that they sent and returned.

        [] when they produced none, None once the run is over. The caller sends the events on: those that were
        returned go nowhere else, those that were sent do not go twice. Raises what the run
        failed with when a step fails now, and ValueError when the run is not stepwise.
        """
        if not self.ctx.stepwise:
            raise ValueError("run_step needs a run that was started with stepwise=True")
        runner = self._run.runner
        if self.done() or runner is None:
            return None
        assert runner.stepwise is not None
        events = await runner.stepwise.run_pending()
        if events is None and (error := self.exception()) is not None:
            raise error
        return events

    # -- for the workflow -----------------------------------------------------------------------------------------

    def _untaken(self) -> str:
        """Return the type of the last event that nothing took."""
        return self._run.broker.untaken

    def _ended(self, outcome: Outcome) -> None:
        """Hand the outcome to whoever awaits."""
        self._outcome = outcome
        status, event, error = outcome.status, outcome.event, outcome.error
        if status == COMPLETED:
            self._completed = True
            self._result = result_of(event)
            self._fill()
        else:
            if status == ENDED_TIMED_OUT:
                self._result = _timed_out(event, self._untaken())
            elif status == CANCELLED:
                self._result = WorkflowCancelledByUser("the run was cancelled")
            else:
                self._result = result_error(error, event)
            # A future, so that the loop reports a failure that nobody has seen.
            if self._future is None:
                self._as_future()
            else:
                self._fill()
            if status == CANCELLED:
                self.exception()  # who cancels knows: no report when no one awaits
        for future in self._awaiting or ():
            complete(future, None)
        self._awaiting = None
