"""Durable children: a workflow of theirs that a step runs, and that the same server serves, is a run of its own."""

from __future__ import annotations

import logging
import math
from typing import Any, Protocol

from stepwire.workflow.adoption import installed
from stepwire.workflow.adoption.child_handler import AdoptedChildHandler
from stepwire.workflow.adoption.event_form import fields_of
from stepwire.workflow.adoption.libraries import is_memory
from stepwire.workflow.broker.current import running_execution
from stepwire.workflow.broker.snapshot import registry_encoder
from stepwire.workflow.child_runs import ChildHandler
from stepwire.workflow.context.context import run_of
from stepwire.workflow.definition.types import TypeRegistry
from stepwire.workflow.errors import ChildRunError, WorkflowRuntimeError
from stepwire.workflow.events import Event, event_from_json, event_to_json
from stepwire.workflow.state.store import in_edit_state

__all__ = ["start_child"]

logger = logging.getLogger("stepwire.workflow")

_warned: set[tuple[str, str]] = set()
"""Names of workflows and why a run of theirs stayed nested: told once each."""


class Inner(Protocol):
    """The workflow of ours that stands for the one of theirs that a step runs."""

    adopted: Any
    start_event_class: Any

    @property
    def exception_modules(self) -> tuple[str, ...]:
        """Return the names of the modules whose exceptions its steps may raise."""

    @property
    def type_names(self) -> TypeRegistry:
        """Return the types of the workflow by their names."""


class UnfitError(Exception):
    """The input of a run cannot be passed on to a run of its own."""


def start_child(workflow: Inner, event: Any, run_id: str | None, timeout: float | None) -> AdoptedChildHandler | None:
    """Start a child, or return None if the run is to be nested in the step that calls.

    It is nested if no step of a run on a server calls, if the server does not serve the workflow, and if its input
    does not come back equal from JSON: a warning says so.

    Args:
        workflow: The workflow that is to run.
        event: Its start event.
        run_id: The id that the child shall have; None for one that is made from the outer run's.
        timeout: Seconds that it may take; None for any time.

    Raises:
        WorkflowRuntimeError: Of theirs: it cannot be started, as runs are nested too deep, or there are too many.
    """
    outer = running_execution()
    starts: Any = None if outer is None or outer.finished or outer.context is None else run_of(outer.context).children
    if starts is None or not starts.here or in_edit_state() or not (name := starts.served_as(workflow)):
        return None
    try:
        data = input_of(workflow, event, starts.input_bytes)
    except UnfitError as error:
        _warn(name, str(error))
        return None
    try:
        handler = starts.start(name, data, run_id=run_id or "", timeout=math.inf if timeout is None else timeout)
    except (ChildRunError, WorkflowRuntimeError) as error:
        raise installed.WorkflowRuntimeError(str(error)) from error
    assert isinstance(handler, ChildHandler)
    return AdoptedChildHandler(workflow.adopted, handler, workflow.type_names, workflow.exception_modules)


def input_of(workflow: Inner, event: Any, most: int) -> bytes:
    """Return a start event as JSON.

    Raises:
        UnfitError: Another process would not get the same event from it.
    """
    if type(event) is not workflow.start_event_class:
        raise UnfitError(f"its start event is a {type(event).__name__}, not a {workflow.start_event_class.__name__}")
    for name, value in fields_of(event):
        if is_memory(value):
            raise UnfitError(f"{name} is a memory object of the caller, which a run of its own cannot share")
    encode = registry_encoder(workflow.type_names)
    try:
        data = event_to_json(event)
        again: Event = event_from_json(type(event), data)
        if encode(event) != encode(again):
            raise UnfitError(_differing(encode, event, again))
    except UnfitError:
        raise
    except Exception as error:  # an author's serializers and validators raise anything
        raise UnfitError(f"its input cannot be saved: {error}") from error
    if len(data) > most:
        raise UnfitError(f"its input has {len(data)} bytes as JSON, and may have {most} (max_entry_bytes)")
    return data


def _differing(encode: Any, event: Any, again: Any) -> str:
    after = dict(fields_of(again))
    names = [name for name, value in fields_of(event) if name not in after or encode(value) != encode(after[name])]
    return f"{', '.join(names) or 'its input'} would not be the same after JSON"


def _warn(workflow: str, why: str) -> None:
    if (workflow, why) not in _warned:
        _warned.add((workflow, why))
        logger.warning(
            "a run of workflow %s, started by a step, is nested in that step and not durable by itself: %s",
            workflow,
            why,
        )
