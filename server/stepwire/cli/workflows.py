"""`stepwire workflows` and `stepwire describe`."""

from __future__ import annotations

import re
import tempfile
import webbrowser
from pathlib import Path
from typing import Annotated

import typer
from rich.text import Text

from stepwire.cli._arguments import DEFAULT_SERVER, Json, Server
from stepwire.cli._calling import call
from stepwire.cli._help import examples
from stepwire.cli._schema import document
from stepwire.cli.render.drawing import graph_page
from stepwire.cli.render.pages import workflow_page
from stepwire.cli.render.records import summary_record, workflow_record
from stepwire.cli.render.tables import workflows_table
from stepwire.cli.render.terminal import Output
from stepwire.client import Client

__all__ = ["register"]


def register(app: typer.Typer) -> None:
    """Add the commands."""
    app.command(epilog=examples("stepwire workflows", "stepwire workflows orders --open"))(workflows)
    app.command(epilog=examples("stepwire describe orders > orders.schema.json"))(describe)


def workflows(
    name: Annotated[
        str | None, typer.Argument(metavar="NAME", help="One workflow, to show all of it.", show_default=False)
    ] = None,
    mermaid: Annotated[bool, typer.Option("--mermaid", help="Write its graph as a Mermaid flowchart.")] = False,
    open_page: Annotated[
        bool, typer.Option("--open", help="Show its graph in the browser, with its questions.")
    ] = False,
    server: Server = DEFAULT_SERVER,
    as_json: Json = False,
) -> None:
    """List the served workflows, or show one."""
    output = Output(json=as_json)

    async def show_all(client: Client) -> None:
        found = [summary async for summary in client.workflows()]
        if as_json:
            output.document([summary_record(summary) for summary in found])
        else:
            output.show(workflows_table(found))

    async def show_one(client: Client) -> None:
        info = await client.workflow(name or "")
        if open_page:
            page = Path(tempfile.mkdtemp(prefix="stepwire-")) / f"{_file_name(info.name)}.html"
            page.write_text(graph_page(info), encoding="utf-8")
            shown = webbrowser.open(page.as_uri())
            output.line(Text(str(page)))
            if not shown:
                output.note("no browser was found: open the file", style="dim")
        elif mermaid:
            output.text(info.mermaid.rstrip())
        elif as_json:
            output.document(workflow_record(info))
        else:
            output.show(workflow_page(info))

    if (mermaid or open_page) and name is None:
        raise typer.BadParameter("name the workflow to draw", param_hint="NAME")
    call(server, output, show_all if name is None else show_one)


def _file_name(name: str) -> str:
    """Return a name that a file may have."""
    return re.sub(r"[^A-Za-z0-9._-]", "_", name)[:64] or "workflow"


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
