"""`stepwire pause` and `stepwire resume`: of a run, of a workflow, or of all runs that filters choose."""

from __future__ import annotations

from typing import Annotated

import typer

from stepwire.cli._arguments import DEFAULT_SERVER, JsonOrLines, Server, SomeRun
from stepwire.cli._calling import call
from stepwire.cli._filters import Filters, takes_options
from stepwire.cli._help import examples
from stepwire.cli._many import Many, act_on_many
from stepwire.cli._run_ids import whole_id
from stepwire.cli._showing import show_run
from stepwire.cli.render.records import pause_record
from stepwire.cli.render.terminal import Output
from stepwire.client import Client

__all__ = ["register"]

_ONE = Many()
_ANY = Filters()


def register(app: typer.Typer) -> None:
    """Add the commands."""
    lines = (
        "stepwire pause 3f2a9c",
        'stepwire pause --workflow orders --reason "the bank is down"',
        "stepwire pause --all --workflow orders --label team=blue",
    )
    app.command(epilog=examples(*lines))(pause)
    lines = ("stepwire resume 3f2a9c", "stepwire resume --workflow orders", "stepwire resume --all --label team=blue")
    app.command(epilog=examples(*lines))(resume)


@takes_options
def pause(
    run_id: SomeRun = None,
    reason: Annotated[str, typer.Option(metavar="TEXT", help="The reason, for people.")] = "",
    many: Many = _ONE,
    filters: Filters = _ANY,
    server: Server = DEFAULT_SERVER,
    as_json: JsonOrLines = False,
) -> None:
    """Pause runs, or a workflow: nothing new starts, input is kept.

    What runs finishes. --workflow without --all pauses the workflow: its runs, and those that are started later.
    """
    output = Output(json=as_json)
    workflow = _workflow(run_id, many, filters)
    if many.every:
        act_on_many(server, output, "pause", many, filters, reason)
        return

    async def body(client: Client) -> None:
        if run_id is not None:
            run = client.run(await whole_id(client, run_id))
            await run.pause(reason)
            await show_run(client, output, await run.info())  # the answer does not tell what the run works on
            return
        found = await client.pause_workflow(workflow, reason)
        if as_json:
            output.document({"workflow": workflow, "pause": pause_record(found)})
        else:
            output.note(f"paused {workflow}; go on: stepwire resume --workflow {workflow}")

    call(server, output, body)


@takes_options
def resume(
    run_id: SomeRun = None,
    many: Many = _ONE,
    filters: Filters = _ANY,
    server: Server = DEFAULT_SERVER,
    as_json: JsonOrLines = False,
) -> None:
    """Let paused runs, or a paused workflow, go on.

    --workflow without --all resumes the workflow.
    """
    output = Output(json=as_json)
    workflow = _workflow(run_id, many, filters)
    if many.every:
        act_on_many(server, output, "resume", many, filters)
        return

    async def body(client: Client) -> None:
        if run_id is not None:
            run = client.run(await whole_id(client, run_id))
            await run.resume()
            await show_run(client, output, await run.info())
            return
        await client.resume_workflow(workflow)
        if as_json:
            output.document({"workflow": workflow, "pause": None})
        else:
            output.note(f"resumed {workflow}")

    call(server, output, body)


def _workflow(run_id: str | None, many: Many, filters: Filters) -> str:
    """Return the workflow to pause or resume; empty if it is runs. Raise typer.BadParameter unless one is chosen."""
    if run_id is None and not many.every and filters == Filters(workflow=filters.workflow) and filters.workflow:
        return filters.workflow
    many.check(run_id, filters)
    return ""
