"""Spans of steps and runs for `llama_index_instrumentation`, while a handler of it listens.

Steps see the tags that their run was started with, and the id of the run. A run that is served has no span of its own
there: it outlives the process. Stepwire traces it with OpenTelemetry.
"""

from __future__ import annotations

import contextlib
import functools
import inspect
import uuid
from collections.abc import Callable, Iterator
from typing import Any

from stepwire.workflow.llamaindex import installed

__all__ = ["RunSpan", "enter_tags", "spanned"]


class _CutOff:
    """What a body in a span gives when it was cut off, so that the span does not tell of an error."""

    def __init__(self, why: BaseException) -> None:
        self.why = why


def spanned(workflow: Any, function: Callable[..., Any], is_async: bool) -> Callable[..., Any]:
    """Return a function that calls a step's in a span of its own.

    Args:
        workflow: The workflow of theirs.
        function: The step's function.
        is_async: Whether it is a coroutine function.
    """
    dispatcher = installed.dispatcher_of(workflow)
    if is_async:

        @functools.wraps(function)
        async def body(*args: Any, **given: Any) -> Any:
            try:
                result = await function(*args, **given)
            except Exception:  # a failure of the step, which the span records
                raise
            except BaseException as why:  # noqa: BLE001 - raised again, outside the span
                dispatcher.event(installed.SpanCancelledEvent(reason="step cancelled"))
                return _CutOff(why)
            _tell_output(dispatcher, installed.WorkflowStepOutputEvent, result)
            return result

        in_span = dispatcher.span(body)

        @functools.wraps(function)
        async def call(*args: Any, **given: Any) -> Any:
            if not _listens(dispatcher):
                return await function(*args, **given)
            result = await in_span(*args, **given)
            if isinstance(result, _CutOff):
                raise result.why
            return result

        return call

    @functools.wraps(function)
    def plain_body(*args: Any, **given: Any) -> Any:
        result = function(*args, **given)
        _tell_output(dispatcher, installed.WorkflowStepOutputEvent, result)
        return result

    plain_in_span = dispatcher.span(plain_body)

    @functools.wraps(function)
    def plain_call(*args: Any, **given: Any) -> Any:
        return (plain_in_span if _listens(dispatcher) else function)(*args, **given)

    return plain_call


def enter_tags(workflow: Any, run_id: str, event: Any) -> None:
    """Set the tags of a step, in the calling task and what it starts."""
    tags = installed.active_tags()
    tags["llamaindex.run_id"] = run_id
    if _listens(installed.dispatcher_of(workflow)):
        tags["llamaindex.step.input_event"] = type(event).__name__
        with contextlib.suppress(Exception):
            tags["llamaindex.step.input_summary"] = installed.summarize_event(event)
    installed.set_tags(tags)


class RunSpan:
    """The span of a run in process. Its steps are part of it.

    Args:
        workflow: The workflow of theirs.
        event: The event that starts the run; None if it goes on.
    """

    def __init__(self, workflow: Any, event: Any) -> None:
        self._workflow = workflow
        self._dispatcher = installed.dispatcher_of(workflow)
        self._id = f"{type(workflow).__name__}.run-{uuid.uuid4()}"
        self._bound = inspect.signature(_run).bind(start_event=event)

    @contextlib.contextmanager
    def entered(self) -> Iterator[None]:
        """Enter the span; what is started inside is part of it."""
        if not _listens(self._dispatcher):
            self._id = ""
            yield
            return
        parent = installed.active_span_id.get()
        self._dispatcher.span_enter(
            id_=self._id,
            bound_args=self._bound,
            instance=self._workflow,
            parent_id=parent,
        )
        token = installed.active_span_id.set(self._id)
        try:
            yield
        finally:
            installed.active_span_id.reset(token)

    def end(self, stop: Any, error: BaseException | None) -> None:
        """Leave the span: with the event that ended the run, or with what it failed with."""
        if not self._id:
            return
        dispatcher, given = self._dispatcher, {"id_": self._id, "bound_args": self._bound, "instance": self._workflow}
        if error is None:
            _tell_output(dispatcher, installed.WorkflowRunOutputEvent, stop)
            dispatcher.span_exit(**given, result=stop)
        elif isinstance(error, installed.WorkflowCancelledByUser):
            dispatcher.event(installed.SpanCancelledEvent(reason="workflow cancelled by user"))
            dispatcher.span_exit(**given, result=None)
        else:
            dispatcher.event(installed.SpanDropEvent(span_id=self._id, err_str=str(error)))
            dispatcher.span_drop(**given, err=error)


def _run(start_event: Any) -> None:
    """Have the signature that the arguments of a run's span are bound to."""


def _tell_output(dispatcher: Any, kind: type, result: Any) -> None:
    if result is not None:
        with contextlib.suppress(Exception):
            dispatcher.event(kind(output=installed.summarize_event(result)))


def _listens(dispatcher: Any) -> bool:
    """Tell whether anything but their handlers that do nothing gets spans or events."""
    while True:
        for handler in (*dispatcher.span_handlers, *dispatcher.event_handlers):
            if not isinstance(handler, installed.NULL_HANDLERS):
                return True
        if not dispatcher.propagate:
            return False
        dispatcher = dispatcher.parent
