"""What runs the body of an execution, as far as the broker knows."""

from __future__ import annotations

from typing import Protocol

__all__ = ["Body"]


class Body(Protocol):
    """What runs the body of an execution."""

    def end(self) -> object:
        """Cancel it."""
