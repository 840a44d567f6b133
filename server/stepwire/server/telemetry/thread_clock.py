"""How long threads ran, and how long they were ready to run and got no processor: that is the machine's doing."""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Final, NamedTuple

__all__ = ["ThreadTimes", "Waits", "clock_of_this_thread", "most_waited", "waits_of_threads"]

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


Waits = Mapping[int, float]
"""How long each thread of the process has waited for a processor up to a moment, in seconds."""


def waits_of_threads() -> Waits:
    """Return the waits of all threads of this process; empty where the system does not tell."""
    found: dict[int, float] = {}
    with contextlib.suppress(OSError):
        for task in Path("/proc/self/task").iterdir():
            with contextlib.suppress(OSError, ValueError, IndexError):  # a thread may end meanwhile
                found[int(task.name)] = int((task / "schedstat").read_bytes().split()[1]) * _NANOSECONDS
    return found


def most_waited(before: Waits, now: Waits) -> float:
    """Return the longest time that one thread has waited between two moments.

    A thread that needs the interpreter sleeps while the one that holds it waits for a processor.
    """
    return max((waited - before[thread] for thread, waited in now.items() if thread in before), default=0.0)
