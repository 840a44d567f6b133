"""Whether the server takes work now, asked from the threads of the admin port."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable
from typing import Final

__all__ = ["DRAINING", "READY", "STARTING", "Readiness"]

STARTING: Final = "starting"
READY: Final = ""
DRAINING: Final = "draining"

_ANSWER_SECONDS: Final = 0.5
"""How long the event loop may take to answer: well below the second after which most probes give up."""


class Readiness:
    """Say why the server takes no work. It may be asked from any thread."""

    def __init__(self, failure: Callable[[], str]) -> None:
        """Make a readiness that begins as STARTING.

        Args:
            failure: Says why the server cannot work; empty when it can.
        """
        self.phase: str = STARTING
        self._failure = failure
        self._loop: asyncio.AbstractEventLoop | None = None
        self._thread = 0

    def follow_loop(self, loop: asyncio.AbstractEventLoop) -> None:
        """Ask this loop, on whose thread this is called, from now on."""
        self._loop = loop
        self._thread = threading.get_ident()

    def why_not(self) -> str:
        """Return the reason, or "" when the server takes work. It waits up to half a second for the event loop."""
        return self.phase or self._failure() or self._blocked()

    def _blocked(self) -> str:
        if self._loop is None or threading.get_ident() == self._thread:
            return ""
        answered = threading.Event()
        try:
            self._loop.call_soon_threadsafe(answered.set)
        except RuntimeError:  # the loop was closed
            return DRAINING
        return "" if answered.wait(_ANSWER_SECONDS) else "the event loop is blocked"
