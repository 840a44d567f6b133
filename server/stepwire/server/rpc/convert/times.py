"""Durations and points in time of the contract, as seconds."""

from __future__ import annotations

import math
from typing import Any, Final

from google.protobuf.duration_pb2 import Duration
from google.protobuf.timestamp_pb2 import Timestamp

from stepwire.server.runs.errors import InvalidError, Violation


def seconds_of(duration: Duration) -> float:
    """Return a duration in seconds."""
    return duration.seconds + duration.nanos / 1e9


def wait_of(request: Any, field: str) -> float | None:
    """Return the duration in a field of a request, in seconds; None if it is unset. InvalidError if it is negative."""
    if not request.HasField(field):
        return None
    seconds = seconds_of(getattr(request, field))
    if seconds < 0:
        raise InvalidError("INVALID_REQUEST", "The request is not valid", [Violation(field, "must not be negative")])
    return seconds


def duration(seconds: float) -> Duration:
    """Return seconds as a duration."""
    whole = int(seconds)
    return Duration(seconds=whole, nanos=int((seconds - whole) * 1e9))


def time_of(timestamp: Timestamp) -> float:
    """Return a timestamp in seconds since the epoch."""
    return timestamp.seconds + timestamp.nanos / 1e9


def just_before(timestamp: Timestamp) -> float:
    """Return an inclusive lower bound of the contract as the exclusive one that the store takes."""
    return math.nextafter(time_of(timestamp), -math.inf)


_EARLIEST: Final = -62_135_596_800
_LATEST: Final = 253_402_300_799
"""Seconds since the epoch: the years 1 and 9999, between which a timestamp must be."""


def timestamp(seconds: float) -> Timestamp:
    """Return seconds since the epoch as a timestamp; the first or last one for what none can say."""
    seconds = min(max(seconds, _EARLIEST), _LATEST)
    whole = int(seconds)
    return Timestamp(seconds=whole, nanos=int((seconds - whole) * 1e9))
