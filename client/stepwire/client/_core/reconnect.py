"""Reconnection: which errors are a lost connection, and when a stream connects again."""

from __future__ import annotations

import time

import grpc

from stepwire.client._core.backoff import Backoff, Clock
from stepwire.client.errors import StepwireError, UnavailableError

# No call is open for ever: after these seconds a stream connects again where it was.
STREAM_DEADLINE = 3600.0

_LOSS_SIGNS = ("RST_STREAM", "Stream removed", "Internal error from Core")


def is_connection_loss(error: StepwireError) -> bool:
    """Say whether a stream that ended with `error` can go on over a new connection.

    A stopping server or a proxy may also end a stream with CANCELLED or a reset. And grpc.aio (grpc/grpc#36066)
    replaces the status with an error of its own when a write was under way as the stream ended; the next connection
    meets the real reason if it lasts.
    """
    if error.code in (grpc.StatusCode.UNAVAILABLE, grpc.StatusCode.CANCELLED):
        return True
    if error.code is grpc.StatusCode.DEADLINE_EXCEEDED and not error.reason:
        return True  # the call's own deadline or a proxy's, not the caller's
    return (
        error.code in (grpc.StatusCode.INTERNAL, grpc.StatusCode.UNKNOWN)
        and not error.reason
        and any(sign in error.message for sign in _LOSS_SIGNS)
    )


class Reconnect:
    """Decide when a stream connects again, and when it gives up.

    Args:
        timeout: Seconds without a frame, from the first loss, after which it gives up; None for never.
        clock: Monotonic seconds.
    """

    def __init__(self, timeout: float | None, clock: Clock = time.monotonic) -> None:
        self._timeout = timeout
        self._clock = clock
        self._backoff = Backoff()
        self._lost_at: float | None = None

    def heard(self) -> None:
        """Note that a frame came."""
        self._lost_at = None
        self._backoff.reset()

    def delay_after(self, error: StepwireError | None) -> float:
        """Return the seconds to wait before the next connection, or raise `error` when none can help.

        `error` is None for a stream that the server ended without an error before the end of the log.
        """
        if error is None:
            error = UnavailableError("the server ended the stream before the run's end")
        elif not is_connection_loss(error):
            raise error
        delay = self._backoff.next(error)
        now = self._clock()
        # Not from the last frame: a caller may have taken its time over that one.
        self._lost_at = now if self._lost_at is None else self._lost_at
        if self._timeout is not None and now + delay > self._lost_at + self._timeout:
            raise error
        return delay
