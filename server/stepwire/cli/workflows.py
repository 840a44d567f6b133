"""`stepwire workflows` and `stepwire describe`."""

from __future__ import annotations

from dataclasses import asdict
from typing import Annotated

import typer

from stepwire.cli._arguments import DEFAULT_SERVER, Json, Server
from stepwire.cli._calling import call
from stepwire.cli._help import examples
from stepwire.cli._schema import document
from stepwire.cli.render.pages import workflow_page
from stepwire.cli.render.records import workflow_record
from stepwire.cli.render.tables import workflows_table
from stepwire.cli.render.terminal import Output
from stepwire.client import Client

__all__ = ["register"]


def register(app: typer.Typer) -> None:
    """Add the commands."""
    app.command(epilog=examples("stepwire workflows", "stepwire workflows orders --mermaid"))(workflows)
    app.command(epilog=examples("stepwire describe orders > orders.schema.json"))(describe)


def workflows(
    name: Annotated[
        str | None, typer.Argument(metavar="NAME", help="One workflow, to show all of it.", show_default=False)
    ] = None,
    mermaid: Annotated[bool, typer.Option("--mermaid", help="Write its graph as a Mermaid flowchart.")] = False,
    server: Server = DEFAULT_SERVER,
    as_json: Json = False,
) -> None:
    """List the served workflows, or show one."""
    output = Output(json=as_json)

    async def show_all(client: Client) -> None:
        found = [summary async for summary in client.workflows()]
        if as_json:
            output.document([asdict(summary) for summary in found])
        else:
            output.show(workflows_table(found))

    async def show_one(client: Client) -> None:
        info = await client.workflow(name or "")
        if mermaid:
            output.text(info.mermaid.rstrip())
        elif as_json:
            output.document(workflow_record(info))
        else:
            output.show(workflow_page(info))

    if mermaid and name is None:
        raise typer.BadParameter("name the workflow to draw", param_hint="NAME")
    call(server, output, show_all if name is None else show_one)


def describe(
    name: Annotated[str, typer.Argument(metavar="NAME", help="The workflow.", show_default=False)],
    server: Server = DEFAULT_SERVER,
    as_json: Json = False,
) -> None:
    """Write a workflow's types as a JSON Schema document."""
    output = Output(json=as_json)

    async def body(client: Client) -> None:
        output.document(document(await client.workflow(name)))

    call(server, output, body)
