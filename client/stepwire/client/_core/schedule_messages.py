"""Schedules, to and from their messages."""

from __future__ import annotations

from datetime import UTC, timedelta
from typing import Any

from google.protobuf import duration_pb2

from stepwire.client import schedules as models
from stepwire.client._core.answers import to_pause
from stepwire.client._core.payload import from_payload, to_payload
from stepwire.client._core.times import to_datetime, to_duration, to_timestamp
from stepwire.v1 import schedule_service_pb2 as pb

__all__ = ["from_spec", "to_schedule"]

_OUTCOMES = dict(enumerate(models.DueOutcome))


def from_spec(spec: models.ScheduleSpec) -> pb.ScheduleSpec:
    """Return what a schedule shall do as a message. Raises ValueError for a policy or a time that cannot be."""
    policy = models.Overlap(spec.overlap)
    message = pb.ScheduleSpec(
        workflow=spec.workflow,
        timing=_from_timing(spec),
        overlap=f"OVERLAP_POLICY_{policy.name}",
        catch_up_window=to_duration(spec.catch_up_window),
        labels=dict(spec.labels),
        run_timeout=None if spec.run_timeout is None else to_duration(spec.run_timeout),
        description=spec.description,
    )
    if spec.input is not None:
        message.input.CopyFrom(to_payload(spec.input))
    return message


def _from_timing(spec: models.ScheduleSpec) -> pb.ScheduleTiming:
    when = spec.when
    message = pb.ScheduleTiming(start_time=to_timestamp(spec.start_time), end_time=to_timestamp(spec.end_time))
    if spec.jitter:
        message.jitter.CopyFrom(to_duration(spec.jitter))
    if isinstance(when, models.Cron):
        message.cron = when.expression
        message.time_zone = when.tz
    elif isinstance(when, models.Every):
        every, anchor = to_duration(when.interval), to_timestamp(when.anchor)
        message.interval.CopyFrom(pb.ScheduleInterval(every=every, anchor=anchor))
    elif isinstance(when, models.At):
        message.at.CopyFrom(to_timestamp(when.time) or message.at)
    else:
        raise ValueError(f"when must be a Cron, an Every or an At, not {type(when).__name__}")
    return message


def to_schedule(message: pb.Schedule) -> models.Schedule:
    """Return a schedule as the server knows it."""
    counts = message.counts
    return models.Schedule(
        schedule_id=message.schedule_id,
        spec=_to_spec(message.spec),
        etag=message.etag,
        created_by=message.created_by,
        created_at=to_datetime(message, "created_at"),
        updated_at=to_datetime(message, "updated_at"),
        pause=to_pause(message.pause) if message.HasField("pause") else None,
        declared=message.declared,
        next_times=tuple(each.ToDatetime(UTC) for each in message.next_times),
        last=tuple(map(_to_due_time, message.last)),
        counts=models.ScheduleCounts(counts.started, counts.skipped, counts.missed, counts.failed),
        last_failure=_to_due_time(message.last_failure) if message.HasField("last_failure") else None,
        consecutive_failures=message.consecutive_failures,
        running=tuple(message.running),
        queued=message.queued,
    )


def _to_spec(spec: pb.ScheduleSpec) -> models.ScheduleSpec:
    timing = spec.timing
    policy = pb.OverlapPolicy.Name(spec.overlap).removeprefix("OVERLAP_POLICY_").lower()
    return models.ScheduleSpec(
        workflow=spec.workflow,
        when=_to_when(timing),
        input=from_payload(spec.input),
        overlap=models.Overlap(policy) if policy in list(models.Overlap) else policy,
        catch_up_window=_to_timedelta(spec.catch_up_window),
        jitter=_to_timedelta(timing.jitter),
        labels=dict(spec.labels),
        start_time=to_datetime(timing, "start_time"),
        end_time=to_datetime(timing, "end_time"),
        run_timeout=_to_timedelta(spec.run_timeout) if spec.HasField("run_timeout") else None,
        description=spec.description,
    )


def _to_when(timing: pb.ScheduleTiming) -> models.When:
    kind = timing.WhichOneof("when")
    if kind == "interval":
        return models.Every(_to_timedelta(timing.interval.every), to_datetime(timing.interval, "anchor"))
    if kind == "at":
        return models.At(timing.at.ToDatetime(UTC))
    return models.Cron(timing.cron, timing.time_zone or "UTC")


def _to_due_time(message: pb.DueTime) -> models.DueTime:
    return models.DueTime(
        due_time=to_datetime(message, "due_time"),
        time=to_datetime(message, "time"),
        outcome=_OUTCOMES.get(message.outcome, models.DueOutcome.UNSPECIFIED),
        run_id=message.run_id,
        reason=message.reason,
        message=message.message,
        manual=message.manual,
    )


def _to_timedelta(message: duration_pb2.Duration) -> timedelta:
    found: Any = message.ToTimedelta()
    assert isinstance(found, timedelta)
    return found
