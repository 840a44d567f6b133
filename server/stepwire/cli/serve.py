"""`stepwire serve`."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
import traceback
from collections.abc import Callable
from typing import TYPE_CHECKING, Annotated, Any, NoReturn

import typer

from stepwire.cli._exit_codes import ERROR, USAGE
from stepwire.cli._help import examples
from stepwire.cli._settings import CONTEXT, ConfigFile, add_settings

if TYPE_CHECKING:
    from stepwire.server.app import Server

__all__ = ["register"]

logger = logging.getLogger("stepwire.server")

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
    try:
        # Imported here: the help of the command must not wait for the engine and gRPC.
        from stepwire.server.app import log_fields
        from stepwire.server.app import serve as run_server
        from stepwire.server.config import ConfigError, Settings
        from stepwire.server.loading import LoadError, load_all, package_of
        from stepwire.server.registry import Registry
        from stepwire.server.store import StoreError
        from stepwire.server.telemetry import logs
    except ModuleNotFoundError as error:
        _fail(f"{error.name} is not installed: pip install 'stepwire[server]'", ERROR)
    try:
        chosen = Settings.load(config, **settings).with_default_web()
    except ConfigError as error:
        _fail(error, USAGE, debug)
    logs.configure(
        chosen.log_level, style=chosen.log_format, fields=log_fields, own=[package_of(spec) for spec in workflows]
    )
    registry = Registry()
    try:
        load_all(registry, workflows)
    except LoadError as error:
        _fail(error, USAGE, debug)

    def ready(server: Server) -> None:
        lines = [f"serving {name}" for name in registry.names()]
        if server.web_address is not None:
            scheme = "http" if chosen.tls_cert is None else "https"
            lines.append(f"console at {scheme}://{server.web_address}")
        for line in [*lines, f"listening on {server.address}"]:
            logs.announce(line, chosen.log_format)

    async def main() -> None:
        await _leave(await run_server(registry, chosen, ready))

    try:
        with asyncio.Runner(loop_factory=_loop_factory()) as runner:
            runner.run(main())
    except ConfigError as error:
        _fail(error, USAGE, debug)
    except (StoreError, OSError) as error:
        _fail(error, ERROR, debug)
    except KeyboardInterrupt:  # before the server took over the signals
        raise typer.Exit(ERROR) from None


async def _leave(closed: bool) -> None:
    """End the process now when a step swallows its cancellation or the store hangs: the loop would wait for ever."""
    if not closed:
        logging.shutdown()
        os._exit(ERROR)
    others = asyncio.all_tasks() - {asyncio.current_task()}
    for task in others:
        task.cancel()
    pending = (await asyncio.wait(others, timeout=1.0))[1] if others else ()
    if pending:
        logger.warning("%d steps do not end when they are cancelled: leaving without them", len(pending))
        logging.shutdown()
        os._exit(0)


def _loop_factory() -> Callable[[], asyncio.AbstractEventLoop] | None:
    with contextlib.suppress(ImportError):  # not made for Windows
        import uvloop

        return uvloop.new_event_loop
    return None


def _fail(error: Exception | str, code: int, debug: bool = False) -> NoReturn:
    from stepwire.cli.render.terminal import Output
    from stepwire.cli.render.text import clean  # a start that succeeds has no need of them

    output = Output()
    if debug and isinstance(error, Exception):
        output.note("".join(traceback.format_exception(error)).rstrip())
    output.note(f"error: {clean(str(error), keep='')}", style="red")
    raise typer.Exit(code) from None
