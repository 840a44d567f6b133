"""What is wrong with the settings of a start, told by the name of the setting and its source."""

from __future__ import annotations

from collections.abc import Collection, Iterable
from difflib import get_close_matches
from pathlib import Path
from typing import Final

from pydantic import ValidationError

__all__ = ["PREFIX", "ConfigError", "check_names", "told"]

PREFIX: Final = "STEPWIRE_"
"""What the environment variable of a setting begins with."""
_LIKENESS: Final = 0.85
"""How similar (difflib's ratio) a variable must be to a setting to be taken for a misspelling of it."""


class ConfigError(ValueError):
    """A setting is wrong. The message names it, its source if known, and what is allowed."""


def check_names(environment: Iterable[str], settings: Collection[str]) -> None:
    """Raise ConfigError for a variable that looks like a misspelt setting, which would have no effect.

    Args:
        environment: The names of the variables.
        settings: The names of the settings.
    """
    known = [name.upper() for name in settings]
    for variable in environment:
        name = variable.upper().removeprefix(PREFIX)
        if name != variable.upper() and name not in known and (meant := get_close_matches(name, known, 1, _LIKENESS)):
            raise ConfigError(f"{variable}: there is no such setting; {PREFIX}{meant[0]} is one")


def told(error: ValidationError, config: Path | None) -> str:
    """Describe each problem: the setting, and what is wrong with it."""
    lines = []
    for problem in error.errors(include_url=False, include_input=False, include_context=False):
        name = ".".join(str(part) for part in problem["loc"])
        message = problem["msg"].removeprefix("Value error, ")
        if problem["type"] == "extra_forbidden":
            message = f"there is no such setting{f' (in {config})' if config else ''}"
        lines.append(f"{name}: {message}" if name else message)
    return "; ".join(lines)
