"""`stepwire keys`: make API keys."""

from __future__ import annotations

import json
import os
import sys
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Annotated

import typer

from stepwire.cli._exit_codes import ERROR
from stepwire.cli._help import examples
from stepwire.cli._parsing import seconds
from stepwire.cli.render.terminal import Output

__all__ = ["register"]


def register(app: typer.Typer) -> None:
    """Add the commands."""
    keys = typer.Typer(help="Make API keys for the access file of a server.", no_args_is_help=True)
    keys.command("new", epilog=examples("stepwire keys new orders-service --scope write:orders --file access.toml"))(
        new
    )
    app.add_typer(keys, name="keys")


def new(
    name: Annotated[str, typer.Argument(metavar="NAME", help="The name of the key's holder.", show_default=False)],
    namespace: Annotated[str, typer.Option(metavar="NAME", help="Where its runs live.")] = "default",
    scope: Annotated[
        list[str] | None,
        typer.Option(
            metavar="SCOPE",
            help="What it may do: read, write or admin, or for one workflow, as write:orders. May be repeated.",
            show_default=False,
        ),
    ] = None,
    expires: Annotated[
        str | None, typer.Option(metavar="TIME", help="The time after which it expires, as 90d. Default: never.")
    ] = None,
    file: Annotated[
        Path | None, typer.Option(metavar="FILE", help="The access file to add it to. Default: write its entry.")
    ] = None,
) -> None:
    """Make a key and write it to standard output. It is shown only once: the access file keeps a hash."""
    try:
        from stepwire.server.auth import AccessFile, AccessFileError, new_key
    except ModuleNotFoundError as error:
        Output().note(f"error: {error.name} is not installed: pip install 'stepwire[server]'", style="red")
        raise typer.Exit(ERROR) from None
    made = new_key()
    lines = [
        "[[keys]]",
        f"id = {_text(made.id)}",
        f"hash = {_text(made.hash)}",
        f"name = {_text(name)}",
        f"namespace = {_text(namespace)}",
        f"scopes = [{', '.join(_text(item) for item in scope or ['read'])}]",
    ]
    if expires is not None:
        end = datetime.now(UTC) + timedelta(seconds=seconds(expires))
        lines.append(f"expires = {end:%Y-%m-%dT%H:%M:%SZ}")
    entry = "\n".join(lines) + "\n"
    try:
        AccessFile.parse(entry.encode())
    except AccessFileError as error:
        raise typer.BadParameter(str(error).partition(": ")[2]) from None
    if file is None:
        sys.stderr.write(entry)
    else:
        _append(file, entry)
    sys.stdout.write(f"{made.key}\n")


def _append(file: Path, entry: str) -> None:
    """Add an entry to a valid access file. The new content replaces the file in one step."""
    from stepwire.server.auth import AccessFile, AccessFileError

    output = Output()
    try:
        file = file.resolve()  # a link stays, and the file that it names is changed
        if file.exists() and not file.is_file():
            raise AccessFileError(f"{file} is no regular file")
        before = file.read_text(encoding="utf-8") if file.exists() else ""
        text = f"{before.rstrip()}\n\n{entry}" if before.strip() else entry
        AccessFile.parse(text.encode())
        mode = file.stat().st_mode & 0o777 if file.exists() else 0o600
        beside = file.with_name(f".{file.name}.{os.getpid()}")
        with os.fdopen(os.open(beside, os.O_WRONLY | os.O_CREAT | os.O_EXCL, mode), "w", encoding="utf-8") as target:
            target.write(text)
            target.flush()
            os.fsync(target.fileno())
        os.replace(beside, file)
    except (AccessFileError, OSError, UnicodeDecodeError) as error:
        reason = error.strerror if isinstance(error, OSError) else str(error)
        output.note(f"error: {file}: {reason}", style="red")
        raise typer.Exit(ERROR) from None


def _text(value: str) -> str:
    # A JSON string is a TOML string.
    return json.dumps(value, ensure_ascii=False)
