"""`stepwire history` and `stepwire fork`: the past of a run, and other runs from a moment of it."""

from __future__ import annotations

from typing import Annotated

import typer
from rich.text import Text

from stepwire.cli._arguments import DEFAULT_SERVER, Json, RunId, Server
from stepwire.cli._calling import call
from stepwire.cli._help import examples
from stepwire.cli._log import log_beginning
from stepwire.cli._parsing import fields
from stepwire.cli.render.progress import event_line
from stepwire.cli.render.records import event_record, run_record, snapshot_record
from stepwire.cli.render.terminal import Output
from stepwire.client import Client, SnapshotInfo, event_meta

__all__ = ["register"]


def register(app: typer.Typer) -> None:
    """Add the commands."""
    app.command(epilog=examples("stepwire history 01J9Z", "stepwire history 01J9Z --json"))(history)
    app.command(epilog=examples("stepwire fork 01J9Z --at 12", "stepwire fork 01J9Z --at 40 --run-id second-try"))(fork)


def history(run_id: RunId, server: Server = DEFAULT_SERVER, as_json: Json = False) -> None:
    """Write everything that happened in a run.

    A line is marked * when the server keeps a snapshot at its sequence: the run can be forked there.
    """
    output = Output(json=as_json)

    async def body(client: Client) -> None:
        run = client.run(run_id)
        kept: dict[int, SnapshotInfo] = {info.sequence: info async for info in run.snapshots()}
        async for event in run.events(await log_beginning(run, output), internal=True, follow=False):
            snapshot = kept.get(event_meta(event).sequence)
            if as_json:
                found = snapshot_record(snapshot) if snapshot is not None else None
                output.record({**event_record(event), "snapshot": found})
            else:
                line = event_line(event)
                output.line(line.__class__("* " if snapshot is not None else "  ").append_text(line))

    call(server, output, body)


def fork(
    run_id: RunId,
    at: Annotated[
        int, typer.Option("--at", metavar="SEQ", min=0, help="The sequence of the snapshot. 0 is the last.")
    ] = 0,
    values: Annotated[
        list[str] | None,
        typer.Argument(metavar="KEY=VALUE", help="Fields of the start event, only for a run that had ended."),
    ] = None,
    new_id: Annotated[
        str | None, typer.Option("--run-id", metavar="ID", help="The id of the new run. Default: the server chooses.")
    ] = None,
    server: Server = DEFAULT_SERVER,
    as_json: Json = False,
) -> None:
    """Start another run from a moment of a run's past. The run itself stays as it is."""
    output = Output(json=as_json)
    given = fields(values or (), None) or {}

    async def body(client: Client) -> None:
        original = await client.get_run(run_id)
        start = given if values else None
        forked = await client.start_run(original.workflow, start, run_id=new_id, from_run=(run_id, at))
        if as_json:
            output.document(run_record(await forked.info()))
            return
        output.line(Text(forked.run_id))
        moment = f"sequence {at}" if at else "its last snapshot"
        output.note(f"forked from {run_id} at {moment}; follow it: stepwire events {forked.run_id} --follow")

    call(server, output, body)
