"""Tell when nobody calls a server any more."""

from __future__ import annotations

from time import monotonic
from typing import Final

from stepwire.server.rpc.gate.calls import Calls

__all__ = ["Lull"]

_SECONDS: Final = 1.0
"""How long no call may come, and none be open. A client that calls less often finds this server gone, and calls another
one."""


class Lull:
    """Watch the calls of a server that stops, from the first question on."""

    def __init__(self, calls: Calls) -> None:
        self._calls = calls
        self._ended = -1
        self._since = 0.0

    def lasted(self) -> bool:
        """Return whether no call has come and none was open for a second."""
        now, calls = monotonic(), self._calls
        if not calls.idle or calls.ended != self._ended:
            self._ended, self._since = calls.ended, now
        return now - self._since >= _SECONDS
