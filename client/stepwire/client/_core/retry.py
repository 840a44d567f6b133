"""When a unary call is repeated."""

from __future__ import annotations

import random
import time
from collections.abc import Callable

from stepwire.client._core.backoff import Backoff, Clock
from stepwire.client._core.reconnect import is_connection_loss
from stepwire.client._core.status import says_no_connection
from stepwire.client.errors import DeadlineError, NotConnectedError, StepwireError, UnavailableError

# Seconds that a replica may take to answer before another one is asked, less up to SPREAD of it by chance: clients of a
# replica that is slow do not leave it all at once. The next one gets twice that, in case the call itself takes long.
PATIENCE = 5.0
SPREAD = 0.4
# How many attempts are cut so. The one after them gets all of the time that is left: replicas that are all slow, as
# when their database fails over, have the work of so many calls more, and a call that takes long comes through.
CUT_ATTEMPTS = 2
# Seconds. A cut attempt gets so much at least.
SHORTEST = 1.0


class Attempts:
    """Bound the attempts of one unary call.

    Args:
        budget: Seconds for all attempts together.
        safe: A repeat does no harm. Without it the first error is the last.
        clock: Monotonic seconds.
        backoff: Gives the delays between attempts.
        addresses: How many addresses there are to try.
        uniform: Gives a random number between two.
    """

    def __init__(
        self,
        budget: float,
        *,
        safe: bool,
        clock: Clock = time.monotonic,
        backoff: Backoff | None = None,
        addresses: int = 1,
        uniform: Callable[[float, float], float] = random.uniform,
    ) -> None:
        self._clock = clock
        self._begin = clock()
        self._end = self._begin + budget
        self._safe = safe
        self._backoff = backoff or Backoff(addresses=addresses)
        self._cuts = min(CUT_ATTEMPTS, addresses - 1) if safe else 0
        self._unanswered = 0
        self._uniform = uniform

    def timeout(self) -> float:
        """Return the seconds that the next attempt may take.

        Where another address could take the call, that is a few seconds, and at most half of the time that is left.
        """
        left = self._left()
        if self._unanswered >= self._cuts:
            return left
        patience: float = PATIENCE * self._uniform(1 - SPREAD, 1) * 2**self._unanswered
        return min(left, max(SHORTEST, min(patience, left / 2)))

    def elapsed(self) -> float:
        """Return the seconds since the first attempt began."""
        return self._clock() - self._begin

    def _left(self) -> float:
        return max(0.0, self._end - self._clock())

    def delay_after(self, error: StepwireError) -> float:
        """Return the seconds to wait before the next attempt; raise `error` when none follows."""
        if not self._passing(error) or not (self._safe or says_no_connection(error)):
            raise error
        self._unanswered += isinstance(error, DeadlineError)
        delay = self._backoff.next(error)
        # What was not sent may be sent to an address that was not tried; again to the same one goes only what is safe.
        if delay >= self._left() or (delay > 0 and not self._safe):
            raise error
        return delay

    def _passing(self, error: StepwireError) -> bool:
        # A stopping server may end calls under way with CANCELLED. A cancellation by this client is no RpcError.
        if isinstance(error, NotConnectedError):
            return False
        return isinstance(error, UnavailableError) or (is_connection_loss(error) and not error.reason)
