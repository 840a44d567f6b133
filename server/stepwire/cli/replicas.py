"""`stepwire replicas`."""

from __future__ import annotations

import asyncio
from dataclasses import asdict
from typing import TYPE_CHECKING, Annotated

import typer

from stepwire.cli._arguments import Json
from stepwire.cli._exit_codes import ERROR, USAGE
from stepwire.cli._help import examples
from stepwire.cli.render.terminal import Output
from stepwire.server.extras import not_installed

if TYPE_CHECKING:
    from stepwire.server.store.postgres.inspection import ReplicaInspection

__all__ = ["register"]

EPILOG = examples("stepwire replicas --data postgres://stepwire@db.internal/stepwire")


def register(app: typer.Typer) -> None:
    """Add the command."""
    app.command(epilog=EPILOG)(replicas)


def replicas(
    data: Annotated[
        str,
        typer.Option(
            "--data",
            envvar="STEPWIRE_DATA",
            metavar="URL",
            help="The PostgreSQL that the replicas share, as for serve.",
        ),
    ] = "",
    as_json: Json = False,
) -> None:
    """List the replicas on a PostgreSQL, and what each of them has.

    It shows where they are, what they serve and how many runs they have. Asks the database, not the replicas. Exits
    with 1 when it cannot be reached.
    """
    output = Output(json=as_json)
    if not data.startswith(("postgres://", "postgresql://")):
        output.note("error: --data must be postgres://USER@HOST/DATABASE: only there are replicas", style="red")
        raise typer.Exit(USAGE)
    try:
        # Imported here: the help of the command must not wait for the driver.
        from stepwire.cli.render.tables import replicas_table
        from stepwire.server.store.errors import StoreError
        from stepwire.server.store.postgres.inspection import inspect_database
    except ModuleNotFoundError as error:
        output.note(f"error: {not_installed(error, 'postgres')}", style="red")
        raise typer.Exit(ERROR) from None
    try:
        found: list[ReplicaInspection] = list(asyncio.run(inspect_database(data)).replicas)
    except StoreError as error:
        output.note(f"error: {error}", style="red")
        raise typer.Exit(ERROR) from None
    if as_json:
        output.document({"replicas": [asdict(each) for each in found]})
    elif found:
        output.show(replicas_table(found))
    else:
        output.note("no replica is up")
