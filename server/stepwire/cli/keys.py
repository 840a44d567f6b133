"""`stepwire keys`: make, list and revoke the API keys of an access file."""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Collection, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from itertools import pairwise
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from stepwire.cli._exit_codes import ERROR
from stepwire.cli._groups import Commands, Subcommands
from stepwire.cli._help import examples
from stepwire.cli._parsing import seconds
from stepwire.cli.render.terminal import Output
from stepwire.server.extras import not_installed

if TYPE_CHECKING:
    from stepwire.server.auth import AccessFile

__all__ = ["register"]


def register(app: typer.Typer) -> None:
    """Add the commands."""
    keys = Commands(
        cls=Subcommands, help="Make, list and revoke the API keys of a server's access file.", no_args_is_help=True
    )
    keys.command("new", epilog=examples("stepwire keys new orders-service --scope write:orders --file access.toml"))(
        new
    )
    keys.command("list", epilog=examples("stepwire keys list --file access.toml"))(list_keys)
    keys.command(
        "revoke",
        epilog=examples(
            "stepwire keys revoke 5f2a91c0d3e4 --file access.toml",
            "stepwire keys revoke --name orders-service --file access.toml",
        ),
    )(revoke)
    app.add_typer(keys, name="keys")


def new(
    name: Annotated[str, typer.Argument(metavar="NAME", help="The name of the key's holder.", show_default=False)],
    namespace: Annotated[str, typer.Option(metavar="NAME", help="Where its runs live.")] = "default",
    scope: Annotated[
        list[str] | None,
        typer.Option(
            metavar="SCOPE",
            help="What it may do: answer, read, write, schedule or admin, or for one workflow, as write:orders."
            " May be repeated.",
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
        Output().note(f"error: {not_installed(error, 'server')}", style="red")
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


AccessPath = Annotated[Path, typer.Option("--file", metavar="FILE", help="The access file.", show_default=False)]


def list_keys(
    file: AccessPath,
    json_: Annotated[bool, typer.Option("--json", help="Write a line of JSON for each key.")] = False,
) -> None:
    """List an access file's keys: holders, scopes, expiry.

    The keys themselves are not in it.
    """
    from stepwire.cli.render.tables import keys_table

    with _failing(file):
        access = _parsed(_read(file))
    output = Output(json=json_)
    if not json_:
        output.show(keys_table({key_id: grant.principal for key_id, grant in access.keys.items()}))
        return
    for key_id, grant in access.keys.items():
        holder = grant.principal
        expires = None if holder.expires is None else datetime.fromtimestamp(holder.expires, UTC)
        fields = {"id": key_id, "name": holder.name, "namespace": holder.namespace, "scopes": list(holder.scopes)}
        output.record(fields | {"expires": expires})


def revoke(
    file: AccessPath,
    key_id: Annotated[
        str | None, typer.Argument(metavar="ID", help="The id of the key, or its beginning.", show_default=False)
    ] = None,
    name: Annotated[
        str | None, typer.Option(metavar="NAME", help="Revoke every key of this holder instead.", show_default=False)
    ] = None,
) -> None:
    """Take keys out of an access file. A running server refuses them, and ends their streams, within a second."""
    if (key_id is None) == (name is None):
        raise typer.BadParameter("give the id of a key, or --name")
    output = Output()
    with _failing(file):
        text = _read(file)
        known = _parsed(text).keys
        found = [
            each for each, grant in known.items()
            if (grant.principal.name == name if key_id is None else each.startswith(key_id))
        ]  # fmt: skip
        if not found:
            raise _UnusableFile(_not_found(key_id, name, {grant.principal.name for grant in known.values()}))
        if key_id is not None and len(found) > 1:
            raise _UnusableFile(f"several keys begin with {key_id}: {', '.join(found)}")
        for each in found:
            text = _without(text, each)
        _replace(file, text)
    for each in found:
        output.note(f"revoked {each} of {known[each].principal.name}")


def _not_found(key_id: str | None, name: str | None, holders: Collection[str]) -> str:
    if key_id is None:
        return f"no key of {name} in it"
    return f"no key {key_id} in it" + (f"; {key_id} holds keys: --name {key_id}" if key_id in holders else "")


class _UnusableFile(Exception):
    """Report an access file that a command cannot work with."""


@contextmanager
def _failing(file: Path) -> Iterator[None]:
    """End the command with a message about the file when it cannot be read, understood or written."""
    try:
        yield
    except (_UnusableFile, OSError, UnicodeDecodeError) as error:
        reason = error.strerror if isinstance(error, OSError) else str(error)
        Output().note(f"error: {file}: {reason}", style="red")
        raise typer.Exit(ERROR) from None


def _read(file: Path) -> str:
    if file.exists() and not file.resolve().is_file():
        raise _UnusableFile(f"{file.resolve()} is no regular file")
    return file.read_text(encoding="utf-8")


def _parsed(text: str) -> AccessFile:
    from stepwire.server.auth import AccessFile, AccessFileError

    try:
        return AccessFile.parse(text.encode())
    except AccessFileError as error:
        raise _UnusableFile(str(error)) from None


def _without(text: str, key_id: str) -> str:
    """Return the text of an access file without the entry of a key; everything else stays as it is written."""
    expected = _parsed(text)
    del expected.keys[key_id]
    lines = text.splitlines(keepends=True)
    heads = [number for number, line in enumerate(lines) if line.lstrip().startswith("[")] + [len(lines)]
    for begin, end in pairwise(heads):
        while end > begin + 1 and lines[end - 1].strip()[:1] in ("", "#"):
            end -= 1  # a comment above the next entry is about that one
        rest = "".join(lines[:begin] + lines[end:])
        try:
            if _parsed(rest) == expected:
                return rest
        except _UnusableFile:
            continue  # what was cut out is no entry
    raise _UnusableFile(f"the entry of {key_id} has no [[keys]] of its own: take it out by hand")


def _append(file: Path, entry: str) -> None:
    """Add an entry to a valid access file."""
    with _failing(file):
        before = _read(file) if file.exists() else ""
        text = f"{before.rstrip()}\n\n{entry}" if before.strip() else entry
        _parsed(text)
        _replace(file, text)


def _replace(file: Path, text: str) -> None:
    """Put a new content in the place of an access file, in one step. The file keeps its mode, a link stays a link."""
    file = file.resolve()
    mode = file.stat().st_mode & 0o777 if file.exists() else 0o600
    beside = file.with_name(f".{file.name}.{os.getpid()}")
    with os.fdopen(os.open(beside, os.O_WRONLY | os.O_CREAT | os.O_EXCL, mode), "w", encoding="utf-8") as target:
        target.write(text)
        target.flush()
        os.fsync(target.fileno())
    os.replace(beside, file)


def _text(value: str) -> str:
    # A JSON string is a TOML string.
    return json.dumps(value, ensure_ascii=False)
