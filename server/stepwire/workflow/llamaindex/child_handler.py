"""What `run` of an adopted workflow returns in a step, if the run is a child: a handler of theirs."""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections.abc import AsyncGenerator
from typing import Any, NoReturn

from stepwire.workflow.broker.outcome import Outcome
from stepwire.workflow.child_runs import ChildHandler, ChildStream
from stepwire.workflow.codec.names import Names
from stepwire.workflow.errors import SerializationError, WorkflowError
from stepwire.workflow.events import Event, StopEvent, WorkflowFailedEvent, event_to_json
from stepwire.workflow.llamaindex import installed
from stepwire.workflow.llamaindex.caught import error_of, rebuilt, their_stop
from stepwire.workflow.llamaindex.handler import HandlerFace

__all__ = ["AdoptedChildHandler", "ChildFace"]

logger = logging.getLogger("stepwire.workflow")


class AdoptedChildHandler(HandlerFace):
    """Await a child, follow its stream, send to it, cancel it: with the methods and the errors of LlamaIndex 2.x.

    Args:
        workflow: The workflow of theirs.
        handler: The handle of the child.
        names: The types of its workflow by their names.
        modules: The names of the modules whose exceptions it may raise.
        ctx: A context of theirs that is the child's from now on; None for a new one.
    """

    def __init__(
        self, workflow: Any, handler: ChildHandler, names: Names, modules: tuple[str, ...], ctx: Any = None
    ) -> None:
        self._modules = modules
        face = ChildFace(workflow, handler, names, modules)
        if ctx is None:
            ctx = installed.context_of(face)
        else:
            installed.set_face(ctx, face)
        super().__init__(workflow, handler, ctx)
        handler.add_done_callback(self._ended)

    def _error_of(self, outcome: Outcome) -> BaseException | None:
        error = error_of(outcome, self._modules)
        if isinstance(error, installed.WorkflowCancelledByUser):
            why = getattr(outcome.event, "reason", "")
            told = f"run {self.run_id} of {self._workflow.workflow_name} was cancelled"
            error.args = (f"{told}: {why}" if why else told,)
        return error

    def get_stop_event(self) -> Any:
        """Return the event that ended the run; None before, and for a run that failed or timed out, as there."""
        if self._handler.done():
            self._ended(self._handler)
        return self._stop

    def cancelled(self) -> bool:
        """Tell whether the run was cancelled."""
        return isinstance(self.get_stop_event(), installed.events.WorkflowCancelledEvent)

    def cancel(self) -> None:
        """Cancel the run."""
        self._handler.cancel_soon()

    async def cancel_run(self, *, timeout: float = 5.0) -> None:
        """Cancel the run and wait for its end."""
        self.cancel()
        with contextlib.suppress(WorkflowError, TimeoutError):
            await asyncio.wait_for(self._handler.until_told(), timeout)


class ChildFace(installed.ExternalContext):  # type: ignore[misc]
    """Answer for the context of a child: a run of its own, whose state is not here."""

    def __init__(self, workflow: Any, handler: ChildHandler, names: Names, modules: tuple[str, ...]) -> None:
        self.handler = handler
        self._workflow = workflow
        self._workers: list[Any] = []
        self._names = names
        self._modules = modules
        self._reading: _ChildReading | None = None

    @property
    def is_running(self) -> bool:
        """Tell whether the run has not ended."""
        return not self.handler.done()

    @property
    def store(self) -> Any:
        """Raise WorkflowRuntimeError: the state is where the run is."""
        self._refuse("its state")

    def send_event(self, message: Event, step: str | None = None) -> None:
        """Send an event into the run, once, however often the calling step begins again.

        One that comes after its end is dropped, and so is one of a type that the workflow does not know.
        """
        if not isinstance(message, Event):
            raise installed.WorkflowRuntimeError(f"send_event takes an Event, not {type(message).__name__}")
        if step is not None:
            installed.check_target(self._workflow, step, message)
        try:
            name = self._names.name_of(type(message))
        except SerializationError as error:
            logger.warning("an event for run %s is dropped: %s", self.handler.run_id, error)
            return
        self.handler.send(name, event_to_json(message), step or "")

    async def running_steps(self) -> list[str]:
        """Raise WorkflowRuntimeError: the server shows which steps are at work."""
        self._refuse("its steps at work")

    def get_result(self) -> Any:
        """Return the event that ended the run."""
        outcome = self.handler.outcome
        if outcome is None:
            raise installed.WorkflowRuntimeError(f"Workflow run with run_id {self.handler.run_id} is not complete")
        return self.their_stop(outcome.event)

    def their_stop(self, event: Event) -> Any:
        """Return an event of the stream in their classes."""
        error = None
        if isinstance(event, WorkflowFailedEvent):
            error = rebuilt(None, event.error_type, event.message, self._modules)
        return their_stop(event, error)

    def stream_events(self) -> AsyncGenerator[Any, None]:
        """Give the events of the stream that nobody has read through this context, as there."""
        if self._reading is None:
            self._reading = _ChildReading(self, self.handler)
        return self._reading

    def to_dict(self, serializer: Any = None, *, include_state: bool = True) -> dict[str, Any]:
        """Raise WorkflowRuntimeError: the server saves the run."""
        self._refuse("its snapshot")

    def cancel(self) -> None:
        """Cancel the run."""
        self.handler.cancel_soon()

    async def shutdown(self) -> None:
        """Cancel the run."""
        self.handler.cancel_soon()

    def _refuse(self, what: str) -> NoReturn:
        raise installed.WorkflowRuntimeError(
            f"run {self.handler.run_id} is a run of its own on the server: {what} can be read there only. A run that is"
            " to share its context with this step is given one: run(ctx=Context(workflow), …)"
        )


class _ChildReading(AsyncGenerator[Any, None]):
    """Read the stream of a child; a reading that is left early goes on with the next one.

    Args:
        face: Of the child.
        handler: The handle of the child.
    """

    def __init__(self, face: ChildFace, handler: ChildHandler) -> None:
        self._face = face
        self._handler = handler
        self._stream: ChildStream = handler.stream_events()

    async def __anext__(self) -> Any:
        event = await anext(self._stream)
        if isinstance(event, StopEvent):
            event = await self._handler.until_told()  # as there, the handler knows the end by then
        return self._face.their_stop(event)

    async def asend(self, value: Any) -> Any:
        """Return the next event."""
        return await anext(self)

    async def athrow(self, typ: Any, val: Any = None, tb: Any = None) -> Any:
        """Raise what is given, as a generator does that handles nothing."""
        raise (typ if val is None else val)

    async def aclose(self) -> None:
        """Stop reading; another reading goes on from here."""
