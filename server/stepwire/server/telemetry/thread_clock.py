"""How long a thread ran, and how long it was ready to run and got no processor: that is the machine's doing."""

from __future__ import annotations

import threading
from collections.abc import Callable
from pathlib import Path
from typing import Final, NamedTuple

__all__ = ["ThreadTimes", "clock_of_this_thread"]

_NANOSECONDS: Final = 1e-9


class ThreadTimes(NamedTuple):
    """The times of a thread up to now, in seconds. All are 0 where the system does not tell."""

    ran: float
    waited: float
    """How long it waited for a processor. The present wait counts once it is over."""
    runnable: bool
    """Whether it runs now or waits for a processor."""


def clock_of_this_thread() -> Callable[[], ThreadTimes]:
    """Return a function that returns, on any thread, the times of this thread."""
    task = Path(f"/proc/self/task/{threading.get_native_id()}")
    times, status = task / "schedstat", task / "stat"

    def read() -> ThreadTimes:
        try:
            ran, waited, _ = times.read_bytes().split()
            state = status.read_bytes().rpartition(b")")[2].split()[0]
        except (OSError, ValueError, IndexError):
            return ThreadTimes(0.0, 0.0, False)
        return ThreadTimes(int(ran) * _NANOSECONDS, int(waited) * _NANOSECONDS, state == b"R")

    return read
