"""The command line: `stepwire`. Each group of commands has a module.

`_app` puts the commands together, `_calling` calls a server for them, `following` follows a run at the terminal, and
`render` shows things there.
"""

from __future__ import annotations

import io
import os
import sys
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import typer

    app: typer.Typer

__all__ = ["app", "main"]

# gRPC's core writes its own lines to standard error. What matters arrives as an error of a call.
os.environ.setdefault("GRPC_VERBOSITY", "NONE")
# Its fork handlers stop its threads whenever a step forks a child, which can block the server, and start threads in the
# child, which can crash it.
os.environ.setdefault("GRPC_ENABLE_FORK_SUPPORT", "0")


def main() -> None:
    """Run the command line."""
    try:
        from stepwire.cli._app import make_app  # needs typer, which the base install lacks
    except ModuleNotFoundError as error:
        if error.name not in ("typer", "rich"):
            raise
        # The base install is the client library alone.
        sys.exit(f"error: {error.name} is not installed: pip install 'stepwire[cli]', or 'stepwire[server]' to serve")
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            # Other programs get UTF-8 whatever the locale is; a terminal gets what it can show.
            stream.reconfigure(encoding=None if stream.isatty() else "utf-8", errors="backslashreplace")
    make_app()(prog_name="stepwire")


def __getattr__(name: str) -> Any:
    if name == "app":
        from stepwire.cli._app import make_app  # as in main

        return make_app()
    raise AttributeError(name)
