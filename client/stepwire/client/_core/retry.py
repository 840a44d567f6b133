"""When a unary call is repeated."""

from __future__ import annotations

import time

from stepwire.client._core.backoff import Backoff, Clock
from stepwire.client._core.reconnect import is_connection_loss
from stepwire.client.errors import NotConnectedError, StepwireError, UnavailableError

# Seconds. An attempt at one of several addresses gets so much at least.
SHORTEST = 1.0


class Attempts:
    """Bound the attempts of one unary call.

    Args:
        budget: Seconds for all attempts together.
        safe: A repeat does no harm. Without it the first error is the last.
        clock: Monotonic seconds.
        backoff: Gives the delays between attempts.
        addresses: How many addresses there are to try.
    """

    def __init__(
        self,
        budget: float,
        *,
        safe: bool,
        clock: Clock = time.monotonic,
        backoff: Backoff | None = None,
        addresses: int = 1,
    ) -> None:
        self._clock = clock
        self._end = clock() + budget
        self._safe = safe
        self._backoff = backoff or Backoff(addresses=addresses)
        self._addresses = addresses

    def timeout(self) -> float:
        """Return the seconds that the next attempt may take.

        Where another address could take the call, an attempt gets half of the time that is left.
        """
        left = self._left()
        return max(left / 2, min(left, SHORTEST)) if self._safe and self._addresses > 1 else left

    def _left(self) -> float:
        return max(0.0, self._end - self._clock())

    def delay_after(self, error: StepwireError) -> float:
        """Return the seconds to wait before the next attempt; raise `error` when none follows."""
        if not (self._safe and self._passing(error)):
            raise error
        delay = self._backoff.next(error)
        if delay >= self._left():
            raise error
        return delay

    def _passing(self, error: StepwireError) -> bool:
        # A stopping server may end calls under way with CANCELLED. A cancellation by this client is no RpcError.
        if isinstance(error, NotConnectedError):
            return False
        return isinstance(error, UnavailableError) or (is_connection_loss(error) and not error.reason)
