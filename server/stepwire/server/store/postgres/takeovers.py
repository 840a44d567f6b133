"""Count the runs that this replica took over from others, and log how many of which replica."""

from __future__ import annotations

import asyncio
import logging
from collections import Counter
from collections.abc import Callable
from contextvars import Context
from typing import Final, NamedTuple

from stepwire.server.store.records import RunKey

__all__ = ["Takeovers"]

log = logging.getLogger(__name__)

_FIRST_SECONDS: Final = 3.0
"""How long takeovers from one replica gather before the log tells of them: a replica leaves the shares of the others to
them for a second, and loads the rest then."""
_NEXT_SECONDS: Final = 60.0
"""How long the later ones gather: runs that only wait are taken over when they are called for."""


class _From(NamedTuple):
    replica: int
    address: str
    lives: bool


class Takeovers:
    """Count takeovers. A line of the log tells of many runs from one replica; their ids are told at debug level."""

    def __init__(self, lives: Callable[[int], bool]) -> None:
        """Begin at 0; `lives` tells whether a replica lives."""
        self._lives = lives
        self.count = 0
        """Runs that this replica took over from dead ones, or by force."""
        self._untold: Counter[_From] = Counter()
        self._timers: dict[_From, asyncio.TimerHandle] = {}

    def note(self, key: RunKey, replica: int, address: str, *, lives: bool) -> None:
        """Count a takeover.

        Args:
            key: The run.
            replica: The replica that had it.
            address: Where that one was reached; empty if this replica never heard of it.
            lives: Whether it lives, and the run was taken by force.
        """
        self.count += 1
        owner = _From(replica, address, lives)
        self._untold[owner] += 1
        log.debug("took over run %s of replica %d", key.run_id, replica)
        if owner not in self._timers:
            self._arm(owner, _FIRST_SECONDS)

    def close(self) -> None:
        """Tell of what was not told yet."""
        timers, self._timers = self._timers, {}
        for owner, timer in timers.items():
            timer.cancel()
            self._say(owner)

    def _arm(self, owner: _From, seconds: float) -> None:
        # The line is about many runs, not about the call that took one of them.
        loop = asyncio.get_running_loop()
        self._timers[owner] = loop.call_later(seconds, self._tell, owner, context=Context())

    def _tell(self, owner: _From) -> None:
        if self._say(owner):
            self._arm(owner, _NEXT_SECONDS)
        else:
            del self._timers[owner]

    def _say(self, owner: _From) -> bool:
        """Log what was not told yet; return whether there was anything."""
        count = self._untold.pop(owner, 0)
        runs, where = f"{count} run{'' if count == 1 else 's'}", f" at {owner.address}" if owner.address else ""
        if count and owner.lives and self._lives(owner.replica):  # it may have been dying then
            text = "took over %s of replica %d%s by force: it beats, but does not answer this replica's calls"
            log.warning(text, runs, owner.replica, where)
        elif count:
            log.info("took over %s of replica %d%s, which is gone", runs, owner.replica, where)
        return count > 0
