"""Run workflows and agents of LlamaIndex 2.x on this engine, unchanged: `adopt` makes a Workflow of one of theirs.

Their package (`workflows`, from llama-index-workflows) stays what it is: its classes, events, validation, resources and
retry policies are used as installed, and the author's module is not touched. Nothing here imports it before the first
workflow of theirs is adopted.

- `versions` says which versions fit.
- `installed` knows the names of the other package, the private ones too; no other module does.
- `event_form` makes their events count as ours, and writes and reads them as plain JSON.
- `steps` turns the configurations of their steps into ours.
- `adopted` is the workflow that results; `faces` is the context that its steps get, `handler` what `run` returns.
- `nesting` decides where `run` in a step goes: nested in it, or to a run of its own, which `child_runs` starts;
  `child_input` is what that is given, `child_handler` what `run` returns then.
- `libraries` finds the types that values may have, and what does not survive a restart.
"""

from __future__ import annotations

import sys
from typing import Any

from stepwire.workflow.llamaindex.versions import check_version, unfit
from stepwire.workflow.workflow import Workflow

__all__ = ["adopt", "is_adoptable"]


def is_adoptable(value: object) -> bool:
    """Tell whether a value is a workflow of LlamaIndex 2.x, or a class of such; imports nothing."""
    module = sys.modules.get("workflows.workflow")
    base = getattr(module, "Workflow", None)
    if not isinstance(base, type) or issubclass(base, Workflow):
        return False
    kind = value if isinstance(value, type) else type(value)
    return issubclass(kind, base) and value is not base


def adopt(workflow: Any, *, module: str | None = None) -> Workflow:
    """Return the Workflow that runs a workflow or an agent of LlamaIndex 2.x; the same for the same object.

    Args:
        workflow: An object of `workflows.Workflow`, or a class that is made without arguments.
        module: The name of the module that the object is found in: the events and models of that module may occur
            in runs, too. By default the one that defines its class.

    Raises:
        WorkflowConfigurationError: It is neither, or an unsupported version of llama-index-workflows is installed.
        WorkflowValidationError: Its steps do not fit together.
    """
    check_version()
    try:
        from stepwire.workflow.llamaindex.adopted import adopt_workflow
    except ImportError as error:  # a version to come may lack a private name
        raise unfit(str(error)) from error
    return adopt_workflow(workflow, module)
