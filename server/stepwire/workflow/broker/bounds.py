"""What one run of a host may hold."""

from __future__ import annotations

import sys
from typing import Final, NamedTuple

__all__ = ["UNBOUNDED", "Bounds"]


class Bounds(NamedTuple):
    """Bound what one run may hold, so that it harms neither its host nor other runs.

    A call that exceeds the bound of an event or of the state raises, and changes nothing. A run that reaches one of the
    other bounds by its own steps fails.

    Attributes:
        event_bytes: Bytes of one event as JSON.
        state_bytes: Bytes of the state as JSON.
        entries: Entries of the log.
        deliveries: Deliveries that are not finished.
    """

    event_bytes: int = sys.maxsize
    state_bytes: int = sys.maxsize
    entries: int = sys.maxsize
    deliveries: int = sys.maxsize

    def reached(self, *, log: bool) -> str:
        """Say which bound the steps of a run have reached: that of its log, or that of its deliveries."""
        if log:
            return f"the log of a run may have at most {self.entries} entries (max_log_entries)"
        return f"a run may have at most {self.deliveries} events to work on (max_queued_events)"


UNBOUNDED: Final = Bounds()
