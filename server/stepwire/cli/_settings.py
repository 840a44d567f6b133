"""The settings of a server as options of the commands that take them."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Final

import typer

if TYPE_CHECKING:
    from stepwire.server.config_table import Row

__all__ = ["CONTEXT", "ConfigFile", "add_settings"]

ConfigFile = Annotated[
    Path | None,
    typer.Option(
        envvar="STEPWIRE_CONFIG",
        metavar="FILE",
        help="A TOML file with settings. Flags and STEPWIRE_* variables override it.",
        show_default=False,
    ),
]

_NAMES: Final = {"web_address": ("--web-address", "--web")}
"""Options with a short name besides that of their setting."""
_ROWS: list[Row] = []
CONTEXT: Final[dict[str, Any]] = {}
"""The context settings of a command with these options."""

try:
    from stepwire.server.config_table import rows
except ModuleNotFoundError:
    # Without the extra `server` the command accepts any option and then says what is missing.
    CONTEXT.update(ignore_unknown_options=True, allow_extra_args=True)
else:
    _ROWS.extend(row for row in rows() if row.flag)


def add_settings(command: Callable[..., None]) -> Callable[..., None]:
    """Give a command with `**settings` an option for each setting; typer reads the signature."""
    signature = inspect.signature(command, eval_str=True)
    parameters = [item for item in signature.parameters.values() if item.kind is not inspect.Parameter.VAR_KEYWORD]
    for row in _ROWS:
        text = row.description.replace("`", "")
        if row.switch:
            kind: Any = Annotated[bool | None, typer.Option(help=text, show_default=False)]
        else:
            text += f" Default: {row.default}." if row.default else ""
            kind = Annotated[
                str | None, typer.Option(*_NAMES.get(row.name, ()), metavar=row.metavar, help=text, show_default=False)
            ]
        keyword = inspect.Parameter.POSITIONAL_OR_KEYWORD
        parameters.append(inspect.Parameter(row.name, keyword, default=None, annotation=kind))
        command.__annotations__[row.name] = kind
    command.__signature__ = signature.replace(parameters=parameters)  # type: ignore[attr-defined]
    return command
