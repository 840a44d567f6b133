"""Parse what is typed after a command: key=value, JSON, labels, times. Wrong text is a usage error (exit code 2)."""

from __future__ import annotations

import json
import math
import re
import sys
from collections.abc import Iterable
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import typer

__all__ = ["fields", "json_object", "labels", "moment", "pairs", "run_and_sequence", "seconds", "value"]

_SPAN = re.compile(r"(\d+(?:\.\d+)?)(ms|s|m|h|d)?")
_LONGEST = 315_576_000_000.0
"""Seconds: what a message can hold."""
_UNITS = {"ms": 0.001, "s": 1.0, "m": 60.0, "h": 3600.0, "d": 86400.0}


def value(text: str) -> Any:
    """Return the value of a text that is JSON, else the text. NaN and Infinity are text, and so is 1e400."""
    try:
        return json.loads(text, parse_constant=_refuse, parse_float=_finite)
    except (ValueError, RecursionError):
        return text


def pairs(items: Iterable[str], what: str = "key=value") -> dict[str, Any]:
    """Return `key=value` arguments as a dict; values as of `value`."""
    result: dict[str, Any] = {}
    for item in items:
        key, found, text = item.partition("=")
        if not found or not key:
            raise typer.BadParameter(f"{item!r} is not of the form {what}")
        if key in result:
            raise typer.BadParameter(f"{key} is given twice")
        result[key] = value(text)
    return result


def json_object(text: str, option: str) -> dict[str, Any]:
    """Return a JSON object given as text, as `@file`, or as `@-` for standard input."""
    source = option
    if text.startswith("@"):
        name = text[1:]
        source = f"{option} ({name})"
        try:
            text = sys.stdin.read() if name == "-" else Path(name).read_text(encoding="utf-8-sig")
        except (OSError, UnicodeDecodeError) as error:
            raise typer.BadParameter(f"{source}: {_why(error)}") from error
    try:
        found = json.loads(text, parse_constant=_refuse, parse_float=_finite)
    except ValueError as error:
        where = f"line {error.lineno} column {error.colno}" if isinstance(error, json.JSONDecodeError) else str(error)
        raise typer.BadParameter(f"{source} is not JSON ({where})") from error
    except RecursionError:
        raise typer.BadParameter(f"{source} is nested too deep") from None
    if not isinstance(found, dict):
        raise typer.BadParameter(f"{source} is not a JSON object")
    return found


def fields(items: Iterable[str], document: str | None) -> dict[str, Any] | None:
    """Return the fields of an event: those of `--input`, overridden by `key=value`. None when neither is given."""
    given = pairs(items)
    if document is None:
        return given or None
    return {**json_object(document, "--input"), **given}


def labels(items: Iterable[str]) -> dict[str, str]:
    """Return `--label key=value` options; values are text."""
    result: dict[str, str] = {}
    for item in items:
        key, found, text = item.partition("=")
        if not found or not key:
            raise typer.BadParameter(f"{item!r} is not of the form key=value", param_hint="--label")
        result[key] = text
    return result


def seconds(text: str) -> float:
    """Return a time span in seconds. It is given in seconds or with a unit: 500ms, 30s, 5m, 2h, 1d."""
    match = _SPAN.fullmatch(text.strip())
    if match is None:
        raise typer.BadParameter(f"{text!r} is not a time span such as 30, 30s, 5m, 2h or 1d")
    found = float(match[1]) * _UNITS[match[2] or "s"]
    if found > _LONGEST:
        raise typer.BadParameter(f"{text!r} is longer than 10,000 years")
    return found


def moment(text: str, otherwise: str = "a time span ago") -> datetime:
    """Return a time that is given in ISO 8601 (local when it has no zone), or as a time span ago.

    Args:
        text: What was typed.
        otherwise: What may be typed instead of a time, for the message.
    """
    if _SPAN.fullmatch(text.strip()):
        try:
            return datetime.now(UTC) - timedelta(seconds=seconds(text))
        except OverflowError:
            raise typer.BadParameter(f"{text!r} ago is before the year 1") from None
    try:
        return datetime.fromisoformat(text).astimezone(UTC)
    except (OverflowError, ValueError):
        raise typer.BadParameter(f"{text!r} is neither a time (2026-01-31T12:00) nor {otherwise} (2h)") from None


def run_and_sequence(text: str) -> str | tuple[str, int]:
    """Return `RUN` or `RUN@SEQUENCE`."""
    run, found, number = text.partition("@")
    if not found:
        return run
    if not run or not number.isdecimal():
        raise typer.BadParameter(f"{text!r} is not of the form RUN or RUN@SEQUENCE")
    return run, int(number)


def _finite(text: str) -> float:
    """Return a number; refuse one that is too large for a float, since infinity is not JSON."""
    number = float(text)
    if math.isinf(number):
        raise ValueError(f"{text} is too large")
    return number


def _refuse(constant: str) -> None:
    raise ValueError(f"{constant} is not JSON")


def _why(error: OSError | UnicodeDecodeError) -> str:
    return (error.strerror or str(error)) if isinstance(error, OSError) else "is not UTF-8 text"
