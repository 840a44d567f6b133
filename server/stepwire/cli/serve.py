"""`stepwire serve`."""

from __future__ import annotations

import logging
import shlex
import traceback
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, NoReturn

import typer

from stepwire.cli._exit_codes import ERROR, USAGE
from stepwire.cli._handover import serve_when_told
from stepwire.cli._help import examples
from stepwire.cli._reloading import Reloader, command, with_port
from stepwire.cli._settings import CONTEXT, ConfigFile, add_settings
from stepwire.server.extras import not_installed
from stepwire.server.process.init import supervise_as_init

if TYPE_CHECKING:
    from stepwire.server.app import Server

__all__ = ["register"]

EPILOG = examples(
    "stepwire serve orders:OrderFlow",
    "stepwire serve flows/orders.py:OrderFlow=orders --config /etc/stepwire/stepwire.toml",
    "stepwire serve flows/orders.py:OrderFlow --reload",
)


def register(app: typer.Typer) -> None:
    """Add the command."""
    app.command(epilog=EPILOG, context_settings=CONTEXT)(serve)


@add_settings
def serve(
    workflows: Annotated[
        list[str],
        typer.Argument(
            metavar="MODULE:NAME",
            help="A workflow class or instance, also as path/to/file.py:NAME; MODULE alone is all that it defines;"
            " =NAME behind it is the name to serve it under.",
            show_default=False,
        ),
    ],
    config: ConfigFile = None,
    debug: Annotated[bool, typer.Option("--debug", help="Show tracebacks of what cannot be loaded.")] = False,
    reload: Annotated[
        bool,
        typer.Option("--reload", help="Serve new code whenever a file that it imports changes; for the author's desk."),
    ] = False,
    reload_dir: Annotated[
        list[Path] | None,
        typer.Option(
            metavar="DIR",
            help="A folder whose Python files to watch, all below it. Default: the imported files in the current folder"
            " and in those of the files given.",
            show_default=False,
        ),
    ] = None,
    handover: Annotated[int | None, typer.Option("--handover", hidden=True)] = None,
    **settings: Any,
) -> None:
    """Serve workflows until SIGTERM or Ctrl-C.

    TIME is a number of seconds, or has a unit: 500ms, 30s, 5m, 2h, 1d. SIZE is a number of bytes, or has a unit:
    512KiB, 16MiB, 1GiB.
    """
    supervise_as_init()
    if reload:
        _serve_reloading(workflows, config, reload_dir or (), debug, settings)
    try:
        # Imported here: the help of the command must not wait for the engine and gRPC.
        from stepwire.server.config import Settings
        from stepwire.server.config_errors import ConfigError
        from stepwire.server.log_context import log_fields
        from stepwire.server.process.serving import serve as run_server
        from stepwire.server.registry import Registry
        from stepwire.server.store import StoreCorruptError, StoreError
        from stepwire.server.telemetry import logs
        from stepwire.server.workflow_loading import LoadError, load_all, package_of
    except ModuleNotFoundError as error:
        _fail(not_installed(error, "server"), ERROR)
    registry = Registry()

    def ready(server: Server) -> None:
        for name in registry.names():
            logs.announce(f"serving {name}")
        if server.web_address is not None:
            scheme = "http" if chosen.tls_cert is None else "https"
            logs.announce(f"console at {scheme}://{server.web_address}")
        if "://" not in chosen.data:  # a database's address may have a password
            logs.announce(
                "keeping nothing: runs are in memory" if chosen.data == ":memory:" else f"data in {chosen.data}"
            )
        logs.announce(f"listening on {server.address}")

    try:
        chosen = Settings.load(config, **settings).with_default_web()
        own = [package_of(spec) for spec in workflows]
        logs.configure(chosen.log_level, style=chosen.log_format, fields=log_fields, own=own)
        load_all(registry, workflows)
        if handover is not None:
            serve_when_told(handover)
        code = run_server(registry, chosen, ready)
    except (ConfigError, LoadError) as error:
        _fail(error, USAGE, debug)
    except StoreCorruptError as error:
        if "://" in chosen.data:  # a database's address may have a password
            _fail(f"{error}; stepwire doctor looks at the database", ERROR, debug)
        look = f"stepwire doctor --data {shlex.quote(chosen.data)}"
        message = f"the database in {chosen.data} is damaged: {error}; {look} looks at it"
        _fail(f"{message}, docs/deployment.md says how to restore a backup", ERROR)
    except (StoreError, OSError) as error:
        _fail(error, ERROR, debug)
    except KeyboardInterrupt:  # before the server took over the signals
        raise typer.Exit(ERROR) from None
    raise typer.Exit(code)


def _serve_reloading(
    workflows: Sequence[str], config: Path | None, folders: Sequence[Path], debug: bool, settings: Mapping[str, Any]
) -> NoReturn:
    """Serve in a child, and again whenever files change."""
    from stepwire.cli.render.terminal import Output

    try:
        import watchfiles  # noqa: F401 - said before anything is started

        from stepwire.server.config import Settings
        from stepwire.server.config_errors import ConfigError
    except ModuleNotFoundError as error:
        _fail(not_installed(error, "reload"), ERROR)
    try:
        chosen = Settings.load(config, **settings)
    except ConfigError as error:
        _fail(error, USAGE, debug)
    output = Output()
    if chosen.data == ":memory:":
        output.note("warning: runs in memory are lost at each reload: give a data directory", style="yellow")
    fixed = {**settings, "address": with_port(chosen.address)}
    if chosen.web_address:
        fixed["web_address"] = with_port(chosen.web_address)
    arguments = [*workflows, *(() if config is None else ("--config", str(config))), *(("--debug",) if debug else ())]
    for name, value in fixed.items():
        flag = f"--{name.replace('_', '-')}"
        if isinstance(value, bool):
            arguments.append(flag if value else f"--no-{flag[2:]}")
        elif value is not None:
            arguments += [flag, str(value)]
    found = [Path(spec.partition("=")[0].partition(":")[0]) for spec in workflows]
    watched = [*folders] or [Path.cwd(), *(file.resolve().parent for file in found if file.suffix == ".py")]
    reloader = Reloader(
        command(["serve", *arguments]),
        [folder.resolve() for folder in watched],
        [] if config is None else [config.resolve()],
        bool(folders),
        lambda text: output.note(f"reload: {text}", style="cyan"),
    )
    raise typer.Exit(reloader.run())


def _fail(error: Exception | str, code: int, debug: bool = False) -> NoReturn:
    from stepwire.cli.render.terminal import Output
    from stepwire.cli.render.text import clean  # a start that succeeds has no need of them

    for handler in logging.getLogger().handlers:
        handler.flush()
    output = Output()
    if debug and isinstance(error, Exception):
        output.note("".join(traceback.format_exception(error)).rstrip())
    output.note(f"error: {clean(str(error), keep='')}", style="red")
    raise typer.Exit(code) from None
