"""Reconnection: which errors are a lost connection, and when a stream connects again."""

from __future__ import annotations

import time

import grpc

from stepwire.client._core.backoff import Backoff, Clock
from stepwire.client.errors import NotConnectedError, StepwireError, UnavailableError

# No call is open for ever: after these seconds a stream connects again where it was.
STREAM_DEADLINE = 3600.0

# Statuses that proxies and gRPC itself give to calls that they end. The server gives them too, but then with a reason.
_CUTS = frozenset(
    {
        grpc.StatusCode.DEADLINE_EXCEEDED,  # a proxy's limit, or the deadline of a stream or a poll
        grpc.StatusCode.INTERNAL,  # RST_STREAM; HTTP 400
        grpc.StatusCode.RESOURCE_EXHAUSTED,  # RST_STREAM with ENHANCE_YOUR_CALM
        grpc.StatusCode.UNKNOWN,  # END_STREAM without trailers; an HTTP status that gRPC does not know
    }
)
# Faults that gRPC finds in this process have such a status too. Another connection cannot mend them.
_LOCAL_FAULTS = ("larger than max", "Exception deserializing", "Exception serializing", "Exception iterating requests")

# What gRPC says of a connection on which pings are not answered.
_SILENCE = ("ping timeout", "keepalive watchdog timeout")


def is_connection_loss(error: StepwireError) -> bool:
    """Say whether a call that ended with `error` was cut: its connection is lost, and another one may help.

    Errors of the server carry its reason. A status without one comes from a proxy or from gRPC. So does the status that
    grpc.aio (grpc/grpc#36066) puts in the place of the server's when a write was under way as the stream ended; the
    next connection meets the server's if it lasts. A stopping server ends calls with CANCELLED.
    """
    if isinstance(error, NotConnectedError):
        return False
    if error.code in (grpc.StatusCode.UNAVAILABLE, grpc.StatusCode.CANCELLED):
        return True
    if error.code not in _CUTS or error.reason:
        return False
    return not any(fault in error.message for fault in _LOCAL_FAULTS)


def is_silence(error: StepwireError) -> bool:
    """Say whether a call was ended by gRPC here because the connection has fallen silent: no ping was answered."""
    return is_connection_loss(error) and not error.reason and any(text in error.message for text in _SILENCE)


class Reconnect:
    """Decide when a stream connects again, and when it gives up.

    Args:
        timeout: Seconds without a frame, from the first loss, after which it gives up; None for never.
        clock: Monotonic seconds.
        addresses: How many addresses there are to try.
    """

    def __init__(self, timeout: float | None, clock: Clock = time.monotonic, addresses: int = 1) -> None:
        self._timeout = timeout
        self._clock = clock
        self._backoff = Backoff(addresses=addresses)
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
            error = UnavailableError(
                "the server ended the stream before its last message", code=grpc.StatusCode.UNAVAILABLE
            )
        elif not is_connection_loss(error):
            raise error
        delay = self._backoff.next(error)
        now = self._clock()
        # Not from the last frame: a caller may have taken its time over that one.
        self._lost_at = now if self._lost_at is None else self._lost_at
        if self._timeout is not None and now + delay > self._lost_at + self._timeout:
            raise error
        return delay
