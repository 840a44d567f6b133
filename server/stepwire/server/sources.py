"""Where settings come from beside flags: the environment and a TOML file, as plain values."""

from __future__ import annotations

import json
import os
from collections.abc import Collection, Mapping
from pathlib import Path
from typing import Any

__all__ = ["environment", "merged", "toml"]


def environment(prefix: str, names: Collection[str], tables: Collection[str]) -> dict[str, Any]:
    """Return what variables of the prefix, in whatever case, say of settings; `tables` are JSON in them. ValueError."""
    variables = {name.lower(): (name, value) for name, value in os.environ.items()}
    found: dict[str, Any] = {}
    for setting in names:
        name, value = variables.get(f"{prefix}{setting}".lower(), ("", ""))
        if name and setting in tables:
            try:
                found[setting] = json.loads(value)
            except json.JSONDecodeError as error:
                raise ValueError(f"{name} is no JSON: {error.msg}") from None
        elif name:
            found[setting] = value
    return found


def toml(path: Path) -> dict[str, Any]:
    """Return what a file holds. OSError, ValueError."""
    import tomllib  # here: few servers have a file, and every millisecond of a start counts

    with path.open("rb") as file:
        return tomllib.load(file)


def merged(first: Mapping[str, Any], *others: Mapping[str, Any]) -> dict[str, Any]:
    """Return what all say, the first before the others; tables are joined."""
    found = dict(first)
    for other in others:
        for name, value in other.items():
            if name not in found:
                found[name] = value
            elif isinstance(found[name], Mapping) and isinstance(value, Mapping):
                found[name] = merged(found[name], value)
    return found
