"""Checks of what callers pass: messages say what was expected and what came, never the value."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from numbers import Integral, Real
from uuid import UUID

from stepwire.workflow.errors import WorkflowConfigurationError, WorkflowRuntimeError
from stepwire.workflow.events import Event
from stepwire.workflow.jsonable import is_text

__all__ = ["check_expected", "check_settings", "check_start", "check_wait", "is_seconds", "kind_of", "name_of"]


_NUMBERS = (int, float, Real)  # the usual ones first: Real is slow to ask


def kind_of(value: object) -> str:
    """Say what a value is: the name of its type, or which class it is."""
    return f"the class {value.__name__}" if isinstance(value, type) else type(value).__name__


def is_seconds(value: object) -> bool:
    """Tell whether it is a number of seconds."""
    return isinstance(value, _NUMBERS) and not isinstance(value, bool) and not math.isnan(value)


def check_settings(name: str, timeout: object, num_concurrent_runs: object) -> None:
    """Raise WorkflowConfigurationError for settings that no run could be bounded by."""
    if timeout is not None and not is_seconds(timeout):
        raise WorkflowConfigurationError(
            f"Workflow {name!r}: timeout must be a number of seconds or None, not {kind_of(timeout)}"
        )
    if num_concurrent_runs is not None and (not isinstance(num_concurrent_runs, Integral) or num_concurrent_runs < 0):
        raise WorkflowConfigurationError(f"Workflow {name!r}: num_concurrent_runs must be a positive int or None")


def check_wait(event_type: object, waiter_event: object, requirements: object, timeout: object) -> None:
    """Raise WorkflowRuntimeError for arguments of `wait_for_event` that nothing could answer."""
    if not _is_event_class(event_type):
        raise WorkflowRuntimeError(f"wait_for_event takes an Event class, not {kind_of(event_type)}")
    if waiter_event is not None and not isinstance(waiter_event, Event | dict):
        raise WorkflowRuntimeError(f"wait_for_event: waiter_event must be an Event, not {kind_of(waiter_event)}")
    if requirements is not None and not isinstance(requirements, dict):
        raise WorkflowRuntimeError(
            f"wait_for_event: requirements must be a dict of fields, not {kind_of(requirements)}"
        )
    if timeout is not None and not is_seconds(timeout):
        raise WorkflowRuntimeError(f"wait_for_event: timeout must be seconds or None, not {kind_of(timeout)}")


def check_start(run_id: object, labels: object, timeout: object) -> None:
    """Raise WorkflowRuntimeError for arguments of `start_run` that are of a wrong type."""
    if not isinstance(run_id, str):
        raise WorkflowRuntimeError(f"start_run: run_id must be a str, not {kind_of(run_id)}")
    if labels is not None:
        if not isinstance(labels, Mapping):
            raise WorkflowRuntimeError(f"start_run: labels must be a dict of str to str, not {kind_of(labels)}")
        for each in (*labels, *labels.values()):
            if not isinstance(each, str):
                raise WorkflowRuntimeError(f"start_run: labels must be a dict of str to str, one holds {kind_of(each)}")
    if timeout is not None and not is_seconds(timeout):
        raise WorkflowRuntimeError(f"start_run: timeout must be a number of seconds or None, not {kind_of(timeout)}")


def name_of(what: str, name: object) -> str:
    """Return a name that an author has chosen as the text that a snapshot keeps.

    Args:
        what: Which argument it is.
        name: Text, or a number or UUID, which is taken as its text.

    Raises:
        WorkflowRuntimeError: It is something else, or text that no snapshot could hold.
    """
    if isinstance(name, str):
        text = str.__str__(name)
        if not is_text(text):
            raise WorkflowRuntimeError(f"{what} must be valid Unicode")
        return text
    if isinstance(name, int | UUID):
        return str(name)
    raise WorkflowRuntimeError(f"{what} must be a str, not {kind_of(name)}")


def check_expected(expected: object) -> None:
    """Raise WorkflowRuntimeError when something else than event classes is to be collected."""
    if isinstance(expected, type) or not isinstance(expected, Iterable):
        raise WorkflowRuntimeError(f"collect_events expects a list of Event classes, not {kind_of(expected)}")
    for each in expected:
        if not _is_event_class(each):
            raise WorkflowRuntimeError(f"collect_events expects Event classes, not {kind_of(each)}")


def _is_event_class(value: object) -> bool:
    return isinstance(value, type) and issubclass(value, Event)
