"""`stepwire reload`."""

from __future__ import annotations

from typing import Annotated

import typer

from stepwire.cli._arguments import DEFAULT_SERVER, JsonLines, Server
from stepwire.cli._calling import call
from stepwire.cli._exit_codes import ERROR
from stepwire.cli._help import examples
from stepwire.cli._hints import hint
from stepwire.cli._run_ids import whole_id
from stepwire.cli.render.records import run_record
from stepwire.cli.render.terminal import Output
from stepwire.cli.render.text import clean
from stepwire.client import Client, FailedPreconditionError, NotFoundError

__all__ = ["register"]


def register(app: typer.Typer) -> None:
    """Add the command."""
    app.command(epilog=examples("stepwire reload 3f2a9c", "stepwire reload --workflow orders"))(reload)


def reload(
    runs: Annotated[
        list[str] | None, typer.Argument(metavar="RUN", help="The ids of the runs.", show_default=False)
    ] = None,
    workflow: Annotated[
        str | None,
        typer.Option("--workflow", "-w", metavar="NAME", help="All waiting and blocked runs of this workflow instead."),
    ] = None,
    server: Server = DEFAULT_SERVER,
    as_json: JsonLines = False,
) -> None:
    """Take waiting or blocked runs to the code that is served now.

    Each is read by that code, migrated if the workflow says so, and written again. Then it needs neither aliases nor
    migrate() any more. A run of that code stays as it is. Exits with 1 when a run does not fit; the others go on.
    """
    if bool(runs) == (workflow is not None):
        raise typer.BadParameter("give the ids of runs, or --workflow")
    output = Output(json=as_json)
    failed = False
    blocked: FailedPreconditionError | None = None

    async def one(client: Client, run_id: str) -> None:
        nonlocal blocked, failed
        try:
            info = await client.run(await whole_id(client, run_id)).reload()
        except (FailedPreconditionError, NotFoundError) as error:
            if workflow is not None and error.reason in ("RUN_ENDED", "RUN_NOT_FOUND"):
                return  # it has ended since it was listed
            failed = True
            if isinstance(error, FailedPreconditionError) and error.reason == "RUN_BLOCKED":
                blocked = error
            if as_json:
                output.record({"run_id": run_id, "error": {"reason": error.reason, "message": error.message}})
            else:
                output.note(f"{clean(run_id, keep='')}: {clean(error.message, keep='')}", style="red")
            return
        if as_json:
            output.record(run_record(info))
        else:
            output.text(f"{info.run_id}  {info.status}  {info.workflow} {info.workflow_version[:12]}")

    async def body(client: Client) -> None:
        for run_id in runs or ():
            await one(client, run_id)
        if workflow is not None:
            async for info in client.list_runs(workflow=workflow, statuses=("waiting", "blocked")):
                await one(client, info.run_id)

    call(server, output, body)
    if blocked is not None and (told := hint(blocked, server, tls=False, token=True)):
        output.note(told, style="dim")  # once for all of them
    if failed:
        raise typer.Exit(ERROR)
