"""What a check finds."""

from __future__ import annotations

from typing import Literal, NamedTuple

Status = Literal["ok", "warning", "problem"]


class Check(NamedTuple):
    """What was looked at, how it is, and what to do when it is not well."""

    name: str
    status: Status
    message: str
    advice: str = ""


def ok(name: str, message: str) -> Check:
    """Return that all is well."""
    return Check(name, "ok", message)


def warning(name: str, message: str, advice: str) -> Check:
    """Return that a server runs, but not as it should."""
    return Check(name, "warning", message, advice)


def problem(name: str, message: str, advice: str) -> Check:
    """Return that a server cannot start, or loses something."""
    return Check(name, "problem", message, advice)
