"""What a value that is saved, or that a client sends, may be at most."""

from __future__ import annotations

from typing import Final

from stepwire.workflow.jsonable import MAX_INT_DIGITS

__all__ = ["MAX_DEPTH", "MAX_INT_BITS", "MAX_INT_DIGITS"]

MAX_DEPTH: Final = 100
"""Levels of nesting, of values and of the JSON of clients; a model and its field count as one level each.

Deeper values come close to the recursion limit of Python, and of the parsers of clients.
"""

MAX_INT_BITS: Final = 14_000
"""Bits of an integer: just above MAX_INT_DIGITS, and cheaper to measure."""
