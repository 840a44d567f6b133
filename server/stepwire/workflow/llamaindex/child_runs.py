"""Durable children: a workflow of theirs that a step runs, and that the same server serves, is a run of its own."""

from __future__ import annotations

import logging
import math
from typing import Any, Protocol

from stepwire.workflow.broker.current import running_execution
from stepwire.workflow.child_runs import ChildHandler
from stepwire.workflow.context.context import run_of
from stepwire.workflow.definition.types import TypeRegistry
from stepwire.workflow.errors import ChildRunError, WorkflowRuntimeError
from stepwire.workflow.llamaindex import installed
from stepwire.workflow.llamaindex.child_handler import AdoptedChildHandler, ChildFace
from stepwire.workflow.llamaindex.child_input import UnfitError, input_of
from stepwire.workflow.state.store import in_edit_state

__all__ = ["is_of_child", "start_child"]

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


def is_of_child(ctx: Any) -> bool:
    """Tell whether a context is that of a child."""
    return installed.is_context(ctx) and isinstance(installed.face_of(ctx), ChildFace)


def start_child(
    workflow: Inner, event: Any, run_id: str | None, timeout: float | None, ctx: Any = None
) -> AdoptedChildHandler | None:
    """Start a child, or return None if the run is to be nested in the step that calls.

    It is nested if no step of a run on a server calls, if the server does not serve the workflow, and if its input
    does not come back equal from JSON: a warning says so.

    Args:
        workflow: The workflow that is to run.
        event: Its start event.
        run_id: The id that the child shall have; None for one that is made from the outer run's.
        timeout: Seconds that it may take; None for any time.
        ctx: The context of a child that has ended and whose state it begins with; None for none.

    Raises:
        WorkflowRuntimeError: Of theirs: it cannot be started, as runs are nested too deep, or there are too many.
        ContextStateError: The child of the context has not ended.
    """
    before = None if ctx is None else installed.face_of(ctx)
    if before is not None and before.is_running:
        raise installed.ContextStateError(
            "Cannot start a new run while context is already running. Wait for completion or use a new Context."
        )
    outer = running_execution()
    starts: Any = None if outer is None or outer.finished or outer.context is None else run_of(outer.context).children
    if starts is None or not starts.here or in_edit_state() or not (name := starts.served_as(workflow)):
        _check_nested(before, "no step of a run on a server that serves this workflow calls")
        return None
    try:
        data = input_of(event, workflow.start_event_class, workflow.type_names, starts.input_bytes)
    except UnfitError as error:
        _warn(name, str(error))
        _check_nested(before, str(error))
        return None
    try:
        handler = starts.start(
            name,
            data,
            run_id=run_id or "",
            timeout=math.inf if timeout is None else timeout,
            from_run="" if before is None else before.handler.run_id,
        )
    except (ChildRunError, WorkflowRuntimeError) as error:
        raise installed.WorkflowRuntimeError(str(error)) from error
    assert isinstance(handler, ChildHandler)
    return AdoptedChildHandler(workflow.adopted, handler, workflow.type_names, workflow.exception_modules, ctx)


def _check_nested(before: ChildFace | None, why: str) -> None:
    """Refuse that a run which is to be nested goes on with the context of a child."""
    if before is not None:
        raise installed.WorkflowRuntimeError(
            f"the context is that of run {before.handler.run_id}, a run of its own on the server, and this run cannot"
            f" begin with its state: {why}"
        )


def _warn(workflow: str, why: str) -> None:
    if (workflow, why) not in _warned:
        _warned.add((workflow, why))
        logger.warning(
            "a run of workflow %s, started by a step, is nested in that step and not durable by itself: %s",
            workflow,
            why,
        )
