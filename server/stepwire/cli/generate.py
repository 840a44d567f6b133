"""`stepwire generate` and `stepwire protos`."""

from __future__ import annotations

import asyncio
import tempfile
from pathlib import Path
from typing import Annotated

import typer

from stepwire.cli._arguments import DEFAULT_SERVER, Server
from stepwire.cli._calling import call
from stepwire.cli._contract import contract_files
from stepwire.cli._exit_codes import ERROR, USAGE
from stepwire.cli._help import examples
from stepwire.cli._targets import TargetError, check_target, writing
from stepwire.cli.render.terminal import Output
from stepwire.cli.render.text import clean
from stepwire.client import Client, WorkflowInfo
from stepwire.server.extras import how_to_install

__all__ = ["register"]

Force = Annotated[bool, typer.Option("--force", help="Replace files that exist.")]


def register(app: typer.Typer) -> None:
    """Add the commands."""
    app.command(
        epilog=examples(
            "stepwire generate approval approval.ts --language typescript",
            "stepwire generate flows/orders.py:OrderFlow=orders orders/types.go --language go",
        )
    )(generate)
    app.command(epilog=examples("stepwire protos contract/"))(protos)


def generate(
    workflow: Annotated[
        str,
        typer.Argument(
            metavar="NAME|MODULE:NAME", help="A workflow of the server, or one to load from code.", show_default=False
        ),
    ],
    out: Annotated[Path, typer.Argument(metavar="OUT", help="The file to write.", show_default=False)],
    language: Annotated[
        str,
        typer.Option("--language", "-l", metavar="go|python|typescript", help="The language.", show_default=False),
    ],
    server: Server = DEFAULT_SERVER,
    force: Force = False,
) -> None:
    """Write types for a workflow's events, input, state and result."""
    from stepwire.cli.generating import LANGUAGES, GeneratorError, Shapes

    if language not in LANGUAGES:
        raise typer.BadParameter(f"{language!r} is not one of {', '.join(LANGUAGES)}", param_hint="--language")
    output = Output(json=False)
    info = _loaded(workflow, output) if _is_code(workflow) else _described(workflow, server, output)
    try:
        with tempfile.TemporaryDirectory(prefix="stepwire-generate-") as folder:
            text = LANGUAGES[language](Shapes.of(info), Path(folder), out)
        if not out.parent.exists():
            check_target(out, force=force)
            out.parent.mkdir(parents=True)
        with writing(out, force=force) as file:
            file.write(text.encode())
    except (GeneratorError, TargetError) as error:
        output.note(f"error: {clean(str(error))}", style="red")
        raise typer.Exit(USAGE if isinstance(error, TargetError) else ERROR) from None
    except OSError as error:
        output.note(f"error: cannot write {out}: {error.strerror}", style="red")
        raise typer.Exit(ERROR) from None
    output.note(f"wrote {out}")


def protos(
    out: Annotated[Path, typer.Argument(metavar="OUT", help="The folder to write.", show_default=False)],
    force: Force = False,
) -> None:
    """Write the contract's protos, with all that they import."""
    output = Output(json=False)
    try:
        files = contract_files()
        taken = [name for name in files if (out / name).exists()]
        if taken and not force:
            raise TargetError(f"{out / taken[0]} exists: name another folder, or replace the files with --force")
        for name in files:
            check_target(out / name, force=force)
        for name, data in files.items():
            (out / name).parent.mkdir(parents=True, exist_ok=True)
            with writing(out / name, force=force) as file:
                file.write(data)
    except TargetError as error:
        output.note(f"error: {clean(str(error))}", style="red")
        raise typer.Exit(USAGE) from None
    except OSError as error:
        output.note(f"error: cannot write {error.filename or out}: {error.strerror}", style="red")
        raise typer.Exit(ERROR) from None
    output.note(f"wrote {len(files)} files; protoc needs no other folder: protoc -I{out} …")


def _is_code(workflow: str) -> bool:
    """Say whether a workflow is MODULE:NAME; names of served workflows have no colon."""
    return ":" in workflow or workflow.partition("=")[0].endswith(".py")


def _described(name: str, server: str, output: Output) -> WorkflowInfo:
    async def describe(client: Client) -> WorkflowInfo:
        return await client.workflow(name)

    return call(server, output, describe)


def _loaded(spec: str, output: Output) -> WorkflowInfo:
    """Return what a server would say of a workflow's code: serve it for a moment, where only this process looks."""
    try:
        from stepwire.server.app import Server, Settings
        from stepwire.server.registry import Registry
        from stepwire.server.workflow_loading import LoadError, load_all
    except ModuleNotFoundError as error:
        told = f"error: {error.name} is not installed, which code needs: {how_to_install('server')}"
        output.note(told, style="red")
        raise typer.Exit(USAGE) from None
    registry = Registry()
    try:
        load_all(registry, [spec])
    except LoadError as error:
        output.note(f"error: {clean(str(error))}", style="red")
        raise typer.Exit(USAGE) from None
    names = sorted(served.name for served in registry)
    if len(names) > 1:
        output.note(f"error: {spec} has several workflows, {', '.join(names)}: name one of them", style="red")
        raise typer.Exit(USAGE)

    async def describe(folder: str) -> WorkflowInfo:
        server = Server(registry, Settings(address=f"unix:{folder}/socket", data=":memory:", grace=0.0))
        await server.start()
        try:
            async with Client(server.address) as client:
                return await client.workflow(names[0])
        finally:
            await server.stop()

    with tempfile.TemporaryDirectory(prefix="stepwire-") as folder:
        return asyncio.run(describe(folder))
