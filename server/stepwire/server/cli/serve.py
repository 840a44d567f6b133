"""`stepwire serve`."""

from __future__ import annotations

import asyncio
import contextlib
import sys
import traceback
from collections.abc import Callable
from typing import TYPE_CHECKING, Annotated

import typer

from stepwire.server import logs
from stepwire.server.cli._shared import ERROR, USAGE, examples
from stepwire.server.cli._values import seconds
from stepwire.server.console import Output, clean
from stepwire.server.loading import LoadError, load_all
from stepwire.server.registry import Registry
from stepwire.server.store.port import StoreError

if TYPE_CHECKING:
    from stepwire.server.app import Server

__all__ = ["register"]

FAILURE_DETAILS = ("type", "message", "traceback")

EPILOG = examples(
    "stepwire serve orders:OrderFlow",
    "stepwire serve flows/orders.py:OrderFlow=orders --address 0.0.0.0:50051 --data /var/lib/stepwire",
)


def register(app: typer.Typer) -> None:
    """Add the command."""
    app.command(epilog=EPILOG)(serve)


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
    address: Annotated[
        str, typer.Option(envvar="STEPWIRE_ADDRESS", metavar="HOST:PORT", help="Where to listen; port 0 is a free one.")
    ] = "127.0.0.1:50051",
    data: Annotated[
        str,
        typer.Option(envvar="STEPWIRE_DATA", metavar="DIR", help="Where runs are kept; :memory: keeps nothing."),
    ] = "stepwire-data",
    idle_after: Annotated[
        str, typer.Option(metavar="TIME", help="After how long a run that only waits leaves memory (60, 5m).")
    ] = "60",
    grace: Annotated[
        str, typer.Option(metavar="TIME", help="How long running steps may go on when the server stops.")
    ] = "5",
    failure_detail: Annotated[
        str | None,
        typer.Option(
            metavar="|".join(FAILURE_DETAILS),
            help="What clients see of a step's error. Default: message on loopback, type beyond.",
            show_default=False,
        ),
    ] = None,
    log_level: Annotated[
        str, typer.Option(envvar="STEPWIRE_LOG_LEVEL", metavar="|".join(logs.LEVELS), help="What is logged.")
    ] = "info",
    reflection: Annotated[bool, typer.Option(help="Serve gRPC reflection, for tools as grpcurl.")] = True,
    debug: Annotated[bool, typer.Option("--debug", help="Show tracebacks of what cannot be loaded.")] = False,
) -> None:
    """Serve workflows until SIGTERM or Ctrl-C."""
    if failure_detail is not None and failure_detail not in FAILURE_DETAILS:
        raise typer.BadParameter(f"one of {', '.join(FAILURE_DETAILS)}", param_hint="--failure-detail")
    if log_level.lower() not in logs.LEVELS:
        raise typer.BadParameter(f"one of {', '.join(logs.LEVELS)}", param_hint="--log-level")
    idle_seconds, grace_seconds = seconds(idle_after), seconds(grace)
    output = Output()
    logs.configure(log_level.lower())
    registry = Registry()
    try:
        load_all(registry, workflows)
    except LoadError as error:
        _fail(output, error, USAGE, debug)
    try:
        from stepwire.server.app import Settings  # needs more than the client commands do
        from stepwire.server.app import serve as run_server
    except ModuleNotFoundError as error:
        output.note(f"error: {error.name} is not installed: pip install 'stepwire[server]'", style="red")
        raise typer.Exit(ERROR) from None
    settings = Settings(
        address=address,
        data=data,
        idle_after=idle_seconds,
        grace=grace_seconds,
        failure_detail=failure_detail,
        reflection=reflection,
    )

    def ready(server: Server) -> None:
        for name in registry.names():
            sys.stderr.write(f"stepwire: serving {name}\n")
        sys.stderr.write(f"stepwire: listening on {server.address}\n")
        sys.stderr.flush()

    try:
        with asyncio.Runner(loop_factory=_loop_factory()) as runner:
            runner.run(run_server(registry, settings, ready))
    except (StoreError, OSError) as error:
        _fail(output, error, ERROR, debug)
    except KeyboardInterrupt:  # before the server took over the signals
        raise typer.Exit(ERROR) from None


def _loop_factory() -> Callable[[], asyncio.AbstractEventLoop] | None:
    with contextlib.suppress(ImportError):  # not made for Windows
        import uvloop

        return uvloop.new_event_loop
    return None


def _fail(output: Output, error: Exception, code: int, debug: bool) -> None:
    if debug:
        output.note("".join(traceback.format_exception(error)).rstrip())
    output.note(f"error: {clean(str(error), keep='')}", style="red")
    raise typer.Exit(code) from None
