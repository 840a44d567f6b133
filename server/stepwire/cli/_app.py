"""The commands, put together."""

from __future__ import annotations

from importlib import import_module

import typer

__all__ = ["app_of"]

_MODULES = (
    "serve",
    "workflows",
    "run",
    "runs",
    "events",
    "history",
    "state",
    "snapshot",
    "backup",
    "doctor",
    "keys",
    "health",
    "version",
)
_ENVIRONMENT = """\b
Environment of the commands that call a server:
  STEPWIRE_SERVER       HOST:PORT, as --server
  STEPWIRE_TOKEN        an API key or a token
  STEPWIRE_TLS=1        speak TLS, with the usual roots
  STEPWIRE_CA           speak TLS, with the roots of this PEM file
  STEPWIRE_CERT, _KEY   this client's certificate, for mutual TLS
  STEPWIRE_SERVER_NAME  the name to find in the server's certificate
"""
_ALONE = frozenset({"serve", "health"})
"""Commands with a module of their own that something waits for: clients in a restart, a probe."""


def app_of(command: str = "") -> typer.Typer:
    """Return the command line for a start with this command: with it alone if that is faster, else with all."""
    made = typer.Typer(
        name="stepwire",
        help="Serve event-driven workflows, start runs of them, and talk with those runs.",
        epilog=_ENVIRONMENT,
        no_args_is_help=True,
        rich_markup_mode=None,
        pretty_exceptions_enable=False,
        context_settings={"help_option_names": ["-h", "--help"]},
    )
    made.callback()(_group)
    for module in (command,) if command in _ALONE else _MODULES:
        # All of them take longer to import than a server takes to start.
        import_module(f"stepwire.cli.{module}").register(made)
    return made


def _group() -> None:
    # Makes typer keep the command's name in front, also where there is only one.
    ...
