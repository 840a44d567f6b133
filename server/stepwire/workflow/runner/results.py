"""What the body of a step comes to: events, or an error that says what went wrong."""

from __future__ import annotations

import asyncio
from typing import Any

from stepwire.workflow.checks import kind_of
from stepwire.workflow.errors import (
    CrashLoopError,
    StepError,
    StepReturnError,
    StepTimeoutError,
    WorkflowError,
    WorkflowRuntimeError,
)
from stepwire.workflow.events import Event, StopEvent

__all__ = ["is_final", "may_be_retried", "outputs_of", "result_error", "text_of"]


def outputs_of(step: str, result: Any, list_returns: bool) -> list[Event]:
    """Return what a step returned as a list of events (S6)."""
    if result is None:
        return []
    if isinstance(result, Event):
        return [result]
    if list_returns and isinstance(result, list):
        for item in result:
            if not isinstance(item, Event):
                raise StepReturnError(
                    f"Step '{step}' returned a list with a {type(item).__name__}, not an event",
                    step=step,
                    type_name=type(item).__name__,
                )
        return result
    raise StepReturnError(
        f"Step '{step}' returned {kind_of(result)} instead of an Event instance",
        step=step,
        type_name=type(result).__name__,
    )


def is_final(error: BaseException) -> bool:
    """Tell whether an error is the program's, so that neither a retry nor a catch can help."""
    return isinstance(error, StepReturnError)


def may_be_retried(error: BaseException) -> bool:
    """Tell whether a retry policy is asked: not when the body returned a wrong type, was cancelled or wanted to end."""
    return not isinstance(
        error, StepReturnError | asyncio.CancelledError | GeneratorExit | KeyboardInterrupt | SystemExit
    )


def text_of(error: BaseException | None) -> str:
    """Return the text of an error; its type when it cannot say it."""
    try:
        return str(error)
    except BaseException:  # noqa: BLE001 - __str__ is the author's code
        return type(error).__name__


def result_error(error: BaseException | None, event: StopEvent) -> WorkflowError:
    """Return what the awaiting of a failed run raises, with the step's own exception as its cause."""
    step = getattr(event, "step", None)
    if isinstance(error, StepReturnError) or (step is None and isinstance(error, WorkflowRuntimeError)):
        return error
    if step is None:
        failed: WorkflowError = WorkflowRuntimeError(text_of(error))
    else:
        message = getattr(event, "message", "") if error is None else text_of(error) or type(error).__name__
        # The engine's own say more; those of a nested run have come to their end, and a cause.
        own = isinstance(error, StepTimeoutError | CrashLoopError) and error.__cause__ is None
        kind = type(error) if own and isinstance(error, StepError) else StepError
        failed = kind(
            f"Error in step '{step}': {message}",
            step=step,
            attempts=getattr(event, "attempts", 0),
        )
    failed.__cause__ = error
    return failed
