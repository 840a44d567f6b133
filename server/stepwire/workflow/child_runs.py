"""Runs that the steps of a hosted run start: what `Workflow.run` and `Context.start_run` give there."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Generator, Mapping
from typing import Any

from stepwire.workflow.broker.children.child import ABANDON, CANCEL, Child, ChildCall, ChildHost
from stepwire.workflow.broker.current import current_execution
from stepwire.workflow.broker.deliveries.delivery import RUNNING, Execution
from stepwire.workflow.broker.futures import complete
from stepwire.workflow.broker.ledger import Answer
from stepwire.workflow.broker.log.stream import Told
from stepwire.workflow.broker.outcome import CANCELLED, FAILED, Outcome
from stepwire.workflow.checks import check_start
from stepwire.workflow.context.run import Run
from stepwire.workflow.errors import ChildRunError, EventTooLargeError, WorkflowError, WorkflowRuntimeError
from stepwire.workflow.events import Event, StopEvent, WorkflowCancelledEvent, WorkflowFailedEvent
from stepwire.workflow.handler import WorkflowHandler
from stepwire.workflow.runner.other_threads import await_on
from stepwire.workflow.state.store import in_edit_state

__all__ = ["ChildHandler", "ChildRuns"]


class ChildRuns:
    """Start runs for the steps of one hosted run.

    Args:
        run: The run.
        host: Starts them.
        run_id: The id of the run.
    """

    __slots__ = ("_host", "_run", "_run_id")

    def __init__(self, run: Run, host: ChildHost, run_id: str) -> None:
        self._run = run
        self._host = host
        self._run_id = run_id

    @property
    def here(self) -> bool:
        """Whether the calling code runs on the event loop of the run."""
        runner = self._run.runner
        try:
            return runner is not None and asyncio.get_running_loop() is runner.loop
        except RuntimeError:
            return False

    @property
    def input_bytes(self) -> int:
        """How many bytes the input of a run may have as JSON."""
        return self._host.input_bytes

    def served_as(self, workflow: object) -> str:
        """Return the name under which a workflow object is served; empty if it is not."""
        return self._host.served_as(workflow)

    def start(
        self,
        workflow: str,
        fields: Mapping[str, Any] | bytes,
        *,
        run_id: str = "",
        labels: Mapping[str, str] | None = None,
        parent_close: str = CANCEL,
        timeout: float | None = None,
        from_run: str = "",
    ) -> ChildHandler:
        """Start a run, or return the handler of the one that the same call of the step has started before.

        Args:
            workflow: The name under which it is served.
            fields: The fields of its start event; as bytes, they are its JSON and checked already.
            run_id: The id that it shall have; empty for one that is made from this run's.
            labels: Its labels.
            parent_close: What becomes of it when this run ends: `cancel` or `abandon`.
            timeout: Seconds that it may take; None for what its workflow says.
            from_run: The id of the run of the same workflow whose state it begins with; empty for none.

        Raises:
            ChildRunError: The workflow is not served, or a limit is reached.
            WorkflowRuntimeError: The caller is no step, or an argument is wrong.
        """
        execution = current_execution(self._run.broker)
        if execution is None:
            raise WorkflowRuntimeError("start_run can only be called in a step")
        if in_edit_state():
            raise WorkflowRuntimeError("a run cannot be started inside edit_state")
        if parent_close not in (CANCEL, ABANDON):
            raise WorkflowRuntimeError(f"parent_close is {CANCEL!r} or {ABANDON!r}, not {parent_close!r}")
        check_start(run_id, labels, timeout)
        given = fields if isinstance(fields, bytes) else None
        checked = self._host.check(workflow, None if isinstance(fields, bytes) else fields)
        data = given if given is not None else checked
        assert data is not None
        seconds = None if timeout is None else float(timeout)
        call = ChildCall(workflow, data, run_id, dict(labels or {}), parent_close, seconds, from_run)
        self._host.check_call(call)
        return self._run.do(self._started, execution, call)

    def _started(self, execution: Execution, call: ChildCall) -> ChildHandler:
        broker = self._run.broker
        broker.check(execution)
        children = broker.children
        assert children is not None
        return ChildHandler(self._run, children.start(broker, self._run_id, execution, call), execution)


class ChildHandler(WorkflowHandler):
    """Await a child, follow its stream, cancel it: with the face of the handler of a run in process.

    Its errors are those of a run in process. The original exception of a step is not among them: the child may have run
    elsewhere, so a StepError has its text and no cause.
    """

    def __init__(self, run: Run, child: Child, execution: Execution) -> None:
        runner = run.runner
        assert runner is not None
        self.run_id, self._loop = child.run_id, runner.loop
        self._parent = run
        self._child = child
        self._execution = execution
        self._position = 0
        if child.outcome is not None:
            self._tell(None)
        else:
            if child.told is None:
                child.told = []
            child.told.append(self._tell)

    def __await__(self) -> Generator[Any, None, Any]:
        if not self.done():
            yield from self._until_ended().__await__()
        return self.result()

    async def _until_ended(self) -> None:
        """Wait for the end of the child like for an event: the step gives its worker back."""
        if in_edit_state():
            raise WorkflowRuntimeError("a run cannot be awaited inside edit_state")
        broker, execution, child = self._parent.broker, self._execution, self._child
        runner = self._parent.runner
        if runner is not None and not runner.here:  # an event loop of its own awaits it
            await await_on(runner.loop, self._until_ended)
            return
        if current_execution(broker) is not execution:
            await self._beside()
            return
        broker.check(execution)
        if child.outcome is not None and self.done():
            return
        children = broker.children
        assert children is not None
        future = Told(execution)
        holds_worker = execution.delivery.status == RUNNING
        if child.outcome is None:
            children.wait(child, execution, future)
        else:  # it has ended, and that is not durable yet
            broker.work.resume(future, _OVER)
        if holds_worker or child.outcome is not None:
            self._parent.pump()  # another delivery may have the worker
        try:
            answer = await future
        except asyncio.CancelledError:
            back = Told(execution)
            regains = children.give_up(child, execution, future, back)
            self._parent.pump()
            if regains:
                await back
            raise
        finally:
            future.execution = None
        if isinstance(answer, BaseException) and answer is not _OVER:
            raise answer
        if not self.done():
            self._tell(None)

    async def _beside(self) -> None:
        """Wait outside the step that has started the child: it has returned, and what it left running goes on."""
        future: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self.add_done_callback(lambda _: complete(future, None))
        await future

    def stream_events(self, after: int | None = None) -> ChildStream:  # type: ignore[override]
        """Iterate over the public events of the child, to its terminal event, as the stream of a run in process.

        While a step reads them, its run stays in memory.
        """
        position = self._position if after is None else after
        self._position = 0
        children = self._parent.broker.children
        assert children is not None
        return ChildStream(children.host.events(self._child), position, self._left_at, self.until_told, self._loop)

    async def until_told(self) -> Event:
        """Return the terminal event of the child, once its end is known here. Its run stays in memory meanwhile."""
        if not self.done():
            await self._beside()
            self.exception()  # it is told by the event
        assert self._outcome is not None
        return self._outcome.event

    def _untaken(self) -> str:
        return ""

    def _left_at(self, position: int) -> None:
        self._position = position

    async def cancel_run(self) -> None:
        """Cancel the child."""
        self.cancel_soon()

    def cancel_soon(self) -> None:
        """Have the child cancelled; await the handler for its end."""
        if self.done():
            return
        broker, execution = self._parent.broker, self._execution

        def cancel() -> None:
            broker.check(None if execution.finished else execution)
            if broker.children is not None:
                broker.children.cancel(broker, self._child)

        self._parent.do(cancel)

    def send(self, type_name: str, data: bytes, step: str = "") -> None:
        """Send an event to the child: once, however often the calling step begins again.

        It is on its way when this returns, and dropped if the child has ended when it comes.

        Args:
            type_name: The name of the type of the event, among the types of the child's workflow.
            data: Its fields, as plain JSON.
            step: The only step that gets it; empty for all steps and waits that take it.

        Raises:
            EventTooLargeError: It has more bytes than an event may have.
        """
        broker, started_by = self._parent.broker, self._execution

        journal = broker.journal
        if journal is not None and len(data) > (largest := journal.bounds.event_bytes):
            message = f"{type_name} has {len(data)} bytes as JSON, and an event may have at most {largest}"
            message += " (max_entry_bytes)"
            raise EventTooLargeError(message, keys=[type_name], size=len(data), largest=largest)

        def send() -> None:
            execution = current_execution(broker) or (None if started_by.finished else started_by)
            broker.check(execution)
            if broker.children is not None:
                broker.children.send(execution, self._child, type_name, data, step)

        self._parent.do(send)

    def _tell(self, answer: Answer | None) -> None:
        """Take the outcome of the child, once it is durable."""
        if isinstance(answer, BaseException) or self.done():
            return
        child, children = self._child, self._parent.broker.made_children
        told = child.outcome
        if told is None or children is None:
            return
        event = children.host.event_of(child) if told.event else None
        error: WorkflowError | None = None
        if event is None:
            event, error = _unread(child)
        elif isinstance(event, WorkflowFailedEvent) and told.status == FAILED:
            error = _failure(event)
        # What is told as completed, and cannot be read, fails.
        self._ended(Outcome(FAILED if error is not None else told.status, event, error))


_OVER: Any = object()


class ChildStream(AsyncIterator[Event]):
    """Read the public events of a child from a place to its end.

    A child that was never started, or that was deleted, has no log to the end: its stream ends with its terminal event
    all the same.

    Args:
        events: The events of its log.
        position: How many of them to pass over.
        on_abandon: Called with the place when reading stops before the end.
        ending: Gives the terminal event of the child.
        loop: The event loop of the run, on which both are; others may read there, too.
    """

    def __init__(
        self,
        events: AsyncIterator[Event],
        position: int,
        on_abandon: Callable[[int], None],
        ending: Callable[[], Awaitable[Event]],
        loop: asyncio.AbstractEventLoop,
    ) -> None:
        self._events = events
        self._loop = loop
        self._skip = position
        self._position = position
        self._on_abandon = on_abandon
        self._ending = ending
        self._stopped = False
        """Whether the last event was a terminal one."""
        self._finished = False

    def __aiter__(self) -> ChildStream:
        return self

    async def __anext__(self) -> Event:
        event = None
        if not self._finished:
            event = await (self._next() if self._here else await_on(self._loop, self._next))
        if event is None:
            self._finished = True
            raise StopAsyncIteration
        return event

    @property
    def _here(self) -> bool:
        return asyncio.get_running_loop() is self._loop

    async def _next(self) -> Event | None:
        """Return the next event; None after the last one."""
        while True:
            event = await anext(self._events, None)
            if event is None and self._stopped:
                return None
            if event is None:
                event = await self._ending()
            self._stopped = isinstance(event, StopEvent)
            if self._skip:
                self._skip -= 1
                continue
            self._position += 1
            return event

    async def aclose(self) -> None:
        """Stop reading."""
        self._abandon()
        close = getattr(self._events, "aclose", None)
        if close is not None:
            await (close() if self._here else await_on(self._loop, close))

    def _abandon(self) -> None:
        if not self._finished:
            self._finished = True
            self._on_abandon(self._position)

    def __del__(self) -> None:
        self._abandon()


def _failure(event: WorkflowFailedEvent) -> WorkflowError | None:
    """Return what the awaiting of a failed child raises; None if a step failed, of which the event tells."""
    return None if event.step is not None else WorkflowRuntimeError(event.message or event.error_type)


def _unread(child: Child) -> tuple[StopEvent, WorkflowError | None]:
    """Return the end of a child whose terminal event there is not, or cannot be read here."""
    told = child.outcome
    assert told is not None
    if told.status == CANCELLED:
        return WorkflowCancelledEvent(), None
    message = told.message or "its result cannot be read here: its workflow is not served, or its classes have changed"
    error = ChildRunError(f"run {child.run_id} of {child.call.workflow}: {message}")
    failed = WorkflowFailedEvent(step=None, error_type=told.error or "ChildRunError", message=str(error), attempts=0)
    return failed, error
