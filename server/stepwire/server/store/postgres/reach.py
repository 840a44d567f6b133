"""Know whether the database takes writes, by beats, commits and probes, and log it when that changes.

One line says when the database is lost and why, one when it is back. Whatever else fails meanwhile need not be logged.
"""

from __future__ import annotations

import logging
from collections.abc import Callable
from enum import Enum
from time import monotonic

from stepwire.server.store.errors import StoreError

__all__ = ["Reach", "Source"]

log = logging.getLogger(__name__)


class Source(Enum):
    """What shows whether the database takes writes.

    Each of them clears only what it found itself: a beat does not wait for a standby and a commit does, so a beat that
    succeeds says nothing about commits; and without beats the others take this replica for dead, whatever it commits.
    """

    BEAT = "beat"
    COMMIT = "commit"
    """A commit, or a probe, which is as durable."""


class Reach:
    """Whether the database takes writes. For the event loop of the store."""

    def __init__(self, clock: Callable[[], float] = monotonic) -> None:
        """Take the database for well. `clock` returns seconds."""
        self.failure: StoreError | None = None
        """Why writing fails; None while it works. Any thread may ask."""
        self.on_change: Callable[[], None] | None = None
        """Called when writing begins to fail, and when it works again."""
        self.losses = 0
        """How often the database was lost."""
        self._clock = clock
        self._failures: dict[Source, StoreError] = {}
        self._since = 0.0

    def lost(self, source: Source, failure: StoreError) -> None:
        """Take in that a write failed."""
        first = not self._failures
        self._failures[source] = self.failure = failure
        if first:
            self.losses += 1
            self._since = self._clock()
            log.warning("the database takes no writes of this server, calls wait: %s", failure)
            self._tell()

    def found(self, source: Source) -> None:
        """Take in that a write succeeded."""
        if self._failures.pop(source, None) is None:
            return
        self.failure = next(iter(self._failures.values()), None)
        if self.failure is None:
            log.info("the database takes writes again, after %.1f s", self._clock() - self._since)
            self._tell()

    def _tell(self) -> None:
        if self.on_change is not None:
            self.on_change()
