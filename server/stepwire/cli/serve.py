"""`stepwire serve`."""

from __future__ import annotations

import logging
import traceback
from typing import TYPE_CHECKING, Annotated, Any, NoReturn

import typer

from stepwire.cli._exit_codes import ERROR, USAGE
from stepwire.cli._help import examples
from stepwire.cli._settings import CONTEXT, ConfigFile, add_settings
from stepwire.server.process.init import supervise_as_init

if TYPE_CHECKING:
    from stepwire.server.app import Server

__all__ = ["register"]

EPILOG = examples(
    "stepwire serve orders:OrderFlow",
    "stepwire serve flows/orders.py:OrderFlow=orders --config /etc/stepwire/stepwire.toml",
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
    **settings: Any,
) -> None:
    """Serve workflows until SIGTERM or Ctrl-C."""
    supervise_as_init()
    try:
        # Imported here: the help of the command must not wait for the engine and gRPC.
        from stepwire.server.config import ConfigError, Settings
        from stepwire.server.loading import LoadError, load_all, package_of
        from stepwire.server.log_context import log_fields
        from stepwire.server.process.serving import serve as run_server
        from stepwire.server.registry import Registry
        from stepwire.server.store import StoreError
        from stepwire.server.telemetry import logs
    except ModuleNotFoundError as error:
        _fail(f"{error.name} is not installed: pip install 'stepwire[server]'", ERROR)
    registry = Registry()

    def ready(server: Server) -> None:
        for name in registry.names():
            logs.announce(f"serving {name}")
        if server.web_address is not None:
            scheme = "http" if chosen.tls_cert is None else "https"
            logs.announce(f"console at {scheme}://{server.web_address}")
        logs.announce(f"listening on {server.address}")

    try:
        chosen = Settings.load(config, **settings).with_default_web()
        own = [package_of(spec) for spec in workflows]
        logs.configure(chosen.log_level, style=chosen.log_format, fields=log_fields, own=own)
        load_all(registry, workflows)
        code = run_server(registry, chosen, ready)
    except (ConfigError, LoadError) as error:
        _fail(error, USAGE, debug)
    except (StoreError, OSError) as error:
        _fail(error, ERROR, debug)
    except KeyboardInterrupt:  # before the server took over the signals
        raise typer.Exit(ERROR) from None
    raise typer.Exit(code)


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
