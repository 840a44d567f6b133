"""When to try again: jittered exponential back-off within a budget of time."""

from __future__ import annotations

import random
import time
from collections.abc import Callable

from stepwire.client._core.status import is_connection_loss
from stepwire.client.errors import DeadlineError, StepwireError, UnavailableError

FIRST_DELAY = 0.1
LAST_DELAY = 5.0

Clock = Callable[[], float]


class Backoff:
    """Give the delays between attempts: each up to twice the one before, half of it by chance."""

    def __init__(self, uniform: Callable[[float, float], float] = random.uniform) -> None:
        self._uniform = uniform
        self._failures = 0

    def reset(self) -> None:
        """Begin anew, after a success."""
        self._failures = 0

    def next(self, error: StepwireError | None = None) -> float:
        """Return the seconds to wait, never less than the server asked for."""
        # The exponent is capped: 2**n of a long outage would overflow a float.
        full = min(LAST_DELAY, FIRST_DELAY * 2 ** min(self._failures, 16))
        self._failures += 1
        delay = self._uniform(full / 2, full)
        return max(delay, error.retry_after or 0.0) if error is not None else delay


class Attempts:
    """Say how long an attempt of a call may take and whether another may follow.

    `budget` is the time for all attempts, None for no bound; `per_attempt` that of one. `safe`
    says whether a repeat does no harm: without it the first error is the last.
    """

    def __init__(
        self,
        budget: float | None,
        *,
        safe: bool,
        per_attempt: float | None = None,
        clock: Clock = time.monotonic,
        backoff: Backoff | None = None,
    ) -> None:
        self._clock = clock
        self._end = None if budget is None else clock() + budget
        self._per_attempt = per_attempt
        self._safe = safe
        self._backoff = backoff or Backoff()

    def timeout(self) -> float | None:
        """Return the seconds that the next attempt may take."""
        bounds = [self._per_attempt, self._remaining()]
        known = [bound for bound in bounds if bound is not None]
        return max(0.0, min(known)) if known else None

    def delay_after(self, error: StepwireError) -> float:
        """Return the seconds to wait before the next attempt; raise `error` when none follows."""
        if not (self._safe and self._passing(error)):
            raise error
        delay = self._backoff.next(error)
        remaining = self._remaining()
        if remaining is not None and delay >= remaining:
            raise error
        return delay

    def _remaining(self) -> float | None:
        return None if self._end is None else self._end - self._clock()

    def _passing(self, error: StepwireError) -> bool:
        # A server that stops ends calls under way with CANCELLED as well; our own cancelling is no RpcError.
        if isinstance(error, UnavailableError) or (is_connection_loss(error) and not error.reason):
            return True
        # The attempt's own deadline, not the caller's.
        return isinstance(error, DeadlineError) and self._per_attempt is not None
