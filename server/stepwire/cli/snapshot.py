"""`stepwire snapshot`."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Annotated

import typer

from stepwire.cli._arguments import DEFAULT_SERVER, Json, RunId, Server
from stepwire.cli._calling import call
from stepwire.cli._exit_codes import ERROR
from stepwire.cli._help import examples
from stepwire.cli._run_ids import whole_id
from stepwire.cli._targets import TargetError, writing
from stepwire.cli.render.records import snapshot_record
from stepwire.cli.render.tables import snapshots_table
from stepwire.cli.render.terminal import Output
from stepwire.client import Client

__all__ = ["register"]


def register(app: typer.Typer) -> None:
    """Add the command."""
    lines = (
        "stepwire snapshot 3f2a9c --out order.snapshot",
        "stepwire run orders --from-snapshot order.snapshot",
        "stepwire snapshot 3f2a9c --sequence 12 --json",
    )
    app.command(epilog=examples(*lines))(snapshot)


def snapshot(
    run_id: RunId,
    sequence: Annotated[
        int, typer.Option(metavar="N", min=0, help="The snapshot at this sequence. 0 is the last.")
    ] = 0,
    out: Annotated[
        Path | None,
        typer.Option(
            "--out",
            "-o",
            metavar="FILE",
            help="Write it to a file, in a binary form to start a run from. - is standard output.",
        ),
    ] = None,
    force: Annotated[bool, typer.Option("--force", help="Replace the file of --out if it exists.")] = False,
    list_all: Annotated[bool, typer.Option("--list", help="List the snapshots that the server keeps.")] = False,
    server: Server = DEFAULT_SERVER,
    as_json: Json = False,
) -> None:
    """Fetch a run's context, to read or to start a run from.

    Without --out it is a JSON document.
    """
    output = Output(json=as_json)

    async def show(client: Client) -> None:
        found = await client.run(await whole_id(client, run_id)).snapshot(sequence, context_dict=out is None)
        if out is None:
            output.document(found.context_dict)
            return
        data = bytes(found)
        if str(out) == "-":
            sys.stdout.buffer.write(data)
            sys.stdout.buffer.flush()
            return
        try:
            with writing(out, force=force) as file:
                file.write(data)
        except TargetError as error:
            output.note(f"error: {error}", style="red")
            raise typer.Exit(ERROR) from None
        except OSError as error:
            output.note(f"error: cannot write {out}: {error.strerror}", style="red")
            raise typer.Exit(ERROR) from None
        if as_json:
            output.document(
                {"run_id": found.run_id, "sequence": found.sequence, "file": str(out), "size_bytes": len(data)}
            )
        else:
            output.note(f"wrote {out}: {found.workflow}, run {found.run_id} at {found.sequence}, {len(data)} bytes")

    async def list_them(client: Client) -> None:
        found = [info async for info in client.run(await whole_id(client, run_id)).snapshots()]
        if as_json:
            output.document([snapshot_record(info) for info in found])
        else:
            output.show(snapshots_table(found))

    call(server, output, list_them if list_all else show)
