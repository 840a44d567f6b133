"""Count the probes of readiness, so that a server that stops knows whether load balancers have heard of it."""

from __future__ import annotations

from collections.abc import Callable
from time import monotonic
from typing import Final

__all__ = ["Probes"]

_KNOWN_SECONDS: Final = 30.0
"""Seconds since the last probe after which nothing counts as probing this server."""
_ENOUGH: Final = 3
"""Refused probes after which a load balancer sends no more calls: most ask for one to three."""


class Probes:
    """Answer probes, and count those that were refused since `begin`. From any thread."""

    def __init__(self, unready: Callable[[], str]) -> None:
        """Make a counter.

        Args:
            unready: Says why the server takes no work; empty when it does.
        """
        self._unready = unready
        self._last: float | None = None
        self._refused = 0

    def answer(self) -> str:
        """Answer a probe: return why the server takes no work, or an empty text."""
        why = self._unready()
        self.note(refused=bool(why))
        return why

    def note(self, *, refused: bool) -> None:
        """Note a probe that was answered."""
        self._last = monotonic()
        self._refused += refused

    def begin(self) -> None:
        """Count the refused ones from now on: the server takes no more work."""
        self._refused = 0

    @property
    def heard(self) -> bool:
        """Whether those that probe this server, if any, have heard often enough that it takes no work."""
        nobody = self._last is None or monotonic() - self._last > _KNOWN_SECONDS
        return nobody or self._refused >= _ENOUGH
