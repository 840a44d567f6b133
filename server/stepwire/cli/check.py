"""`stepwire check`."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from typing import TYPE_CHECKING, Annotated, Final

import typer

from stepwire.cli._arguments import Json
from stepwire.cli._calling import call
from stepwire.cli._exit_codes import ERROR, INCOMPLETE, USAGE, WOULD_BLOCK
from stepwire.cli._help import examples
from stepwire.cli._parsing import seconds
from stepwire.cli._settings import ConfigFile
from stepwire.cli.render.fitness import findings_document, findings_lines
from stepwire.cli.render.terminal import Output
from stepwire.cli.render.text import clean
from stepwire.cli.render.ticker import Ticker
from stepwire.client import Client, NotFoundError
from stepwire.server.extras import not_installed

if TYPE_CHECKING:
    from stepwire.server.registry import Registry
    from stepwire.server.runs.fitness import Findings, Tried

__all__ = ["register"]

EPILOG = examples(
    "stepwire check orders:OrderFlow=orders --data /var/lib/stepwire",
    "stepwire check orders:OrderFlow=orders --data postgres://stepwire@db/stepwire --within 5m",
    "stepwire check orders:OrderFlow=orders --server orders.internal:50051",
)
_AT_ONCE: Final = 8
"""Snapshots that are fetched from a server at the same time."""


def register(app: typer.Typer) -> None:
    """Add the command."""
    app.command(epilog=EPILOG)(check)


def check(
    workflows: Annotated[
        list[str],
        typer.Argument(metavar="MODULE:NAME", help="The new code: workflows as serve takes them.", show_default=False),
    ],
    data: Annotated[
        str | None,
        typer.Option(
            metavar="DIR|postgres://…",
            help="Where the runs are kept. Default: as serve, from --config or the environment.",
            show_default=False,
        ),
    ] = None,
    config: ConfigFile = None,
    server: Annotated[
        str | None,
        typer.Option(
            "--server",
            "-s",
            metavar="HOST:PORT",
            help="Ask a running server for the runs instead: those of the credential's namespace.",
            show_default=False,
        ),
    ] = None,
    within: Annotated[str, typer.Option(metavar="TIME", help="Stop after this time, as 30s or 5m.")] = "5m",
    as_json: Json = False,
) -> None:
    """Say which unfinished runs new code would block.

    Tries the snapshot of each. Reads only: nothing is claimed, migrated or changed, and a server may be using the data.
    Exits with 0 when every run fits, with 3 when some would be blocked, with 4 when not all could be tried in time
    or when none belongs to the workflows named and others have some, else with 1 or 2.
    """
    output = Output(json=as_json)
    if server is not None and data is not None:
        raise typer.BadParameter("give --data or --server, not both")
    try:
        from stepwire.server.registry import Registry
        from stepwire.server.runs.fitness import Findings
        from stepwire.server.workflow_loading import LoadError, load_all
    except ModuleNotFoundError as error:
        _fail(output, not_installed(error, "server"), ERROR)
    bound = seconds(within)
    registry = Registry()
    try:
        load_all(registry, workflows)
    except LoadError as error:
        _fail(output, str(error), USAGE)
    findings = Findings()
    ticker = Ticker(output, "reading runs")

    def progress(found: Findings) -> None:
        ticker.tell(f"tried {found.tried:,} of {found.total:,} runs, {found.blocked:,} would be blocked")

    with ticker:
        if server is not None:
            call(server, output, lambda client: _ask(client, registry, findings, bound, progress))
        else:
            _read(output, registry, findings, data, config, bound, progress)
    if as_json:
        output.document(findings_document(findings))
    else:
        for line in findings_lines(findings, [*registry.names()]):
            output.line(line)
    if findings.blocked:
        raise typer.Exit(WOULD_BLOCK)
    if findings.missed or not findings.complete:
        raise typer.Exit(INCOMPLETE)


def _read(
    output: Output,
    registry: Registry,
    findings: Findings,
    data: str | None,
    config: ConfigFile,
    within: float,
    progress: Callable[[Findings], object],
) -> None:
    """Try the runs in a data directory or database."""
    from stepwire.server.config import Settings
    from stepwire.server.config_errors import ConfigError
    from stepwire.server.runs.fitness import examine, tried_in
    from stepwire.server.store import StoreError
    from stepwire.server.wiring import reading_of

    async def work() -> None:
        reading = reading_of(Settings.load(config, **({} if data is None else {"data": data})))
        try:
            await reading.open()
            counts = await reading.counts()
            findings.count(((workflow, status, count) for (workflow, status), count in counts.items()), registry)
            await examine(tried_in(reading, registry), findings, within=within, progress=progress)
        finally:
            await reading.close()

    try:
        asyncio.run(work())
    except ConfigError as error:
        _fail(output, str(error), USAGE)
    except (StoreError, OSError) as error:
        _fail(output, str(error), ERROR)


async def _ask(
    client: Client, registry: Registry, findings: Findings, within: float, progress: Callable[[Findings], object]
) -> None:
    """Try the runs that a server has, by their snapshots."""
    from stepwire.server.runs.fitness import UNFINISHED, examine

    runs: list[tuple[str, str, bool]] = []
    unserved: list[tuple[str, str, int]] = []
    async for info in client.list_runs(statuses=[status.lower() for status in UNFINISHED], page_size=1000):
        status = str(info.status).upper()
        unserved.append((info.workflow, status, 1))
        if registry.get(info.workflow) is not None:
            runs.append((info.run_id, info.workflow, status == "BLOCKED"))
    findings.count(unserved, registry)
    await examine(_tried(client, registry, runs), findings, within=within, progress=progress)


async def _tried(client: Client, registry: Registry, runs: list[tuple[str, str, bool]]) -> AsyncIterator[Tried]:
    from stepwire.server.rpc.convert.snapshots import snapshot_data
    from stepwire.server.runs.errors import InvalidError
    from stepwire.server.runs.fitness import Tried, misfit

    async def one(run_id: str, workflow: str, blocked: bool) -> Tried | None:
        served = registry.get(workflow)
        assert served is not None
        try:
            snapshot = snapshot_data((await client.run(run_id).snapshot()).message)
        except NotFoundError:
            return None  # it has been deleted since
        except InvalidError as error:
            return Tried(run_id, workflow, "", blocked, str(error))
        return Tried(run_id, workflow, "", blocked, misfit(served, snapshot.parts, snapshot.at, snapshot.version))

    for start in range(0, len(runs), _AT_ONCE):
        for tried in await asyncio.gather(*(one(*run) for run in runs[start : start + _AT_ONCE])):
            if tried is not None:
                yield tried


def _fail(output: Output, message: str, code: int) -> None:
    output.note(f"error: {clean(message, keep='')}", style="red")
    raise typer.Exit(code) from None
