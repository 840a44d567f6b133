"""Where the waits of one handle stand in the log, so that no event is missed between two of them."""

from __future__ import annotations

# Places that a handle remembers, so that waits with ever new requirements do not grow without end.
MOST_PLACES = 10_000

Wanted = tuple[str, bytes]
"""An event type and its requirements as JSON."""


class Places:
    """The sequence after which a wait for an event begins.

    A wait begins after the last event that an equal wait returned, else where the handle begins. So an event that
    comes between two calls, or before the first, is not missed.

    Attributes:
        beginning: Where the handle begins: 0 for a run that it started, else the end of the log at its first wait;
            None before that.
    """

    def __init__(self, beginning: int | None) -> None:
        self.beginning = beginning
        self._after: dict[Wanted, int] = {}

    def after(self, wanted: Wanted) -> int:
        """Return the sequence after which a wait begins."""
        return self._after.get(wanted, self.beginning or 0)

    def found(self, wanted: Wanted, sequence: int) -> None:
        """Note the sequence of an event that a wait returned."""
        self._after.pop(wanted, None)
        self._after[wanted] = sequence
        if len(self._after) > MOST_PLACES:
            del self._after[next(iter(self._after))]
