"""`stepwire runs`, `cancel` and `delete`."""

from __future__ import annotations

from typing import Annotated

import typer

from stepwire.cli._arguments import DEFAULT_SERVER, Json, RunId, Server
from stepwire.cli._calling import call
from stepwire.cli._help import examples
from stepwire.cli._parsing import labels, moment
from stepwire.cli.render.pages import run_page
from stepwire.cli.render.records import run_record
from stepwire.cli.render.tables import runs_table
from stepwire.cli.render.terminal import Output
from stepwire.client import Client, RunInfo, RunStatus

__all__ = ["register"]

STATUSES = tuple(str(status) for status in RunStatus if status is not RunStatus.UNSPECIFIED)


def register(app: typer.Typer) -> None:
    """Add the commands."""
    lines = (
        "stepwire runs --status waiting --workflow orders",
        "stepwire runs --since 2h --json",
        "stepwire runs 01J9Z",
    )
    app.command(epilog=examples(*lines))(runs)
    app.command(epilog=examples('stepwire cancel 01J9Z --reason "wrong order"'))(cancel)
    app.command(epilog=examples("stepwire delete 01J9Z"))(delete)


def runs(
    run_id: Annotated[
        str | None, typer.Argument(metavar="RUN", help="One run, to show all of it.", show_default=False)
    ] = None,
    workflow: Annotated[str | None, typer.Option("--workflow", "-w", help="Only runs of this workflow.")] = None,
    status: Annotated[
        list[str] | None, typer.Option(metavar="STATUS", help=f"Only runs with this status: {', '.join(STATUSES)}.")
    ] = None,
    label: Annotated[list[str] | None, typer.Option(metavar="KEY=VALUE", help="Only runs with this label.")] = None,
    since: Annotated[
        str | None, typer.Option(metavar="TIME", help="Only runs created after this: 2h (ago), or an ISO time.")
    ] = None,
    before: Annotated[str | None, typer.Option(metavar="TIME", help="Only runs created before this.")] = None,
    limit: Annotated[
        int, typer.Option("--limit", "-n", min=1, help="How many to list at most. The newest come first.")
    ] = 50,
    results: Annotated[
        bool, typer.Option("--results", help="List results and tracebacks too, which --json shows.")
    ] = False,
    server: Server = DEFAULT_SERVER,
    as_json: Json = False,
) -> None:
    """List runs, or show one: status, open questions, outcome."""
    output = Output(json=as_json)
    for item in status or ():
        if item not in STATUSES:
            raise typer.BadParameter(f"{item!r} is not one of {', '.join(STATUSES)}", param_hint="--status")
    wanted = labels(label or ())
    created_after = moment(since) if since is not None else None
    created_before = moment(before) if before is not None else None

    async def show_all(client: Client) -> None:
        found: list[RunInfo] = []
        pages = client.list_runs(
            workflow=workflow,
            statuses=status or (),
            labels=wanted,
            created_after=created_after,
            created_before=created_before,
            page_size=min(limit + 1, 1000),
            results=results,
        )
        async for info in pages:
            found.append(info)
            if len(found) > limit:
                break
        if as_json:
            output.document([run_record(info) for info in found[:limit]])
            return
        output.show(runs_table(found[:limit]))
        if len(found) > limit:
            output.note(f"there are more: --limit {limit * 2}, or a filter", style="dim")

    async def show_one(client: Client) -> None:
        _show(output, await client.get_run(run_id or ""))

    call(server, output, show_all if run_id is None else show_one)


def cancel(
    run_id: RunId,
    reason: Annotated[str, typer.Option(help="The reason, for people. It is kept with the run.")] = "",
    server: Server = DEFAULT_SERVER,
    as_json: Json = False,
) -> None:
    """Cancel a run. A run that has ended stays as it is."""
    output = Output(json=as_json)

    async def body(client: Client) -> None:
        _show(output, await client.run(run_id).cancel(reason))

    call(server, output, body)


def delete(
    run_id: RunId,
    server: Server = DEFAULT_SERVER,
    as_json: Json = False,
) -> None:
    """Delete an ended run with its log and snapshots."""
    output = Output(json=as_json)

    async def body(client: Client) -> None:
        await client.run(run_id).delete()
        if as_json:
            output.document({"run_id": run_id, "deleted": True})
        else:
            output.note(f"deleted run {run_id}")

    call(server, output, body)


def _show(output: Output, info: RunInfo) -> None:
    if output.json:
        output.document(run_record(info))
    else:
        output.show(run_page(info))
