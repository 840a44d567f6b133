"""Which versions of llama-index-workflows workflows are adopted from. Imports nothing of that package."""

from __future__ import annotations

from importlib.metadata import PackageNotFoundError, version
from typing import Final

from stepwire.workflow.errors import WorkflowConfigurationError

__all__ = ["TESTED", "check_version", "unfit"]

TESTED: Final = ("2.25", "2.26")
"""The minor versions of llama-index-workflows that CI runs the tests of adoption with."""


def unfit(why: str = "") -> WorkflowConfigurationError:
    """Return the error that says which version is installed, and which ones were tested."""
    try:
        found = f"llama-index-workflows {version('llama-index-workflows')} is installed"
    except PackageNotFoundError:
        found = "llama-index-workflows is not installed"
    reason = f" ({why})" if why else ""
    return WorkflowConfigurationError(
        f"{found}; workflows are adopted from {TESTED[0]} on, and tested with {' and '.join(TESTED)}{reason}:"
        " pip install 'stepwire[llamaindex]', in a checkout '.[llamaindex]'"
    )


def check_version() -> None:
    """Raise WorkflowConfigurationError if the installed version is not one of 2.x that has what is used here."""
    try:
        major, minor, *_ = version("llama-index-workflows").split(".")
        fits = int(major) == 2 and int(minor) >= int(TESTED[0].partition(".")[2])
    except (PackageNotFoundError, ValueError):
        fits = False
    if not fits:
        raise unfit()
