"""The command line: `stepwire`. One module for each group of commands."""

from __future__ import annotations

import io
import os
import sys
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import typer

    app: typer.Typer

__all__ = ["app", "main"]

# gRPC's core writes lines of its own to standard error; what matters comes as an error of ours.
os.environ.setdefault("GRPC_VERBOSITY", "NONE")


def main() -> None:
    """Run the command line."""
    try:
        from stepwire.cli._app import app_of
    except ModuleNotFoundError as error:
        if error.name not in ("typer", "rich"):
            raise
        # The base install is the client library alone.
        sys.exit(f"error: {error.name} is not installed: pip install 'stepwire[cli]', or 'stepwire[server]' to serve")
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            # Other programs get UTF-8 whatever the locale is; a terminal gets what it can show.
            stream.reconfigure(encoding=None if stream.isatty() else "utf-8", errors="backslashreplace")
    app_of(sys.argv[1] if len(sys.argv) > 1 else "")(prog_name="stepwire")


def __getattr__(name: str) -> Any:
    if name == "app":
        from stepwire.cli._app import app_of

        return app_of()
    raise AttributeError(name)
