"""Places to die at, for tests of crashes.

The environment variable STEPWIRE_FAILPOINTS names them, as in `commit.before=3,ack.after=1`: the process gets SIGKILL
the third time it comes to `commit.before`, or the first time to `ack.after`. Without it they cost one look at `ACTIVE`.
"""

from __future__ import annotations

import os
import signal
import threading
from typing import Final

__all__ = ["ACTIVE", "POINTS", "hit"]

POINTS: Final = (
    "commit.before",
    "commit.after",
    "ack.before",
    "ack.after",
    "snapshot.before",
    "snapshot.after",
    "restore.before",
    "restore.after",
)
"""Around a transaction's COMMIT; before calls hear that their commit is durable, and after one's answer was sent;
around the encoding of what a commit holds; around the filling of a context from it."""


def _parse(text: str) -> dict[str, int]:
    counts: dict[str, int] = {}
    for item in filter(None, text.split(",")):
        name, _, count = item.partition("=")
        if name not in POINTS or not count.isdecimal():
            raise ValueError(f"STEPWIRE_FAILPOINTS: expected NAME=COUNT with a NAME of {', '.join(POINTS)}")
        counts[name] = int(count)
    return counts


_left = _parse(os.environ.get("STEPWIRE_FAILPOINTS", ""))
_lock = threading.Lock()

ACTIVE: Final = bool(_left)
"""Whether any is set; look at it before `hit`."""


def hit(name: str) -> None:
    """Count a visit, and die at the last one."""
    with _lock:
        left = _left.get(name)
        if left is None:
            return
        _left[name] = left - 1
        if left <= 1:
            os.kill(os.getpid(), signal.SIGKILL)
