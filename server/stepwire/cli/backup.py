"""`stepwire backup`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from stepwire.cli._exit_codes import ERROR
from stepwire.cli._help import examples
from stepwire.cli._targets import TargetError, check_target
from stepwire.cli.render.terminal import Output
from stepwire.server.store.errors import StoreError

__all__ = ["register"]


def register(app: typer.Typer) -> None:
    """Add the command."""
    app.command(epilog=examples("stepwire backup /backups/monday.db --data stepwire-data"))(backup)


def backup(
    target: Annotated[Path, typer.Argument(metavar="FILE", help="Where the copy goes.", show_default=False)],
    data: Annotated[
        str, typer.Option("--data", envvar="STEPWIRE_DATA", metavar="DIR", help="The data directory of the server.")
    ] = "stepwire-data",
    force: Annotated[
        bool, typer.Option("--force", help="Replace FILE if it exists; never one in use or in a data directory.")
    ] = False,
) -> None:
    """Copy a data directory's database while its server runs.

    The copy is one consistent state, and durable when the command returns.

    To restore, put the copy into an empty data directory as stepwire.db, with the snapshot.key of the old one beside it
    if snapshots that were given out shall stay valid.
    """
    from stepwire.server.store import backup_directory

    output = Output()
    if data.startswith(("postgres://", "postgresql://")):
        output.note("error: backup copies data directories; of a PostgreSQL database pg_dump makes a copy", style="red")
        raise typer.Exit(ERROR)
    try:
        path = check_target(target, force=force)
        size = backup_directory(Path(data), path, replace=force)
    except (StoreError, TargetError) as error:
        output.note(f"error: {error}", style="red")
        raise typer.Exit(ERROR) from None
    output.note(f"wrote {target}: {size} bytes")
