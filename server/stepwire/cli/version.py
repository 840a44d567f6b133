"""`stepwire version`."""

from __future__ import annotations

import platform
from importlib.metadata import PackageNotFoundError
from importlib.metadata import version as version_of

import typer

from stepwire.cli._arguments import Json
from stepwire.cli._help import examples
from stepwire.cli.render.terminal import Output

__all__ = ["register"]


def register(app: typer.Typer) -> None:
    """Add the command."""
    app.command(epilog=examples("stepwire version --json"))(version)


def version(as_json: Json = False) -> None:
    """Write the versions of stepwire and of what it stands on."""
    output = Output(json=as_json)
    found = {name: _version(name) for name in ("stepwire", "grpcio", "protobuf", "pydantic")}
    found["python"] = platform.python_version()
    if as_json:
        output.document(found)
    else:
        first, *others = (f"{name} {number}" for name, number in found.items())
        output.text(f"{first} ({', '.join(others)})")


def _version(name: str) -> str:
    try:
        return version_of(name)
    except PackageNotFoundError:  # run from a checkout that was not installed
        return "unknown"
