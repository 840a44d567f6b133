"""The result of a check."""

from __future__ import annotations

from typing import Literal, NamedTuple

Status = Literal["ok", "warning", "problem"]


class Check(NamedTuple):
    """The result of a check.

    Attributes:
        name: What was examined.
        status: How it is.
        message: What was found.
        advice: What to do about it; empty when all is well.
    """

    name: str
    status: Status
    message: str
    advice: str = ""


def ok(name: str, message: str) -> Check:
    """Return a result that is well."""
    return Check(name, "ok", message)


def warning(name: str, message: str, advice: str) -> Check:
    """Return a result with which a server runs, but not as it should."""
    return Check(name, "warning", message, advice)


def problem(name: str, message: str, advice: str) -> Check:
    """Return a result with which a server cannot start, or loses something."""
    return Check(name, "problem", message, advice)
