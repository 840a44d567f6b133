"""Datetimes and times as JSON, with their zone and fold and not only the instant."""

from __future__ import annotations

import functools
from collections.abc import Callable
from datetime import datetime, time, timedelta, timezone
from typing import Any
from zoneinfo import ZoneInfo, available_timezones

from pydantic_core import TzInfo

from stepwire.workflow.errors import SnapshotError

__all__ = ["UnsavedZoneError", "read_clock", "write_clock"]


class UnsavedZoneError(ValueError):
    """Report a time zone that has no name to save it by."""


def write_clock(value: datetime | time) -> Any:
    """Return ISO 8601 text, or `[naive ISO text, zone, fold]` when the text alone would lose something.

    The zone is None, the name of an IANA zone, or `[offset in microseconds, name]`.

    Raises:
        UnsavedZoneError: The zone is of a class of the author's own.
    """
    zone = value.tzinfo
    fixed = type(zone) is TzInfo
    name: str | None = None
    if type(zone) is timezone:
        arguments: Any = zone.__reduce__()[1]  # (offset,) or (offset, name)
        fixed = True
        name = arguments[1] if len(arguments) > 1 else None
    if (zone is None or fixed) and not value.fold and name is None:
        return value.isoformat()
    naive = value.replace(tzinfo=None).isoformat()
    if zone is None:
        return [naive, None, value.fold]
    if fixed:
        offset = zone.utcoffset(None)
        assert offset is not None
        return [naive, [offset // timedelta(microseconds=1), name], value.fold]
    if type(zone) is ZoneInfo and zone.key is not None:
        return [naive, zone.key, value.fold]
    raise UnsavedZoneError(type(zone).__name__)


def read_clock(item: Any, parse: Callable[[str], Any]) -> Any:
    """Return what `write_clock` was given; `parse` reads ISO 8601 text of its type.

    Raises:
        SnapshotError: The zone is not known on this machine.
        ValueError, TypeError: `item` is malformed.
    """
    if type(item) is str:
        return parse(item)
    if type(item) is not list:
        raise TypeError("not a time")
    naive, zone, fold = item
    value = parse(naive).replace(fold=fold)
    if zone is None:
        return value
    if type(zone) is str:
        return value.replace(tzinfo=_zone(zone))
    offset, name = zone
    shift = timedelta(microseconds=offset)
    return value.replace(tzinfo=timezone(shift) if name is None else timezone(shift, name))


@functools.cache
def _zones() -> frozenset[str]:
    return frozenset(available_timezones())


def _zone(name: str) -> ZoneInfo:
    # Looking for a zone opens a file, and imports a package, that the name chooses: only known names may.
    if name not in _zones():
        raise SnapshotError("a time zone that is not known here")
    return ZoneInfo(name)
