"""What every command needs, also one that calls no server: exit codes and examples."""

from __future__ import annotations

__all__ = ["ERROR", "INTERRUPTED", "RUN_ENDED_BADLY", "USAGE", "examples"]

ERROR, USAGE, RUN_ENDED_BADLY, INTERRUPTED = 1, 2, 3, 130
"""Exit codes."""


def examples(*lines: str) -> str:
    """Return the epilog of a command's help."""
    title = "Example:" if len(lines) == 1 else "Examples:"
    return "\n".join(["\b", title, *(f"  {line}" for line in lines)])
