"""Give up a server that refuses connections from the first on: it is more likely absent than restarting."""

from __future__ import annotations

import time
from collections.abc import Sequence

from stepwire.client._core.backoff import Clock
from stepwire.client._core.channel import port_advice
from stepwire.client._core.reconnect import is_connection_loss
from stepwire.client._core.status import says_no_connection
from stepwire.client.errors import NotConnectedError, StepwireError

# Seconds after which a refusal is not one more of the same: gRPC's channel connects anew only after 3 s and its jitter.
_APART = 5.0


class FirstContact:
    """Know whether anything has answered a client, and for how long nothing has. Threads may share it.

    Args:
        timeout: Seconds of refusals after which there is no server; None to go on as with a lost one.
        clock: Monotonic seconds.
        addresses: The addresses: each must have refused.
    """

    def __init__(self, timeout: float | None, clock: Clock = time.monotonic, addresses: Sequence[str] = ("",)) -> None:
        if timeout is not None and timeout < 0:
            raise ValueError(f"connect_timeout must be 0 or more, not {timeout:g}")
        self._timeout = timeout
        self._clock = clock
        self._made = timeout is None
        self._refused: tuple[float, float] | None = None
        """When the first and the last of the refusals were."""
        self._addresses = addresses
        self._refusing: set[int] = set()
        """The numbers of the addresses that have refused meanwhile."""

    def made(self) -> None:
        """Note that a server has answered: from now on it is lost if it does not."""
        self._made = True

    def judge(self, error: StepwireError, index: int = 0) -> StepwireError:
        """Return the error of a call at an address, or a NotConnectedError, which is final, if there is no server."""
        if self._made or error.reason or not is_connection_loss(error):
            self._made = True
            return error
        if not says_no_connection(error):
            return error
        error.advice = port_advice(self._addresses[index])
        now = self._clock()
        first, last = self._refused or (now, now)
        if now - last > _APART:
            first = now
            self._refusing.clear()
        self._refused = (first, now)
        self._refusing.add(index)
        if self._timeout is None or now - first < self._timeout or len(self._refusing) < len(self._addresses):
            return error
        return NotConnectedError(error.message, code=error.code, advice=error.advice)
