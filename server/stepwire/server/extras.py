"""Say how to install the extra that a missing package comes with. Imports nothing: the base install has it, too."""

from __future__ import annotations

__all__ = ["how_to_install", "not_installed"]


def how_to_install(extra: str) -> str:
    """Return the command that installs an extra, as a wheel or from a checkout."""
    return f"pip install 'stepwire[{extra}]', or '.[{extra}]' in a checkout of Stepwire"


def not_installed(error: ImportError, extra: str) -> str:
    """Return the message about a package that is missing because an extra is not installed."""
    return f"{error.name} is not installed: {how_to_install(extra)}"
