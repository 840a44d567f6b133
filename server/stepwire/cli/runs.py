"""`stepwire runs`."""

from __future__ import annotations

import asyncio
from typing import Annotated

import typer

from stepwire.cli._arguments import DEFAULT_SERVER, Json, Server
from stepwire.cli._calling import call
from stepwire.cli._filters import Filters, takes_options
from stepwire.cli._help import examples
from stepwire.cli._run_ids import whole_id
from stepwire.cli._showing import show_run
from stepwire.cli.following.watching import watch as watch_run
from stepwire.cli.render.family import family_tree
from stepwire.cli.render.records import run_record
from stepwire.cli.render.tables import runs_table
from stepwire.cli.render.terminal import Output
from stepwire.client import Client, RunInfo

__all__ = ["register"]

NO_FILTERS = Filters()


def register(app: typer.Typer) -> None:
    """Add the commands."""
    lines = (
        "stepwire runs --status waiting --workflow orders",
        "stepwire runs --since 2h --error ConnectionError",
        "stepwire runs 3f2a9c --watch",
        "stepwire runs 3f2a9c --tree",
    )
    app.command(epilog=examples(*lines))(runs)


@takes_options
def runs(
    run_id: Annotated[
        str | None, typer.Argument(metavar="RUN", help="One run, to show all of it.", show_default=False)
    ] = None,
    filters: Filters = NO_FILTERS,
    limit: Annotated[
        int, typer.Option("--limit", "-n", metavar="N", min=1, help="How many to list at most. The newest come first.")
    ] = 50,
    results: Annotated[
        bool, typer.Option("--results", help="List results and tracebacks too, which --json shows.")
    ] = False,
    tree: Annotated[bool, typer.Option("--tree", help="Show the runs that the run has started, and theirs.")] = False,
    watch: Annotated[bool, typer.Option("--watch", help="Show the run as it changes, until it ends.")] = False,
    server: Server = DEFAULT_SERVER,
    as_json: Json = False,
) -> None:
    """List runs, or show one: steps, errors, questions, outcome."""
    output = Output(json=as_json)
    chosen = filters.chosen()

    async def show_all(client: Client) -> None:
        found: list[RunInfo] = []
        pages = client.list_runs(**chosen, page_size=min(limit + 1, 1000), results=results or not as_json)
        async for info in pages:
            found.append(info)
            if len(found) > limit:
                break
        if as_json:
            output.document([run_record(info) for info in found[:limit]])
            return
        if not found:
            output.note("no runs fit" if any(chosen.values()) else "no runs", style="dim")
            return
        output.show(runs_table(found[:limit], width=output.width))
        if len(found) > limit:
            output.note(f"there are more: --limit {limit * 2}, or a filter", style="dim")

    async def show_tree(client: Client) -> None:
        root = await client.get_run(await whole_id(client, run_id or ""))
        found = await descendants(client, root, limit)
        if as_json:
            output.document([run_record(info) for info in (root, *(info for many in found.values() for info in many))])
            return
        for line in family_tree(root, found):
            output.show(line)

    async def show_one(client: Client) -> None:
        info = await client.get_run(await whole_id(client, run_id or ""))
        if watch and not info.ended:
            try:
                info = await watch_run(client, info, output)
            except asyncio.CancelledError:
                output.note(f"left; run {info.run_id} goes on")
                raise
            if not output.live:
                return
        await show_run(client, output, info)

    if watch and run_id is None:
        raise typer.BadParameter("name the run to watch", param_hint="RUN")
    if tree and run_id is None:
        raise typer.BadParameter("name the run to show the tree of", param_hint="RUN")
    call(server, output, show_all if run_id is None else show_tree if tree else show_one)


async def descendants(client: Client, root: RunInfo, limit: int) -> dict[str, list[RunInfo]]:
    """Return the children of a run, and of its descendants, by the id of their parent; at most `limit` of each run."""
    found: dict[str, list[RunInfo]] = {}
    todo = [root]
    while todo:
        parent = todo.pop(0)
        if parent.children is None:
            continue
        children: list[RunInfo] = []
        async for info in client.list_runs(parent=parent.run_id, page_size=min(limit, 1000)):
            children.append(info)
            if len(children) == limit:
                break
        children.reverse()
        found[parent.run_id] = children
        todo += children
    return found
