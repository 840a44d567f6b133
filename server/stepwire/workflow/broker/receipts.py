"""What transitions take and give: receipts of events, and outputs of a step that were encoded before it finishes."""

from __future__ import annotations

from typing import NamedTuple

from stepwire.workflow.events import Event

__all__ = ["EncodedOutput", "Receipt"]


class Receipt(NamedTuple):
    """What became of an event: its place in the log, and how many deliveries and waiters took it."""

    sequence: int
    delivered: int


EncodedOutput = tuple[Event, tuple[str, ...], bytes | None, bytes | None]
"""An event that a step returned, the steps that take it, and its forms in the log and in a snapshot."""
