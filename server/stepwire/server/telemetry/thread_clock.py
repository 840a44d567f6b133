"""How long threads ran, and how long they were ready to run and got no processor: that is the machine's doing."""

from __future__ import annotations

import contextlib
import os
import threading
import weakref
from collections.abc import Mapping
from pathlib import Path
from typing import Final, NamedTuple

__all__ = ["ThreadClock", "ThreadTimes", "Waits", "most_waited", "waits_of_threads"]

_NANOSECONDS: Final = 1e-9


class ThreadTimes(NamedTuple):
    """The times of a thread up to now, in seconds. All are 0 where the system does not tell."""

    ran: float
    waited: float
    """How long it waited for a processor. The present wait counts once it is over."""


_UNKNOWN: Final = ThreadTimes(0.0, 0.0)
_LINE: Final = 1024
"""More bytes than a line about a thread has."""


class ThreadClock:
    """The clock of the thread that makes it; any thread may read it.

    It keeps the files open that tell the times: to open one takes longer than to read it.
    """

    def __init__(self) -> None:
        """Open the files."""
        self._files: list[int] = []
        task = Path(f"/proc/self/task/{threading.get_native_id()}")
        with contextlib.suppress(OSError):
            self._files += [os.open(task / name, os.O_RDONLY) for name in ("schedstat", "stat")]
        self._close = weakref.finalize(self, _close, self._files)

    def times(self) -> ThreadTimes:
        """Return the times of the thread."""
        try:
            ran, waited, _ = os.pread(self._files[0], _LINE, 0).split()
        except (OSError, ValueError, IndexError):
            return _UNKNOWN
        return ThreadTimes(int(ran) * _NANOSECONDS, int(waited) * _NANOSECONDS)

    def runnable(self) -> bool:
        """Return whether the thread runs now or waits for a processor."""
        try:
            return os.pread(self._files[1], _LINE, 0).rpartition(b")")[2].lstrip().startswith(b"R")
        except (OSError, IndexError):
            return False

    def close(self) -> None:
        """Close the files: from now on all times are 0."""
        self._close()


def _close(files: list[int]) -> None:
    for file in files:
        os.close(file)
    files.clear()


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
