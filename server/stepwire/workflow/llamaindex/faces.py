"""The context that steps and callers of LlamaIndex 2.x see: an object of their class with a face of ours."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

from stepwire.workflow.broker.current import current_execution
from stepwire.workflow.broker.deliveries.delivery import Execution
from stepwire.workflow.broker.log.stream import StreamReader
from stepwire.workflow.context.context import run_of
from stepwire.workflow.events import Event
from stepwire.workflow.llamaindex import installed
from stepwire.workflow.llamaindex.caught import rebuilt, their_stop
from stepwire.workflow.llamaindex.own_context import AdoptedContext
from stepwire.workflow.llamaindex.payload import to_payload, work_item_of
from stepwire.workflow.llamaindex.store_face import StoreFace

if TYPE_CHECKING:
    from stepwire.workflow.handler import WorkflowHandler

__all__ = ["ExternalFace", "face_for"]


def face_for(context: AdoptedContext) -> Any:
    """Return the context of theirs that the steps of a run get, the same for all of them."""
    if context.theirs is None:
        context.theirs = installed.context_of(_InternalFace(context))
    return context.theirs


class _InternalFace(installed.InternalContext):  # type: ignore[misc]
    """Answer for a context inside a step."""

    def __init__(self, context: AdoptedContext) -> None:
        self._context = context
        self._workflow = context.workflow
        self._workers: list[Any] = []

    def cancel_background_tasks(self) -> None:
        """Do nothing: no call leaves a task behind."""

    async def _finalize_step(self) -> None:
        """Do nothing, as above."""

    def _execution(self, function: str) -> Any:
        execution = current_execution(run_of(self._context).broker)
        if execution is None:
            raise installed.WorkflowRuntimeError(f"{function} may only be called from within a step function")
        return execution

    @property
    def store(self) -> StoreFace:
        """Return the state store of the run."""
        return self._context.store_face

    def collect_events(self, ev: Event, expected: list[type[Event]], buffer_id: str | None = None) -> Any:
        """Buffer an event; return the expected ones once all are there."""
        step = self._execution("collect_events").delivery.step
        if not expected:
            return []
        if type(ev) not in expected:
            return None
        return self._context.collect_events(ev, expected, f"{step}/{buffer_id or 'default'}")

    def send_event(self, message: Event, step: str | None = None) -> None:
        """Send an event to the steps that take it, or to one."""
        if step is not None:
            self._check_target(message, step)
        receipt = self._context.send_event(message, step)
        if step is None and receipt.sequence:  # else an earlier execution has sent it
            execution = current_execution(run_of(self._context).broker)
            if execution is not None:
                self._context.note_sent(execution, message)
        self._context.internal.sent(message, step, receipt)

    def _check_target(self, message: Event, step: str) -> None:
        installed.check_target(self._workflow, step, message)
        spec = run_of(self._context).plan.routing.collects.get(step)
        if spec is not None and not spec.slots:
            raise installed.WorkflowRuntimeError(
                f"{type(message).__name__} was sent to collect step {step!r} via send_event(step=...), but a collect"
                " step cannot receive targeted events: it only collects events emitted inside a fan-out stream."
            )

    async def wait_for_event(
        self,
        event_type: type[Event],
        waiter_event: Event | None = None,
        waiter_id: str | None = None,
        requirements: dict[str, Any] | None = None,
        timeout: float | None = 2000,
    ) -> Any:
        """Wait for an event. Without an id the waits of parallel branches are waits of their own."""
        execution = self._execution("wait_for_event")
        if waiter_id is None:
            waiter_id = _implicit_id(execution, event_type, requirements or {})
        self._context.internal.waits()
        if self._context.reopening is not None:
            self._context.reopening.passed(execution.delivery.id)
        try:
            return await self._context.wait_for_event(event_type, waiter_event, waiter_id, requirements, timeout)
        except TimeoutError:
            raise TimeoutError(f"Timed out waiting for {event_type.__name__}") from None

    def write_event_to_stream(self, ev: Event | None) -> None:
        """Write an event to the stream of the run."""
        self._context.write_event_to_stream(ev)

    def retry_info(self) -> Any:
        """Tell how often the step was tried before, and what it failed with last."""
        delivery = self._execution("retry_info").delivery
        if not delivery.failures:
            return installed.RetryInfo(0, 0.0, None, None)
        elapsed = max(0.0, run_of(self._context).broker.clock.now() - (delivery.first_started or 0.0))
        error, at = delivery.last_failure or (None, None)
        if error is None and (told := delivery.failure) is not None:  # after a restart
            error = rebuilt(None, told.error_type, told.message)
        when = None if at is None else datetime.fromtimestamp(at, UTC)
        return installed.RetryInfo(delivery.failures, elapsed, error, when)


def _implicit_id(execution: Execution, event_type: type[Event], requirements: dict[str, Any]) -> str:
    """Name a wait that has no id as they do: each delivery has its own, also one that their engine had parked."""
    delivery = execution.delivery
    begins = f"waiter_{event_type.__module__}.{event_type.__name__}_"
    own = f"{begins}{_InternalFace._stable_requirements_str(requirements)}_{work_item_of(delivery)}"
    known = {waiter.id for waiter in delivery.waiters or ()}
    if delivery.ledger is not None:
        known.update(delivery.ledger.waits)
    if own in known:
        return own
    theirs = (each for each in known if each.startswith(begins) and not execution.waits_made(each))
    return next(theirs, own)


class ExternalFace(installed.ExternalContext):  # type: ignore[misc]
    """Answer for a context outside the steps, once its run has been started."""

    def __init__(self, context: AdoptedContext, handler: WorkflowHandler) -> None:
        self.context = context
        self.handler = handler
        self._workflow = context.workflow
        self._workers: list[Any] = []
        self._reader = handler.stream_events()

    @property
    def is_running(self) -> bool:
        """Tell whether the run has not ended."""
        return self.context.is_running

    @property
    def store(self) -> StoreFace:
        """Return the state store of the run."""
        return self.context.store_face

    def send_event(self, message: Event, step: str | None = None) -> None:
        """Send an event into the run; one that comes after its end is dropped.

        As there, the steps that were to begin do so first: what is sent right after the start of a run finds the waits
        that its first step opens.
        """
        if step is not None:
            installed.check_target(self._workflow, step, message)
        try:
            loop = asyncio.get_running_loop()
        except RuntimeError:
            self._pass_on(message, step)
        else:
            loop.call_soon(self._pass_on, message, step)

    def _pass_on(self, message: Event, step: str | None) -> None:
        held = self.context.reopening
        if held is None or not held.holds(lambda: self._send(message, step)):
            self._send(message, step)

    def _send(self, message: Event, step: str | None) -> None:
        if self.context.is_running:
            self.context.internal.sent(message, step, self.context.send_event(message, step))

    async def running_steps(self) -> list[str]:
        """Return the names of the steps at work."""
        return await self.context.running_steps()

    def get_result(self) -> Any:
        """Return the event that ended the run."""
        outcome = run_of(self.context).broker.outcome
        if outcome is None:
            raise installed.WorkflowRuntimeError(f"Workflow run with run_id {self.handler.run_id} is not complete")
        return their_stop(outcome.event, outcome.error)

    def stream_events(self) -> AsyncGenerator[Any, None]:
        """Give the events of the stream that nobody has read through this context, as there."""
        return _Reading(self.context, self._reader)

    def to_dict(self, serializer: Any = None, *, include_state: bool = True) -> dict[str, Any]:
        """Return the run as their payload."""
        return to_payload(self.context, serializer, include_state=include_state)

    def cancel(self) -> None:
        """Cancel the run."""
        run_of(self.context).cancel(leave=True)

    async def shutdown(self) -> None:
        """Cancel the run; its state stays."""
        run_of(self.context).cancel(leave=True)


class _Reading(AsyncGenerator[Any, None]):
    """Read the stream of a run. Unlike a generator, one that is left early leaves nothing on the event loop.

    Args:
        context: The context of the run.
        reader: Reads its stream; it goes on where an earlier one was left.
    """

    def __init__(self, context: AdoptedContext, reader: StreamReader) -> None:
        self._context = context
        self._reader = reader

    async def __anext__(self) -> Any:
        event = await anext(self._reader)
        outcome = run_of(self._context).broker.outcome
        return their_stop(event, None if outcome is None else outcome.error)

    async def asend(self, value: Any) -> Any:
        """Return the next event."""
        return await anext(self)

    async def athrow(self, typ: Any, val: Any = None, tb: Any = None) -> Any:
        """Raise what is given, as a generator does that handles nothing."""
        raise (typ if val is None else val)

    async def aclose(self) -> None:
        """Stop reading; another reading goes on from here."""
