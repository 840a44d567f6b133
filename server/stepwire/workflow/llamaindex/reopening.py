"""Waits of a saved run whose requirements only their step knows: it opens them anew when it runs again.

Until then an answer from outside would come before its wait, so it is held back.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable

__all__ = ["Reopening"]


class Reopening:
    """Hold events from outside back until the steps of a saved run wait again."""

    __slots__ = ("_deliveries", "_held")

    def __init__(self) -> None:
        self._deliveries: set[int] = set()
        self._held: list[Callable[[], None]] = []

    def expect(self, delivery: int) -> None:
        """Hold events back until this delivery waits or is through."""
        self._deliveries.add(delivery)

    def passed(self, delivery: int) -> None:
        """Note that a delivery is about to wait, or through."""
        if delivery in self._deliveries:
            self._deliveries.discard(delivery)
            if not self._deliveries:
                asyncio.get_running_loop().call_soon(self._release)

    def holds(self, send: Callable[[], None]) -> bool:
        """Take what sends an event, to be called once all waits are open; False when they are."""
        if self._deliveries:
            self._held.append(send)
        return bool(self._deliveries)

    def _release(self) -> None:
        held, self._held = self._held, []
        for send in held:
            send()
