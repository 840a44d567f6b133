"""`stepwire state get`, `set` and `unset`."""

from __future__ import annotations

from typing import Annotated

import typer

from stepwire.cli._arguments import DEFAULT_SERVER, Json, RunId, Server
from stepwire.cli._calling import call
from stepwire.cli._groups import Commands, Subcommands
from stepwire.cli._help import examples
from stepwire.cli._parsing import pairs
from stepwire.cli._run_ids import whole_id
from stepwire.cli.render.terminal import Output
from stepwire.client import Client

__all__ = ["register"]


def register(app: typer.Typer) -> None:
    """Add the group of commands."""
    group = Commands(
        cls=Subcommands,
        help="Read and write the state of a run.",
        no_args_is_help=True,
        rich_markup_mode=None,
        add_completion=False,
    )
    group.command("get", epilog=examples("stepwire state get 3f2a9c", "stepwire state get 3f2a9c order.lines.0.price"))(
        get
    )
    group.command("set", epilog=examples('stepwire state set 3f2a9c order.paid=true note="by hand"'))(set_)
    group.command("unset", epilog=examples("stepwire state unset 3f2a9c order.note"))(unset)
    app.add_typer(group, name="state", epilog=examples("stepwire state get 3f2a9c"))


def get(
    run_id: RunId,
    path: Annotated[
        str, typer.Argument(metavar="PATH", help="A dotted path. Default: the whole state.", show_default=False)
    ] = "",
    server: Server = DEFAULT_SERVER,
    as_json: Json = False,
) -> None:
    """Write the value at a path as JSON."""
    output = Output(json=as_json)

    async def body(client: Client) -> None:
        output.document(await client.run(await whole_id(client, run_id)).context.store.get(path))

    call(server, output, body)


def set_(
    run_id: RunId,
    values: Annotated[
        list[str],
        typer.Argument(
            metavar="PATH=VALUE",
            help="A value that is JSON is taken as JSON, any other as text.",
            show_default=False,
        ),
    ],
    etag: Annotated[
        str | None, typer.Option(metavar="ETAG", help="Write only if the state still has this etag.")
    ] = None,
    server: Server = DEFAULT_SERVER,
    as_json: Json = False,
) -> None:
    """Set the values at several paths, all or none."""
    output = Output(json=as_json)
    given = pairs(values, "path=value")

    async def body(client: Client) -> None:
        _written(output, await client.run(await whole_id(client, run_id)).context.store.set_many(given, etag=etag))

    call(server, output, body)


def unset(
    run_id: RunId,
    paths: Annotated[list[str], typer.Argument(metavar="PATH", help="Dotted paths.", show_default=False)],
    etag: Annotated[
        str | None, typer.Option(metavar="ETAG", help="Write only if the state still has this etag.")
    ] = None,
    server: Server = DEFAULT_SERVER,
    as_json: Json = False,
) -> None:
    """Remove the values at several paths, all or none."""
    output = Output(json=as_json)

    async def body(client: Client) -> None:
        _written(output, await client.run(await whole_id(client, run_id)).context.store.unset(*paths, etag=etag))

    call(server, output, body)


def _written(output: Output, etag: str) -> None:
    if output.json:
        output.document({"etag": etag})
    else:
        output.note(f"written; the etag is {etag}")
