"""`stepwire cancel`, `retry` and `delete`: of one run, or of all that filters choose."""

from __future__ import annotations

from typing import Annotated

import typer

from stepwire.cli._arguments import DEFAULT_SERVER, JsonOrLines, Server, SomeRun
from stepwire.cli._calling import call
from stepwire.cli._filters import Filters, takes_options
from stepwire.cli._help import examples
from stepwire.cli._many import Many, act_on_many
from stepwire.cli._parsing import labels
from stepwire.cli._run_ids import whole_id
from stepwire.cli._showing import show_run
from stepwire.cli.render.records import run_record
from stepwire.cli.render.terminal import Output
from stepwire.client import Client

__all__ = ["register"]

_ONE = Many()
_ANY = Filters()


def register(app: typer.Typer) -> None:
    """Add the commands."""
    of_cancel = ('stepwire cancel 3f2a9c --reason "wrong order"', "stepwire cancel --all --workflow orders --since 2h")
    of_retry = (
        "stepwire retry 3f2a9c",
        "stepwire retry 3f2a9c --at 12",
        "stepwire retry --all --error ConnectionError",
    )
    of_delete = ("stepwire delete 3f2a9c", "stepwire delete --all --ended-before 2026-01-01 --dry-run")
    app.command(epilog=examples(*of_cancel))(cancel)
    app.command(epilog=examples(*of_retry))(retry)
    app.command(epilog=examples(*of_delete))(delete)


@takes_options
def cancel(
    run_id: SomeRun = None,
    reason: Annotated[str, typer.Option(metavar="TEXT", help="The reason, for people. It is kept with the run.")] = "",
    many: Many = _ONE,
    filters: Filters = _ANY,
    server: Server = DEFAULT_SERVER,
    as_json: JsonOrLines = False,
) -> None:
    """Cancel a run, or many. A run that has ended stays as it is."""
    output = Output(json=as_json)
    many.check(run_id, filters)
    if run_id is None:
        act_on_many(server, output, "cancel", many, filters, reason)
        return

    async def body(client: Client) -> None:
        await show_run(client, output, await client.run(await whole_id(client, run_id)).cancel(reason))

    call(server, output, body)


@takes_options
def retry(
    run_id: SomeRun = None,
    at: Annotated[
        int | None,
        typer.Option(
            "--at", metavar="SEQUENCE", min=1, help="Go on from this moment of its past. Default: from its end."
        ),
    ] = None,
    add_label: Annotated[
        list[str] | None, typer.Option("--add-label", metavar="KEY=VALUE", help="A further label of the new run.")
    ] = None,
    many: Many = _ONE,
    filters: Filters = _ANY,
    server: Server = DEFAULT_SERVER,
    as_json: JsonOrLines = False,
) -> None:
    """Go on from what failed: start runs that continue ended ones.

    The new run takes over what a run that failed, timed out or was cancelled had in progress, with new retry budgets
    and a new timeout. Steps that have finished do not run again. The command writes the id of the new run. A second
    retry of the same run from the same moment starts nothing: it writes the id of the run that the first one started.
    With another --at it starts another run.
    """
    output = Output(json=as_json)
    many.check(run_id, filters)
    if run_id is None:
        if at is not None or add_label:
            raise typer.BadParameter("--at and --add-label go with one run")
        act_on_many(server, output, "retry", many, filters)
        return
    added = labels(add_label or ())

    async def body(client: Client) -> None:
        original = await whole_id(client, run_id)
        retried = await client.run(original).retry(at or 0, labels=added)
        if as_json:
            output.document(run_record(await retried.info()))
            return
        output.text(retried.run_id)
        output.note(f"retries {original}; follow it: stepwire events {retried.run_id} --follow")

    call(server, output, body)


@takes_options
def delete(
    run_id: SomeRun = None,
    many: Many = _ONE,
    filters: Filters = _ANY,
    server: Server = DEFAULT_SERVER,
    as_json: JsonOrLines = False,
) -> None:
    """Delete an ended run, or many, with logs and snapshots."""
    output = Output(json=as_json)
    many.check(run_id, filters)
    if run_id is None:
        act_on_many(server, output, "delete", many, filters)
        return

    async def body(client: Client) -> None:
        found = await whole_id(client, run_id)
        await client.run(found).delete()
        if as_json:
            output.document({"run_id": found, "deleted": True})
        else:
            output.note(f"deleted run {found}")

    call(server, output, body)
