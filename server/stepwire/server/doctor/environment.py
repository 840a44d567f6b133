"""Check the interpreter, the packages, and the workflows."""

from __future__ import annotations

import platform
import re
import sqlite3
import sys
from collections.abc import Sequence
from importlib.metadata import PackageNotFoundError, requires, version

from stepwire.server.doctor.check import Check, ok, problem
from stepwire.server.extras import how_to_install
from stepwire.server.registry import Registry
from stepwire.server.workflow_loading import LoadError, load_all

_PYTHON = (3, 11)
_SQLITE = (3, 35)
"""The first version with RETURNING."""
_REQUIREMENT = re.compile(r"([A-Za-z0-9._-]+)(?:\[[^]]*\])?\s*(?:>=([0-9.]+))?")
_TOLD = ("stepwire", "grpcio", "protobuf", "pydantic")


def python() -> Check:
    """Check the interpreter and the SQLite in it."""
    message = f"Python {platform.python_version()}, SQLite {sqlite3.sqlite_version}"
    if sys.version_info < _PYTHON:
        return problem("python", message, "use Python 3.11 or later")
    if sqlite3.sqlite_version_info < _SQLITE:
        return problem("python", message, "use a Python with SQLite 3.35 or later")
    return ok("python", message)


def packages() -> Check:
    """Check that the packages that the server needs are installed, in versions that it works with."""
    wrong = []
    try:
        needed = requires("stepwire") or []
    except PackageNotFoundError:
        return problem("packages", "stepwire is not installed", how_to_install("server"))
    for requirement in needed:
        what, _, marker = requirement.partition(";")
        match = _REQUIREMENT.match(what.strip())
        if match is None or match[1] == "stepwire" or ("extra" in marker and "server" not in marker):
            continue
        if "win32" in marker and sys.platform == "win32":
            continue
        try:
            found = version(match[1])
        except PackageNotFoundError:
            wrong.append(f"{match[1]} is not installed")
            continue
        if match[2] and _numbers(found) < _numbers(match[2]):
            wrong.append(f"{match[1]} {found} is older than {match[2]}")
    if wrong:
        return problem(
            "packages", "; ".join(wrong), how_to_install("server").replace("install", "install --upgrade", 1)
        )
    return ok("packages", ", ".join(f"{name} {version(name)}" for name in _TOLD))


def workflows(specs: Sequence[str], registry: Registry) -> Check:
    """Check that the workflows can be loaded and run."""
    try:
        load_all(registry, specs)
    except LoadError as error:
        return problem("workflows", str(error), "correct it, or name another one: MODULE:NAME or path/to/file.py:NAME")
    return ok("workflows", ", ".join(registry.names()))


def _numbers(text: str) -> tuple[int, ...]:
    return tuple(int(part) for part in re.findall(r"\d+", text)[:3])
