"""Runs that a step of an adopted workflow starts: an agent as a tool of another agent.

`run` of a workflow of theirs, called inside a step of an adopted one, runs on this engine, too; anywhere else it does
what it did. On a server that serves that workflow, the run is a child (`child_runs`). Else it belongs to the step: its
questions are asked at the outer run and its answers kept there.
"""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any

from stepwire.workflow.broker.current import running_execution
from stepwire.workflow.llamaindex import installed

__all__ = ["run_nested_here"]

_done = False


def run_nested_here(adopt_workflow: Callable[[Any, None], Any]) -> None:
    """Have runs that are started inside steps of adopted workflows run on this engine.

    Args:
        adopt_workflow: Adopts a workflow of theirs.
    """
    global _done
    if _done:
        return
    _done = True
    original = installed.workflow_type.run

    @functools.wraps(original)
    def run(self: Any, ctx: Any = None, start_event: Any = None, **kwargs: Any) -> Any:
        execution = running_execution()
        if execution is None or execution.finished or execution.context is None:
            return original(self, ctx=ctx, start_event=start_event, **kwargs)
        return adopt_workflow(self, None).run(ctx=ctx, start_event=start_event, **kwargs)

    installed.workflow_type.run = run
