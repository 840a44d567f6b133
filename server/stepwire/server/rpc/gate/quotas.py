"""What each caller has under way, and the rate at which it may send events."""

from __future__ import annotations

import time
from collections.abc import Iterator

from stepwire.server.runs.errors import LimitError

_SWEPT_FROM = 4096
"""Callers to remember before the idle ones are dropped: far more than are active at a time."""


class Usage:
    """What one principal has under way: open streams and waits, and a bucket of events that refills every second."""

    __slots__ = ("_rate", "_refilled", "_tokens", "streams", "waiters")

    def __init__(self, rate: int) -> None:
        self.streams = 0
        self.waiters = 0
        self._rate = rate
        self._tokens = float(rate)
        self._refilled = time.monotonic()

    def spend(self) -> None:
        """Take one event from the bucket. LimitError, with the time until there is one again."""
        rate = self._rate
        if not rate:
            return
        now = time.monotonic()
        tokens = min(float(rate), self._tokens + (now - self._refilled) * rate)
        self._refilled = now
        if tokens < 1.0:
            self._tokens = tokens
            message = f"At most {rate} events a second are taken from a caller"
            raise LimitError(message, limit="events_per_second", retry_after=max(0.001, (1.0 - tokens) / rate))
        self._tokens = tokens - 1.0

    @property
    def idle(self) -> bool:
        """Whether forgetting this usage would lose nothing."""
        return not self.streams and not self.waiters and time.monotonic() - self._refilled > 1.0


class Usages:
    """The usage of each principal. Idle ones are dropped as their number doubles."""

    def __init__(self, rate: int) -> None:
        self._rate = rate
        self._usages: dict[tuple[str, str], Usage] = {}
        self._sweep_at = _SWEPT_FROM

    def of(self, namespace: str, name: str) -> Usage:
        """Return the usage of a principal."""
        key = (namespace, name)
        usage = self._usages.get(key)
        if usage is None:
            if len(self._usages) >= self._sweep_at:
                self._usages = {other: found for other, found in self._usages.items() if not found.idle}
                self._sweep_at = max(_SWEPT_FROM, 2 * len(self._usages))
            usage = self._usages[key] = Usage(self._rate)
        return usage

    def __iter__(self) -> Iterator[tuple[tuple[str, str], Usage]]:
        return iter(self._usages.items())
