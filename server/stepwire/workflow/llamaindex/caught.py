"""Failures of steps, told in the classes of LlamaIndex 2.x: to `catch_error` steps, streams and callers."""

from __future__ import annotations

import builtins
import sys
from collections.abc import Collection, Iterator
from datetime import UTC, datetime
from typing import Any

from stepwire.workflow.broker.outcome import CANCELLED, COMPLETED, ENDED_TIMED_OUT, Outcome
from stepwire.workflow.errors import WorkflowError
from stepwire.workflow.events import (
    Event,
    StepFailedEvent,
    WorkflowCancelledEvent,
    WorkflowFailedEvent,
    WorkflowTimedOutEvent,
)
from stepwire.workflow.llamaindex import installed

__all__ = ["error_of", "own_failure", "rebuilt", "their_failure", "their_stop"]

theirs: Any = installed.events


def rebuilt(error: BaseException | None, type_name: str, message: str, modules: Collection[str] = ()) -> Exception:
    """Return the exception of a failure; after a restore one of the same class if it is known, else a stand-in.

    A snapshot never makes anything but an exception of a text. Its class is a built-in one, one of theirs, or one that
    a module has which the operator's code has imported.

    Args:
        error: The exception itself, if it is there.
        type_name: The name of its class.
        message: Its text.
        modules: The names of the modules to look into.
    """
    if isinstance(error, Exception):
        return error
    for kind in _kinds(type_name, modules):
        try:
            found = kind(message)
            if str(found) != message:  # its constructor makes a text of what it is given
                found.args = (message,)
        except Exception:  # noqa: BLE001 - UnicodeError wants more arguments
            continue
        return found
    made: Exception = theirs.UnreconstructedException(message, original_type=type_name)
    return made


def _kinds(name: str, modules: Collection[str]) -> Iterator[type[Exception]]:
    """Give the classes of exceptions of a name."""
    for module in (builtins, installed.errors, *(sys.modules.get(each) for each in modules)):
        kind = getattr(module, name, None)
        if isinstance(kind, type) and issubclass(kind, Exception):
            yield kind


def their_failure(event: StepFailedEvent) -> Any:
    """Return what a `catch_error` step of theirs gets."""
    return theirs.StepFailedEvent(
        step_name=event.step,
        input_event=event.event,
        exception=rebuilt(event.exception, event.error_type, event.message),
        attempts=event.attempts,
        elapsed_seconds=event.get("elapsed_seconds", 0.0),
        failed_at=datetime.fromtimestamp(event.get("failed_at", 0.0), UTC),
    )


def own_failure(failure: Any) -> StepFailedEvent:
    """Return the failure that a saved context of theirs has for a `catch_error` step, as ours: the inverse of it."""
    error: Exception = failure.exception
    known = getattr(error, "original_type", None) or type(error).__name__
    event = StepFailedEvent(
        step=failure.step_name,
        error_type=known.rpartition(".")[2],
        message=str(error),
        attempts=failure.attempts,
        event=failure.input_event,
        elapsed_seconds=failure.elapsed_seconds,
        failed_at=failure.failed_at.timestamp(),
    )
    event.exception = error
    return event


def their_stop(event: Event, error: BaseException | None) -> Any:
    """Return an event of the stream in their classes: those that end a run otherwise than by a step differ."""
    if isinstance(event, WorkflowFailedEvent):
        return theirs.WorkflowFailedEvent(
            step_name=event.step or "",
            exception=rebuilt(error, event.error_type, event.message),
            attempts=event.attempts or None,
            elapsed_seconds=event.get("elapsed_seconds"),
        )
    if isinstance(event, WorkflowTimedOutEvent):
        return theirs.WorkflowTimedOutEvent(timeout=event.timeout, active_steps=event.active_steps)
    if isinstance(event, WorkflowCancelledEvent):
        return theirs.WorkflowCancelledEvent()
    return event


def error_of(outcome: Outcome, modules: Collection[str] = ()) -> BaseException | None:
    """Return what awaiting a run raises, as there: a step's own exception; None for a run that completed.

    Args:
        outcome: How the run ended.
        modules: The names of the modules that may have the class of an exception of which only the text is known.
    """
    event, error = outcome.event, outcome.error
    if outcome.status == COMPLETED:
        return None
    if outcome.status == CANCELLED:
        cancelled: BaseException = installed.WorkflowCancelledByUser()
        return cancelled
    if outcome.status == ENDED_TIMED_OUT:
        timeout = getattr(event, "timeout", None)
        active = getattr(event, "active_steps", ())
        steps = f"Currently active steps: {', '.join(active)}" if active else "No steps active"
        late: BaseException = installed.WorkflowTimeoutError(f"Operation timed out after {timeout} seconds. {steps}")
        return late
    if isinstance(error, WorkflowError) and not isinstance(error, installed.WorkflowRuntimeError):
        failed: BaseException = installed.WorkflowRuntimeError(str(error))
        failed.__cause__ = error
        return failed
    if error is not None:
        return error
    return rebuilt(None, getattr(event, "error_type", ""), getattr(event, "message", ""), modules)
