"""The commands, put together. A command's module is imported when the command is called."""

from __future__ import annotations

from collections.abc import Mapping
from functools import cache
from importlib import import_module
from typing import Annotated, Any

import typer
from typer.core import TyperGroup

from stepwire.cli._groups import Commands, refuse_unknown

__all__ = ["COMMANDS", "make_app"]

COMMANDS: Mapping[str, tuple[str, str]] = {
    "serve": ("serve", "Serve workflows until SIGTERM or Ctrl-C."),
    "workflows": ("workflows", "List the served workflows, or show one."),
    "describe": ("workflows", "Write a workflow's types as a JSON Schema document."),
    "generate": ("generate", "Write types for a workflow's events, input, state and result."),
    "protos": ("generate", "Write the contract's protos, with all that they import."),
    "run": ("run", "Start a run, follow it, write its result."),
    "result": ("run", "Wait for the end of a run and write its result."),
    "runs": ("runs", "List runs, or show one: steps, errors, questions, outcome."),
    "cancel": ("steering", "Cancel a run, or many. A run that has ended stays as it is."),
    "reload": ("reload", "Take waiting or blocked runs to the code that is served now."),
    "delete": ("steering", "Delete an ended run, or many, with logs and snapshots."),
    "retry": ("steering", "Go on from what failed: start runs that continue ended ones."),
    "pause": ("pausing", "Pause runs, or a workflow: nothing new starts, input is kept."),
    "resume": ("pausing", "Let paused runs, or a paused workflow, go on."),
    "schedule": ("schedule", "Start runs at due times: by cron, at intervals, or once."),
    "events": ("events", "Write the events of a run's log, a line each."),
    "send": ("events", "Send an event to a run, or answer its question."),
    "history": (
        "history",
        "Write what happened in a run, as a tree.",
    ),
    "fork": ("history", "Start another run from a moment of a run's past."),
    "state": ("state", "Read and write the state of a run."),
    "snapshot": ("snapshot", "Fetch a run's context, to read or to start a run from."),
    "backup": ("backup", "Copy a data directory's database while its server runs."),
    "move": ("move", "Move all runs from a data directory into PostgreSQL."),
    "check": ("check", "Say which unfinished runs new code would block."),
    "doctor": ("doctor", "Check everything that a server needs."),
    "replicas": ("replicas", "List the replicas on a PostgreSQL, and what each of them has."),
    "keys": ("keys", "Make, list and revoke the API keys of a server's access file."),
    "server": ("server", "Show a server, and who this credential makes you."),
    "health": ("health", "Ask a server whether it serves."),
    "version": ("version", "Write the versions of stepwire and of what it stands on."),
}
"""The module and the line in the list of commands, by the name of the command, in the order of that list."""

_ENVIRONMENT = """\b
Environment of the commands that call a server:
  STEPWIRE_SERVER       HOST:PORT, as --server
  STEPWIRE_TOKEN        an API key or a token
  STEPWIRE_TLS=1        speak TLS, with the usual roots
  STEPWIRE_CA           speak TLS, with the roots of this PEM file
  STEPWIRE_CERT, _KEY   this client's certificate, for mutual TLS
  STEPWIRE_SERVER_NAME  the name to find in the server's certificate
  STEPWIRE_TIMEOUT      how long a call may take, as 60 or 2m; usually 10 seconds
"""


class CommandGroup(TyperGroup):
    """The group of all commands, which imports only what is called.

    Importing all of them takes longer than a server takes to start, and the list of commands needs none.
    Parameters are those of click, whose classes have no stable place: some versions of typer bundle click.
    """

    def list_commands(self, ctx: Any) -> list[str]:
        """Return the names of the commands."""
        return list(COMMANDS)

    def get_command(self, ctx: Any, cmd_name: str) -> Any:
        """Return a command, None when there is none of this name."""
        if cmd_name not in COMMANDS:
            return None
        module, _ = COMMANDS[cmd_name]
        return _commands_of(module)[cmd_name]

    def resolve_command(self, ctx: Any, args: list[str]) -> Any:
        """Return the command that the arguments name; of a misspelled name, say which may be meant."""
        if args:
            refuse_unknown(ctx, args[0], COMMANDS)
        return super().resolve_command(ctx, args)

    def format_commands(self, ctx: Any, formatter: Any) -> None:
        """Write the list of commands."""
        with formatter.section("Commands"):
            formatter.write_dl([(name, line) for name, (_, line) in COMMANDS.items()])


@cache
def _commands_of(module: str) -> Mapping[str, Any]:
    made = Commands(rich_markup_mode=None)
    made.callback()(_no_options)  # without a callback typer makes no group of a single command
    import_module(f"stepwire.cli.{module}").register(made)
    return typer.main.get_group(made).commands


def _show_version(asked: bool) -> None:
    if asked:
        from stepwire.cli.version import version

        version()
        raise typer.Exit


def make_app() -> typer.Typer:
    """Return the command line."""
    made = typer.Typer(
        name="stepwire",
        cls=CommandGroup,
        help="Serve event-driven workflows, start runs of them, and talk with those runs.",
        epilog=_ENVIRONMENT,
        no_args_is_help=True,
        rich_markup_mode=None,
        pretty_exceptions_enable=False,
        context_settings={"help_option_names": ["-h", "--help"]},
    )
    made.callback()(_options)
    return made


def _no_options() -> None: ...


def _options(
    version: Annotated[
        bool, typer.Option("--version", help="As the command version.", callback=_show_version, is_eager=True)
    ] = False,
) -> None: ...
