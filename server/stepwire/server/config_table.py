"""The settings as a table: docs/configuration.md and the options of the command line are made from it."""

from __future__ import annotations

from collections.abc import Iterator
from types import UnionType
from typing import Any, Final, Literal, NamedTuple, Union, get_args, get_origin

from stepwire.server.config import QUOTAS, Settings
from stepwire.server.config_types import Metavar

__all__ = ["Row", "rows", "told"]

_UNITS = (("d", 86400.0), ("h", 3600.0), ("m", 60.0), ("s", 1.0), ("ms", 0.001))
"""Of a time, the longest first."""


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


_TOLD: Final = frozenset(
    {
        "idle_after", "grace", "reflection", "log_level", "execution_log", "watchdog", "heartbeat", "stalled_after",
        "sync_threads", "insecure", "lease",
    }
)  # fmt: skip
"""Settings that callers may be told, besides limits and retention: no names of files, hosts, issuers or keys."""


def told(settings: Settings) -> dict[str, str]:
    """Return the settings that callers may be told, as text; one that is not set is empty."""
    found = {}
    for row in rows():
        if row.name in _TOLD or row.name.startswith(("max_", "retention_")):
            value = getattr(settings, row.name)
            if row.name in QUOTAS:
                value = settings.quota(row.name) or None
            found[row.name] = "" if value is None or value == {} else _shown(value, row.metavar)
    return {**found, "failure_detail": settings.shown_failure_detail}


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
        units = ((1 << 30, "GiB"), (1 << 20, "MiB"), (1 << 10, "KiB"))
        return next(
            (f"{default // unit}{name}" for unit, name in units if default and default % unit == 0), str(default)
        )
    if metavar == "TIME":
        return next(f"{default / unit:g}{name}" for name, unit in _UNITS if default >= unit) if default else "0"
    if isinstance(default, dict):
        return ""
    return f"{default:g}" if isinstance(default, float) else str(default)
