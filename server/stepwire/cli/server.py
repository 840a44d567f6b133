"""`stepwire server`."""

from __future__ import annotations

from dataclasses import fields
from datetime import timedelta
from typing import Annotated, Any

import typer
from rich.text import Text

from stepwire.cli._arguments import DEFAULT_SERVER, Json, Server
from stepwire.cli._calling import call
from stepwire.cli._help import examples
from stepwire.cli.render.terminal import Output
from stepwire.cli.render.text import clean
from stepwire.client import Client, Identity, PermissionDeniedError, ServerInfo

__all__ = ["register"]


def register(app: typer.Typer) -> None:
    """Add the command."""
    app.command(epilog=examples("stepwire server", "stepwire server --server orders.internal:50051 --json"))(server)


def server(
    server: Server = DEFAULT_SERVER,
    settings: Annotated[bool, typer.Option("--settings", help="Show the settings, too.")] = False,
    as_json: Json = False,
) -> None:
    """Show a server, and who this credential makes you.

    What the server tells of itself needs the scope read; who you are, any scope.
    """
    output = Output(json=as_json)

    async def body(client: Client) -> None:
        identity, info = await client.who_am_i(), None
        try:
            info = await client.server()
        except PermissionDeniedError:
            output.note("the scope read is needed to see the server itself")
        if as_json:
            output.document({"caller": _record(identity), "server": None if info is None else _record(info)})
            return
        if info is not None:
            for name, value in _rows(info, settings=settings):
                output.line(_row(name, value))
        output.line(_row("you are", f"{identity.principal} in namespace {', '.join(identity.namespaces)}"))
        output.line(_row("scopes", ", ".join(identity.scopes)))
        if identity.expires_at is not None:
            output.line(_row("until", f"{identity.expires_at:%Y-%m-%d %H:%M UTC}"))

    call(server, output, body)


def _rows(info: ServerInfo, *, settings: bool) -> list[tuple[str, str]]:
    rows = [("version", f"{info.version} (Python {info.python_version})"), ("state", info.unready or "takes work")]
    if info.started_at is not None and info.time is not None:
        uptime = timedelta(seconds=int((info.time - info.started_at).total_seconds()))
        rows.append(("up", f"{uptime}, since {info.started_at:%Y-%m-%d %H:%M UTC}"))
    rows.append(("store", info.store if info.replicas == 1 else f"{info.store}, {info.replicas} replicas"))
    rows.append(("callers", "must authenticate" if info.authenticates else "need no credential"))
    if settings:
        rows += [(name, value or "not set") for name, value in sorted(info.settings.items())]
    return rows


def _record(found: ServerInfo | Identity) -> dict[str, Any]:
    return {field.name: getattr(found, field.name) for field in fields(found)}


def _row(name: str, value: str) -> Text:
    return Text(f"{name:<22}", style="dim").append(clean(value, keep=""), style="default")
