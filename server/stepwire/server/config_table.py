"""The settings as a table: docs/configuration.md and the options of the command line are made from it."""

from __future__ import annotations

from collections.abc import Iterator
from types import UnionType
from typing import Any, Literal, NamedTuple, Union, get_args, get_origin

from stepwire.server.config import Settings
from stepwire.server.config_types import Metavar

__all__ = ["Row", "rows"]


class Row(NamedTuple):
    """One setting."""

    name: str
    flag: str
    """As `--grace`; empty when the command line cannot set it."""
    metavar: str
    """The placeholder of its value."""
    switch: bool
    """Whether it has a flag for yes and one for no, and no value."""
    default: str
    """Empty when there is none."""
    description: str


def rows() -> Iterator[Row]:
    """Yield the settings in the order of their definition."""
    for name, field in Settings.model_fields.items():
        kinds = list(_flattened([field.annotation, *field.metadata]))
        switch = bool in kinds
        flag = f"--{name.replace('_', '-')}"
        if switch:
            flag += f" / --no-{name.replace('_', '-')}"
        elif any(get_origin(kind) is dict for kind in kinds):
            flag = ""
        metavar = _metavar(kinds)
        value = None if field.is_required() else field.get_default(call_default_factory=True)
        default = "" if value is None else _shown(value, metavar)
        yield Row(name, flag, metavar, switch, default, field.description or "")


def _flattened(annotations: list[Any]) -> Iterator[Any]:
    """Yield the members of unions and what is written beside a type in `Annotated`."""
    for annotation in annotations:
        inner = getattr(annotation, "__metadata__", ())
        if inner:
            yield from _flattened([annotation.__origin__, *inner])
        elif get_origin(annotation) in (Union, UnionType):
            yield from _flattened(list(get_args(annotation)))
        else:
            yield annotation


def _metavar(kinds: list[Any]) -> str:
    for kind in kinds:
        if isinstance(kind, Metavar):
            return kind.text
        if get_origin(kind) is Literal:
            return "|".join(get_args(kind))
    return "TEXT"


def _shown(default: Any, metavar: str) -> str:
    if isinstance(default, bool):
        return str(default).lower()
    if metavar == "SIZE":
        return f"{default >> 20}MiB"
    if isinstance(default, dict):
        return ""
    return f"{default:g}" if isinstance(default, float) else str(default)
