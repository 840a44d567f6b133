"""How long a thread was ready to run and got no processor: that is the machine's doing, not the thread's."""

from __future__ import annotations

import threading
from collections.abc import Callable
from pathlib import Path

__all__ = ["delay_of_this_thread"]


def delay_of_this_thread() -> Callable[[], float]:
    """Return a function that returns, on any thread, the seconds that this thread has waited for a processor so far.

    It returns 0 where the system does not tell.
    """
    file = Path(f"/proc/self/task/{threading.get_native_id()}/schedstat")  # running, waiting, slices; nanoseconds

    def delay() -> float:
        try:
            return int(file.read_bytes().split()[1]) / 1e9
        except (OSError, ValueError, IndexError):
            return 0.0

    return delay
