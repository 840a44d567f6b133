"""`stepwire move`."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Annotated

import typer

from stepwire.cli._exit_codes import ERROR
from stepwire.cli._help import examples
from stepwire.cli.render.terminal import Output
from stepwire.cli.render.text import clean
from stepwire.cli.render.ticker import Ticker
from stepwire.server.extras import not_installed

__all__ = ["register"]

_SHOWN = 20
"""Runs that are named when they cannot be moved."""


def register(app: typer.Typer) -> None:
    """Add the command."""
    app.command(
        epilog=examples(
            "stepwire move /var/lib/stepwire postgres://stepwire@db/stepwire",
            "stepwire serve orders:OrderFlow=orders --data postgres://stepwire@db/stepwire",
        )
    )(move)


def move(
    directory: Annotated[Path, typer.Argument(metavar="DIR", help="The data directory of a stopped server.")],
    database: Annotated[str, typer.Argument(metavar="postgres://…", help="The database, without running replicas.")],
    leave: Annotated[
        bool, typer.Option("--leave-out", help="Leave out runs that are damaged or in the way, instead of stopping.")
    ] = False,
    abandon: Annotated[
        bool, typer.Option("--abandon", help="Give up a move that was interrupted, so that DIR can be served again.")
    ] = False,
) -> None:
    """Move all runs from a data directory into PostgreSQL.

    Moves logs, snapshots, answered requests, pauses and the key of snapshots too, in one transaction: all of it or
    nothing. Run it again after an interruption. Afterwards no server starts on DIR any more. Its files stay as they
    are: delete them when you trust the database.
    """
    output = Output()
    if not database.startswith(("postgres://", "postgresql://")):
        raise typer.BadParameter("give the address of a database: postgres://USER@HOST/DATABASE")
    try:
        from stepwire.server.rpc.signing import KEY_FILE, key_of_file
        from stepwire.server.store import StoreError, moving
    except ModuleNotFoundError as error:
        output.note(f"error: {not_installed(error, 'server,postgres')}", style="red")
        raise typer.Exit(ERROR) from None
    ticker = Ticker(output, "connecting")
    try:
        if abandon:
            asyncio.run(moving.abandon(directory, database))
            output.note(f"the runs stay in {directory}")
            return
        key = directory / KEY_FILE
        with ticker:
            done = asyncio.run(
                moving.move(
                    directory,
                    database,
                    leave=leave,
                    snapshot_key=key_of_file(key) if key.exists() else None,
                    progress=lambda seen, total: ticker.tell(f"moved {seen:,} of {total:,} runs"),
                )
            )
    except moving.NotMovableError as error:
        _tell(output, error.reasons)
        output.note(f"error: {error}, so none was; --leave-out moves the others", style="red")
        raise typer.Exit(ERROR) from None
    except (StoreError, ValueError, OSError) as error:
        output.note(f"error: {clean(str(error), keep='')}", style="red")
        raise typer.Exit(ERROR) from None
    _tell(output, done.left)
    output.note(f"moved {_runs(done.moved)} to {moving.without_password(database)}")
    if done.present:
        output.note(f"{_runs(done.present)} {_were(done.present)} there already, from an earlier move")
    if done.left:
        left = len(done.left)
        output.note(f"{_runs(left)} {_were(left)} left out, and {_are(left)} in {directory} only", style="yellow")
    if not done.same_key:
        output.note(
            "the database has a key of its own for snapshots: give the servers the old one with --snapshot-key, or"
            " snapshots that were given out before are refused",
            style="yellow",
        )


def _tell(output: Output, reasons: list[str]) -> None:
    for reason in reasons[:_SHOWN]:
        output.note(f"  {clean(reason, keep='')}")
    if len(reasons) > _SHOWN:
        output.note(f"  and {len(reasons) - _SHOWN:,} more")


def _runs(count: int) -> str:
    return f"{count:,} run{'' if count == 1 else 's'}"


def _were(count: int) -> str:
    return "was" if count == 1 else "were"


def _are(count: int) -> str:
    return "is" if count == 1 else "are"
