"""`stepwire history` and `stepwire fork`: the past of a run, and other runs from a moment of it."""

from __future__ import annotations

from typing import Annotated

import typer
from rich.text import Text

from stepwire.cli._arguments import DEFAULT_SERVER, FieldsDocument, Json, JsonLines, RunId, Server
from stepwire.cli._calling import call
from stepwire.cli._help import examples
from stepwire.cli._log import log_beginning
from stepwire.cli._parsing import fields
from stepwire.cli._run_ids import whole_id
from stepwire.cli.render.activity import delivery_states
from stepwire.cli.render.progress import event_line
from stepwire.cli.render.records import event_record, run_record, snapshot_record
from stepwire.cli.render.terminal import Output
from stepwire.cli.render.tree import LEGEND, history_tree
from stepwire.client import Client, SnapshotInfo, event_meta

__all__ = ["register"]

_TREE_ENTRIES = 5_000
"""A tree needs the whole log in memory, and nobody reads a longer one."""


def register(app: typer.Typer) -> None:
    """Add the commands."""
    app.command(epilog=examples("stepwire history 3f2a9c", "stepwire history 3f2a9c --json"))(history)
    app.command(epilog=examples("stepwire fork 3f2a9c --at 12", "stepwire fork 3f2a9c --at 40 --run-id second-try"))(
        fork
    )


def history(
    run_id: RunId,
    flat: Annotated[bool, typer.Option("--flat", help="A line for each entry, in order, instead of a tree.")] = False,
    server: Server = DEFAULT_SERVER,
    as_json: JsonLines = False,
) -> None:
    """Write what happened in a run, as a tree.

    It has each event, the steps that took it, their attempts, errors and durations, and the events that they made. A
    line is marked * when the server keeps a snapshot at its sequence: the run can be forked there. A log of more than
    5,000 entries is written flat.
    """
    output = Output(json=as_json)

    async def body(client: Client) -> None:
        run = client.run(await whole_id(client, run_id))
        kept: dict[int, SnapshotInfo] = {info.sequence: info async for info in run.snapshots()}
        after = await log_beginning(run, output)
        info = await run.info()
        for what, origin in (("retries", info.retried_from), ("forked from", info.forked_from)):
            if origin is not None and not as_json:
                output.line(Text(f"{what} {origin[0]} at {origin[1]}", style="dim"))
        if not flat and not as_json and info.last_sequence - after <= _TREE_ENTRIES:
            events = [event async for event in run.events(after, internal=True, follow=False)]
            # What the log says about unfinished steps is newer than the answer above, so ask again.
            for line in history_tree(events, kept.keys(), delivery_states(await run.info())):
                output.line(line)
            output.progress_note(LEGEND)
            return
        async for event in run.events(after, internal=True, follow=False):
            snapshot = kept.get(event_meta(event).sequence)
            if as_json:
                found = snapshot_record(snapshot) if snapshot is not None else None
                output.record({**event_record(event), "snapshot": found})
            else:
                line = event_line(event)
                output.line(line.__class__("* " if snapshot is not None else "  ").append_text(line))
        output.progress_note(LEGEND)

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
    document: FieldsDocument = None,
    new_id: Annotated[
        str | None, typer.Option("--run-id", metavar="ID", help="The id of the new run. Default: the server chooses.")
    ] = None,
    fresh_budgets: Annotated[
        bool, typer.Option("--fresh-budgets", help="Give it whole retry budgets and a whole timeout.")
    ] = False,
    server: Server = DEFAULT_SERVER,
    as_json: Json = False,
) -> None:
    """Start another run from a moment of a run's past. The run itself stays as it is."""
    output = Output(json=as_json)
    start = fields(values or (), document)

    async def body(client: Client) -> None:
        original = await client.get_run(await whole_id(client, run_id))
        forked = await client.start_run(
            original.workflow, start, run_id=new_id, from_run=(original.run_id, at), fresh_budgets=fresh_budgets
        )
        if as_json:
            output.document(run_record(await forked.info()))
            return
        output.line(Text(forked.run_id))
        moment = f"sequence {at}" if at else "its last snapshot"
        output.note(f"forked from {original.run_id} at {moment}; follow it: stepwire events {forked.run_id} --follow")

    call(server, output, body)
