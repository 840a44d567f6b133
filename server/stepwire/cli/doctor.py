"""`stepwire doctor`."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.text import Text

from stepwire.cli._arguments import Json
from stepwire.cli._exit_codes import ERROR
from stepwire.cli._help import examples
from stepwire.cli._settings import CONTEXT, ConfigFile, add_settings
from stepwire.cli.render.terminal import Output
from stepwire.cli.render.text import clean
from stepwire.server.extras import not_installed

if TYPE_CHECKING:
    from stepwire.server.doctor import Check

__all__ = ["register"]

_STYLES = {"ok": "green", "warning": "yellow", "problem": "red"}

EPILOG = examples(
    "stepwire doctor orders:OrderFlow --data /var/lib/stepwire",
    "stepwire doctor --config /etc/stepwire/stepwire.toml --json",
)


def register(app: typer.Typer) -> None:
    """Add the command."""
    app.command(epilog=EPILOG, context_settings=CONTEXT)(doctor)


@add_settings
def doctor(
    workflows: Annotated[
        list[str] | None,
        typer.Argument(metavar="MODULE:NAME", help="The workflows, as serve takes them.", show_default=False),
    ] = None,
    config: ConfigFile = None,
    as_json: Json = False,
    **settings: Any,
) -> None:
    """Check everything that a server needs.

    Takes the settings of serve; says what is wrong and what to do about it. Starts nothing and changes nothing, so the
    server may be running. Exits with 1 when there is a problem.
    """
    output = Output(json=as_json)
    try:
        # Imported here: the help of the command must not wait for the engine.
        from stepwire.server.config import Settings
        from stepwire.server.config_errors import ConfigError
        from stepwire.server.doctor import Check, examine, examine_environment
        from stepwire.server.registry import Registry
    except ModuleNotFoundError as error:
        output.note(f"error: {not_installed(error, 'server')}", style="red")
        raise typer.Exit(ERROR) from None
    registry = Registry()
    found: list[Check] = []

    def tell(check: Check) -> None:
        found.append(check)
        if not as_json:
            _show(output, check)

    for check in examine_environment(workflows or [], registry):
        tell(check)
    try:
        chosen = Settings.load(config, **settings)
    except ConfigError as error:
        tell(Check("settings", "problem", str(error), "docs/configuration.md has them all"))
    else:
        tell(Check("settings", "ok", str(config) if config is not None else "flags, environment and defaults"))
        for check in examine(chosen, registry):
            tell(check)
    problems = sum(check.status == "problem" for check in found)
    if as_json:
        output.document({"checks": [check._asdict() for check in found], "problems": problems})
    if problems:
        raise typer.Exit(ERROR)


def _show(output: Output, check: Check) -> None:
    line = Text(f"{check.status:<8}", style=_STYLES[check.status])
    line.append(f" {check.name:<14} {clean(check.message, keep='')}", style="default")
    if check.advice and check.status != "ok":
        line.append(f" → {clean(check.advice, keep='')}", style="default")
    output.line(line)
