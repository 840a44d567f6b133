"""Notice a server that has fallen silent: the connection may live on while nobody serves the stream."""

from __future__ import annotations

import time
from collections.abc import Callable

import grpc

from stepwire.client._core.backoff import Clock
from stepwire.client.errors import UnavailableError
from stepwire.v1 import run_service_pb2 as runs

# Seconds between heartbeats, until the server says otherwise: its default.
DEFAULT_INTERVAL = 15.0
# How many heartbeats may be missing.
MISSED = 2
# Seconds that a heartbeat may be late, at least; a third of the interval when that is more.
LATE = 2.0
# How often the limit doubles when the server was silent before its first heartbeat: its interval may be longer.
DOUBLINGS = 2
# Seconds for a second look: a frame may have come while the event loop or the process stood still.
SECOND_LOOK = 1.0


class Heartbeats:
    """How long the stream of a server may be silent. One object serves all connections of a stream."""

    def __init__(self) -> None:
        self._interval = DEFAULT_INTERVAL
        self._known = False
        self._silences = 0

    @property
    def limit(self) -> float:
        """Return the seconds of silence after which the connection is lost."""
        limit = MISSED * self._interval + max(LATE, self._interval / 3)
        return limit if self._known else limit * 2 ** min(self._silences, DOUBLINGS)

    def take(self, beat: runs.Heartbeat) -> None:
        """Take in a heartbeat."""
        seconds = beat.interval.ToTimedelta().total_seconds()
        if seconds > 0:
            self._interval, self._known = seconds, True

    def lost(self) -> UnavailableError:
        """Return the error of a connection that was silent for too long."""
        text = f"the server sent nothing for {self.limit:g} s, not even a heartbeat"
        error = UnavailableError(text, code=grpc.StatusCode.UNAVAILABLE)
        self._silences += 1
        return error


class SilenceWatch:
    """Watch one connection. A driver calls `check` at the times that it returns.

    Only the time in which the driver waits for a frame counts: a caller may take its time over an event.

    Args:
        heartbeats: Those of the stream.
        cut: Ends the connection.
        clock: Monotonic seconds.

    Attributes:
        lost: The error of the connection after it was cut; None before.
    """

    __slots__ = ("_clock", "_cut", "_heartbeats", "_limit", "_looked", "_since", "lost")

    def __init__(self, heartbeats: Heartbeats, cut: Callable[[], object], clock: Clock = time.monotonic) -> None:
        self._heartbeats = heartbeats
        self._cut = cut
        self._clock = clock
        self._limit = heartbeats.limit
        self._since: float | None = clock()
        self._looked = False
        self.lost: UnavailableError | None = None

    def received(self) -> bool:
        """Note that a frame came, after it was taken in. Return whether the limit has changed with it."""
        self._since = None
        self._looked = False
        before, self._limit = self._limit, self._heartbeats.limit
        return self._limit != before

    def waiting(self) -> None:
        """Note that the driver waits for the next frame."""
        self._since = self._clock()

    def check(self) -> float:
        """Cut the connection when it was silent for too long. Return the seconds until the next check."""
        since = self._since
        left = self._limit if since is None else since + self._limit - self._clock()
        if left > 0 or self.lost is not None:
            return max(left, SECOND_LOOK)
        if not self._looked:
            self._looked = True
            return SECOND_LOOK
        self.lost = self._heartbeats.lost()
        self._cut()
        return self._limit
