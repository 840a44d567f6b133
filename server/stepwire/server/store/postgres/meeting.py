"""Wait for replicas that are in the database and were not seen to beat yet.

A copy of a database, restored from a backup, has the rows of the replicas of the one it was made of. Calls that are
passed on to them would be carried out in that one. So a replica counts once its counter was seen to change, here.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterable
from time import monotonic
from typing import Final, Protocol

__all__ = ["Meeting"]

_PATIENCE: Final = 10.0
"""How long to wait for replicas to beat, or to be taken for dead."""
_PAUSE: Final = 0.05
"""Seconds between two looks."""


class Others(Protocol):
    """What is known of the other replicas."""

    me: int

    def knows(self, replica: int) -> bool:
        """Tell whether a replica was seen to beat, and lives."""

    def look(self) -> None:
        """Have a look at them at once."""


class Meeting:
    """Wait, in a loop that asks the database again, until all replicas that it names are known."""

    def __init__(self, others: Others) -> None:
        self._others = others
        self._end = monotonic() + _PATIENCE

    async def over(self, replicas: Iterable[int]) -> bool:
        """Return whether to go on with these replicas: all are known, or it takes too long. Else wait a little."""
        others = self._others
        if not others.me or all(map(others.knows, replicas)) or monotonic() >= self._end:
            return True
        others.look()
        await asyncio.sleep(_PAUSE)
        return False
