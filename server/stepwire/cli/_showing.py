"""Show one run, with what its open questions take."""

from __future__ import annotations

from stepwire.cli.render.pages import run_page
from stepwire.cli.render.records import run_record
from stepwire.cli.render.terminal import Output
from stepwire.client import Client, NotFoundError, RunInfo, WorkflowInfo

__all__ = ["show_run", "workflow_of"]


async def show_run(client: Client, output: Output, info: RunInfo, workflow: WorkflowInfo | None = None) -> None:
    """Write a run. Its workflow is asked for when it is not given and the run has open questions."""
    if output.json:
        output.document(run_record(info))
        return
    output.show(run_page(info, workflow=workflow or await workflow_of(client, info)))


async def workflow_of(client: Client, info: RunInfo) -> WorkflowInfo | None:
    """Return the workflow of a run with open questions, whose fields are told; None when it is not served."""
    if not info.pending_waiters:
        return None
    try:
        return await client.workflow(info.workflow)
    except NotFoundError:
        return None
