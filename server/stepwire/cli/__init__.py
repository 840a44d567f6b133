"""The command line: `stepwire`. Each group of commands has a module.

`_app` puts the commands together, `_calling` calls a server for them, `following` follows a run at the terminal, and
`render` shows things there.
"""

from __future__ import annotations

import contextlib
import errno
import gc
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
    # Looking for garbage as often as Python does by default takes a tenth of the start, and finds none.
    gc.set_threshold(20_000, 20, 50)
    try:
        from stepwire.cli._app import make_app  # needs typer, which the base install lacks
    except ModuleNotFoundError as error:
        if error.name not in ("typer", "rich"):
            raise
        # The base install is the client library alone.
        from stepwire.server.extras import not_installed

        sys.exit(f"error: {not_installed(error, 'cli')}; the extra 'server' has what serves, too")
    except KeyboardInterrupt:  # the imports take a moment
        sys.exit(130)
    _prepare_streams()
    try:
        make_app()(prog_name="stepwire")
    except OSError as error:
        if error.errno not in (errno.ENOSPC, errno.EIO, errno.EDQUOT):
            raise
        _drop_output()
        sys.exit(f"error: cannot write the output: {error.strerror}")


def _prepare_streams() -> None:
    """Make the standard streams usable: closed ones go nowhere, others take every character."""
    for name, mode in (("stdin", "r"), ("stdout", "w"), ("stderr", "w")):
        if getattr(sys, name) is None:  # the shell closed it, as with >&-
            setattr(sys, name, open(os.devnull, mode, encoding="utf-8"))  # noqa: SIM115 - open to the end
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            # Other programs get UTF-8 whatever the locale is; a terminal gets what it can show.
            stream.reconfigure(encoding=None if stream.isatty() else "utf-8", errors="backslashreplace")


def _drop_output() -> None:
    """Let the interpreter's last flush of standard output succeed."""
    with contextlib.suppress(OSError, ValueError):
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


def __getattr__(name: str) -> Any:
    if name == "app":
        from stepwire.cli._app import make_app  # as in main

        return make_app()
    raise AttributeError(name)
