"""When runs that are not in memory must be loaded: at their deadlines, and after a failed commit dropped them."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Collection

from stepwire.server.store import RunKey, RunRecord
from stepwire.workflow.hosting import Clock

RETRY_SECONDS = 0.5
"""Runs that a failed commit dropped are loaded again after this, unless a caller asks for them earlier."""
_LOOK_AGAIN_SECONDS = 60.0
"""A deadline further away is looked up again after this: another process may have moved it."""


class WakeList:
    """Know when to look for runs to load, and which runs a failed commit dropped."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._lost: set[RunKey] = set()
        self._retry_at = 0.0
        self._next_look = 0.0
        self._news = asyncio.Event()
        self._look = False
        """Whether someone asked for a look since the last one began."""

    def add_lost(self, key: RunKey) -> None:
        """Note a run that must be loaded again once the store works."""
        self._lost.add(key)
        self._retry_at = self._clock.now() + RETRY_SECONDS
        self._news.set()

    def forget(self, key: RunKey) -> None:
        """Forget a run that another replica has loaded."""
        self._lost.discard(key)

    def expect(self, record: RunRecord) -> None:
        """Note when a run that left memory must be back."""
        if record.wake_at is not None and record.wake_at < self._next_look:
            self._news.set()

    def look_now(self) -> None:
        """End the `wait` in progress, or the next one if runs are being looked for now."""
        self._look = True
        self._news.set()

    async def wait(self, due: float | None) -> None:
        """Wait until runs may be due: at `due`, the next known deadline, or earlier when something is noted."""
        at = self._clock.now()
        wait = _LOOK_AGAIN_SECONDS if due is None else min(_LOOK_AGAIN_SECONDS, max(0.01, due - at))
        if self._lost:
            wait = min(wait, max(0.01, self._retry_at - at))
        self._next_look = at + wait
        if not self._look:
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(self._news.wait(), wait)
        self._look = False

    def begin(self) -> None:
        """Forget the news: what is noted from here on ends the next `wait`."""
        self._news.clear()

    def take_lost(self) -> Collection[RunKey]:
        """Take the runs to load again; none before their time, so that a store that stays down is not pestered."""
        if not self._lost or self._clock.now() < self._retry_at:
            return ()
        lost, self._lost = self._lost, set()
        return lost
