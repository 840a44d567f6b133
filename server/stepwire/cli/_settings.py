"""The settings of a server as options of the commands that take them."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from pathlib import Path
from typing import Annotated, Any

import typer

from stepwire.cli._options import OPTIONS

__all__ = ["ConfigFile", "add_settings"]

ConfigFile = Annotated[
    Path | None,
    typer.Option(
        envvar="STEPWIRE_CONFIG",
        metavar="FILE",
        help="A TOML file with settings; flags and STEPWIRE_* variables go before it.",
        show_default=False,
    ),
]


def add_settings(command: Callable[..., None]) -> Callable[..., None]:
    """Give a command with `**settings` an option for each setting: typer reads the signature."""
    signature = inspect.signature(command, eval_str=True)
    parameters = [item for item in signature.parameters.values() if item.kind is not inspect.Parameter.VAR_KEYWORD]
    for option in OPTIONS:
        if option.switch:
            kind: Any = Annotated[bool | None, typer.Option(help=option.help, show_default=False)]
        else:
            kind = Annotated[str | None, typer.Option(metavar=option.metavar, help=option.help, show_default=False)]
        keyword = inspect.Parameter.POSITIONAL_OR_KEYWORD
        parameters.append(inspect.Parameter(option.name, keyword, default=None, annotation=kind))
        command.__annotations__[option.name] = kind
    command.__signature__ = signature.replace(parameters=parameters)  # type: ignore[attr-defined]
    return command
