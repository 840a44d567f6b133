"""Kill the process at named points, for tests of crashes.

The environment variable STEPWIRE_FAILPOINTS names the points, as in `commit.before=3,ack.after=1`: the process gets
SIGKILL the third time that it reaches `commit.before`, or the first time that it reaches `ack.after`. Without the
variable a point costs one look at `ACTIVE`.
"""

from __future__ import annotations

import os
import signal
import threading
from typing import Final

__all__ = ["ACTIVE", "MOVE_POINTS", "POINTS", "REPLICA_POINTS", "hit"]

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
"""Before and after: the COMMIT of a transaction; the acknowledgement of a commit to its callers; the encoding of a
commit; the restoring of a run from its snapshot. Every server passes them."""

MOVE_POINTS: Final = ("move.marked", "move.written", "move.committed")
"""Of `stepwire move`: after the mark, before the COMMIT, and after it."""

REPLICA_POINTS: Final = (
    "claim.before",
    "claim.after",
    "release.before",
    "hand_over.before",
    "resend.before",
    "forward.before",
)
"""Points that only replicas reach: the claim of a run; its release; its hand-over when a replica stops; commits that
are sent again after a lost connection; a call that is passed on."""
_NAMES: Final = POINTS + REPLICA_POINTS + MOVE_POINTS


def _parse(text: str) -> dict[str, int]:
    counts: dict[str, int] = {}
    for item in filter(None, text.split(",")):
        name, _, count = item.partition("=")
        if name not in _NAMES or not count.isdecimal():
            names = ", ".join(_NAMES)
            raise ValueError(f"STEPWIRE_FAILPOINTS: expected NAME=COUNT with a NAME of {names}")
        counts[name] = int(count)
    return counts


_left = _parse(os.environ.get("STEPWIRE_FAILPOINTS", ""))
_lock = threading.Lock()

ACTIVE: Final = bool(_left)
"""Whether any point is set. Look at it before calling `hit`."""


def hit(name: str) -> None:
    """Count a visit to a point, and kill the process at the visit that was asked for."""
    with _lock:
        left = _left.get(name)
        if left is None:
            return
        _left[name] = left - 1
        if left <= 1:
            os.kill(os.getpid(), signal.SIGKILL)
