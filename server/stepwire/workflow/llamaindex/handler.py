"""What `run` of an adopted workflow returns: a handler of theirs around one of ours."""

from __future__ import annotations

import asyncio
import contextlib
from typing import Any

from stepwire.workflow.broker.outcome import Outcome
from stepwire.workflow.context.context import run_of
from stepwire.workflow.errors import WorkflowError
from stepwire.workflow.handler import WorkflowHandler
from stepwire.workflow.llamaindex import installed
from stepwire.workflow.llamaindex.caught import error_of, their_stop
from stepwire.workflow.llamaindex.spans import RunSpan

__all__ = ["AdoptedHandler", "HandlerFace"]


class HandlerFace(installed.handler.WorkflowHandler):  # type: ignore[misc]
    """Await a run and follow its stream: with the methods and the errors of LlamaIndex 2.x.

    Args:
        workflow: The workflow of theirs.
        handler: The handle of the run.
        ctx: The context of theirs that shows the run.
    """

    def __init__(self, workflow: Any, handler: Any, ctx: Any) -> None:
        self._workflow = workflow
        self._handler = handler
        self._ctx = ctx
        self.run_id = handler.run_id
        self._all_events_consumed = False
        self._told = False
        self._stop: Any = None
        self._error: BaseException | None = None

    def _error_of(self, outcome: Outcome) -> BaseException | None:
        """Return what awaiting a run raises that has ended so."""
        return error_of(outcome)

    def _ended(self, handler: Any) -> None:
        handler.exception()  # seen: awaiting this handler raises it
        if self._told:
            return
        self._told = True
        outcome = handler.outcome
        self._error = self._error_of(outcome)
        if self._error is None or isinstance(self._error, installed.WorkflowCancelledByUser):
            self._stop = their_stop(outcome.event, outcome.error)

    async def stop_event_result(self) -> Any:
        """Await the run and return the event that ended it; raise what it failed with."""
        try:
            await self._handler
        except WorkflowError:
            if not self._handler.done():
                raise
        self._ended(self._handler)
        if self._error is not None:
            raise self._error
        return self._stop

    def get_stop_event(self) -> Any:
        """Return the event that ended the run; None before, and for a run that failed or timed out, as there."""
        return self._stop

    def __str__(self) -> str:
        return f"WorkflowHandler(workflow={self._workflow.workflow_name}, run_id={self.run_id}, result={self._stop})"

    def is_done(self) -> bool:
        """Tell whether the run has ended."""
        return bool(self._handler.done())

    def done(self) -> bool:
        """Tell whether the run has ended."""
        return bool(self._handler.done())

    def exception(self) -> BaseException | None:
        """Return what the run failed with; None if it completed."""
        self._handler.exception()  # before the end: InvalidStateError
        self._ended(self._handler)
        return self._error

    def result(self) -> Any:
        """Return the result, or raise what the run failed with."""
        if (error := self.exception()) is not None:
            raise error
        return self._handler.result()

    def cancelled(self) -> bool:
        """Tell whether the run was cancelled."""
        return isinstance(self._error, installed.WorkflowCancelledByUser)


class AdoptedHandler(HandlerFace):
    """Await a run in process, follow its stream, cancel it.

    Args:
        workflow: The workflow of theirs.
        handler: The handle of the run.
        ctx: The context of theirs that shows the run.
        span: The span of the run.
    """

    def __init__(self, workflow: Any, handler: WorkflowHandler, ctx: Any, span: RunSpan) -> None:
        super().__init__(workflow, handler, ctx)
        self._run = run_of(handler.ctx)
        self._span = span
        self._told_at_the_end()

    def _told_at_the_end(self) -> None:
        """Be told of the end when it comes, and not a turn of the event loop later."""
        run, handler, tell = self._run, self._handler, self._run.on_end
        if tell is None:
            handler.add_done_callback(self._ended)
            return

        def ended(outcome: Outcome) -> None:
            tell(outcome)
            self._ended(handler)

        run.on_end = ended

    def _ended(self, handler: Any) -> None:
        told = self._told
        super()._ended(handler)
        if not told:
            self._span.end(self._stop, self._error)

    def cancel(self) -> None:
        """Cancel the run."""
        if not self._handler.done():
            self._run.cancel(leave=True)

    async def cancel_run(self, *, timeout: float = 5.0) -> None:
        """Cancel the run and wait for its end, which comes at once; its context can be saved to go on later."""
        self.cancel()
        with contextlib.suppress(WorkflowError, TimeoutError):
            await asyncio.wait_for(_ended(self._handler), timeout)


async def _ended(handler: WorkflowHandler) -> None:
    await handler
