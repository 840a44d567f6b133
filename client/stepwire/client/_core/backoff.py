"""Jittered exponential back-off: the one owner of how long to wait before another attempt."""

from __future__ import annotations

import random
from collections.abc import Callable

from stepwire.client._core.status import says_no_connection
from stepwire.client.errors import StepwireError

# Seconds. The first is short because most losses are a server's restart; the last bounds the load on one that is busy.
FIRST_DELAY = 0.1
LAST_DELAY = 5.0
# Seconds, where there is no connection: a server that is down bears no load, and should be found soon when it is back.
LAST_UNCONNECTED = 1.0

Clock = Callable[[], float]


class Backoff:
    """Give the delays between attempts. Each doubles up to a limit; up to half of it is taken off by chance.

    Args:
        uniform: Gives a random number between two.
        addresses: How many addresses there are to try. There is no delay while some were not tried.
    """

    def __init__(self, uniform: Callable[[float, float], float] = random.uniform, addresses: int = 1) -> None:
        self._uniform = uniform
        self._addresses = addresses
        self._failures = 0

    def reset(self) -> None:
        """Begin anew, after a success."""
        self._failures = 0

    def next(self, error: StepwireError | None = None) -> float:
        """Return the seconds to wait, at least those that the server asked for with `error`."""
        self._failures += 1
        tried = self._failures // self._addresses
        if tried == 0:
            return 0.0
        # The exponent is capped: 2**n of a long outage would overflow a float.
        last = LAST_UNCONNECTED if error is not None and says_no_connection(error) else LAST_DELAY
        full = min(last, FIRST_DELAY * 2 ** min(tried - 1, 16))
        delay = self._uniform(full / 2, full)
        return max(delay, error.retry_after or 0.0) if error is not None else delay
