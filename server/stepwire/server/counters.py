"""Counts of what the server refused or ended: one place to add to, one to read from.

Whoever exports metrics reads `COUNTERS.snapshot()`; nothing here knows how they are exported.
"""

from __future__ import annotations

from collections import Counter

__all__ = ["COUNTERS", "Counters"]


class Counters:
    """Count by name and label. All additions are made on the event loop."""

    def __init__(self) -> None:
        self._counts: Counter[tuple[str, str]] = Counter()

    def add(self, name: str, label: str = "") -> None:
        """Count one.

        Names: `limit_exceeded` (label: the limit), `unauthenticated` (label: why), `permission_denied` (label: the
        method), `stream_ended` (label: stalled or expired).
        """
        self._counts[name, label] += 1

    def get(self, name: str, label: str = "") -> int:
        """Return one count."""
        return self._counts[name, label]

    def snapshot(self) -> dict[tuple[str, str], int]:
        """Return all counts by (name, label)."""
        return dict(self._counts)


COUNTERS = Counters()
"""The counts of this process."""
