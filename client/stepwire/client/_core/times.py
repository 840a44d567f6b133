"""Times and time spans, to and from their messages. Times are UTC."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

from google.protobuf import duration_pb2, timestamp_pb2


def to_timestamp(time: datetime | None) -> timestamp_pb2.Timestamp | None:
    """Return a time as a message, None for None. Raises ValueError for a time without a zone."""
    if time is None:
        return None
    if time.tzinfo is None:
        raise ValueError(f"{time.isoformat()} has no time zone: pass an aware datetime")
    message = timestamp_pb2.Timestamp()
    message.FromDatetime(time.astimezone(UTC))
    return message


def to_datetime(message: Any, name: str) -> datetime | None:
    """Return the timestamp field `name` of a message, None when it is unset."""
    if not message.HasField(name):
        return None
    stamp: timestamp_pb2.Timestamp = getattr(message, name)
    return stamp.ToDatetime(tzinfo=UTC)


def to_duration(seconds: float | timedelta) -> duration_pb2.Duration:
    """Return a time span as a message. Raises ValueError for one that a message cannot hold, TypeError for none."""
    message = duration_pb2.Duration()
    if not isinstance(seconds, int | float | timedelta):
        raise TypeError(f"{seconds!r} is not a time span: pass a timedelta, or seconds")
    try:
        message.FromTimedelta(seconds if isinstance(seconds, timedelta) else timedelta(seconds=seconds))
    except (OverflowError, ValueError):
        raise ValueError(f"{seconds} is not a time span in seconds, of less than 10,000 years") from None
    return message
