"""Schedules between the contract's messages and domain types."""

from __future__ import annotations

from typing import Final

from stepwire.server.rpc.convert.labels import labels_of
from stepwire.server.rpc.convert.times import duration, seconds_of, time_of, timestamp
from stepwire.server.rpc.payloads import payload, read_payload
from stepwire.server.runs.errors import InvalidError, Violation
from stepwire.server.runs.scheduling.cron import Timing
from stepwire.server.runs.scheduling.schedule import Acted, Schedule
from stepwire.server.runs.scheduling.schedule_runs import ScheduleView
from stepwire.server.runs.scheduling.spec import DAY, OVERLAPS, SKIP, ScheduleSpec
from stepwire.v1 import schedule_service_pb2 as pb
from stepwire.v1 import types_pb2

__all__ = ["schedule", "spec_of"]

_NEXT: Final = 10
_POLICY: Final = "OVERLAP_POLICY_"
_OUTCOME: Final = "DUE_OUTCOME_"


async def spec_of(message: pb.ScheduleSpec) -> ScheduleSpec:
    """Return what a schedule shall do. InvalidError for an unknown policy, and for an input that is not JSON."""
    data = await read_payload(message.input, "INVALID_INPUT")
    try:
        name = pb.OverlapPolicy.Name(message.overlap).removeprefix(_POLICY).lower()
        text = None if data is None else data.decode()
    except ValueError as error:
        field = "spec.input" if isinstance(error, UnicodeDecodeError) else "spec.overlap"
        raise InvalidError("INVALID_REQUEST", "The request is not valid", [Violation(field, "is not valid")]) from error
    return ScheduleSpec(
        workflow=message.workflow,
        timing=_timing(message.timing),
        input=text,
        overlap=name if name in OVERLAPS else SKIP,
        window=seconds_of(message.catch_up_window) if message.HasField("catch_up_window") else DAY,
        labels=labels_of(message.labels),
        run_timeout=seconds_of(message.run_timeout) if message.HasField("run_timeout") else None,
        description=message.description,
    )


def _timing(message: pb.ScheduleTiming) -> Timing:
    when = message.WhichOneof("when")
    return Timing(
        cron=message.cron,
        every=seconds_of(message.interval.every) if when == "interval" else None,
        at=time_of(message.at) if when == "at" else None,
        anchor=time_of(message.interval.anchor),
        zone=message.time_zone or "UTC",
        jitter=seconds_of(message.jitter),
        start=time_of(message.start_time) if message.HasField("start_time") else None,
        end=time_of(message.end_time) if message.HasField("end_time") else None,
    )


def schedule(view: ScheduleView) -> pb.Schedule:
    """Return a schedule as it is now."""
    found, progress = view
    counts = progress.counts
    message = pb.Schedule(
        schedule_id=found.schedule_id,
        spec=_spec(found.spec),
        etag=found.etag,
        created_by=found.created_by,
        created_at=timestamp(found.created_at),
        updated_at=timestamp(found.updated_at),
        declared=found.declared,
        last=[_due_time(each) for each in progress.last],
        counts=pb.ScheduleCounts(
            started=counts.get("started", 0),
            skipped=counts.get("skipped", 0),
            missed=counts.get("missed", 0),
            failed=counts.get("failed", 0),
        ),
        consecutive_failures=progress.failures,
        running=progress.running,
        queued=progress.waiting,
    )
    if found.pause is not None:
        at, by, reason = found.pause
        message.pause.CopyFrom(types_pb2.Pause(time=timestamp(at), by=by, reason=reason))
    else:
        message.next_times.extend(map(timestamp, _next(found, progress.cursor)))
    if progress.failure is not None:
        message.last_failure.CopyFrom(_due_time(progress.failure))
    return message


def _next(found: Schedule, cursor: float) -> list[float]:
    return found.spec.timing.first(cursor, _NEXT)


def _spec(spec: ScheduleSpec) -> pb.ScheduleSpec:
    message = pb.ScheduleSpec(
        workflow=spec.workflow,
        timing=_timing_message(spec.timing),
        overlap=_POLICY + spec.overlap.upper(),
        catch_up_window=duration(spec.window),
        labels=spec.labels,
        description=spec.description,
    )
    if spec.input is not None:
        message.input.CopyFrom(payload(spec.input.encode(), types_pb2.PAYLOAD_ENCODING_JSON))
    if spec.run_timeout is not None:
        message.run_timeout.CopyFrom(duration(spec.run_timeout))
    return message


def _timing_message(timing: Timing) -> pb.ScheduleTiming:
    message = pb.ScheduleTiming()
    if timing.cron:
        message.cron = timing.cron
        message.time_zone = timing.zone
    elif timing.every is not None:
        message.interval.every.CopyFrom(duration(timing.every))
        if timing.anchor:
            message.interval.anchor.CopyFrom(timestamp(timing.anchor))
    elif timing.at is not None:
        message.at.CopyFrom(timestamp(timing.at))
    if timing.jitter:
        message.jitter.CopyFrom(duration(timing.jitter))
    if timing.start is not None:
        message.start_time.CopyFrom(timestamp(timing.start))
    if timing.end is not None:
        message.end_time.CopyFrom(timestamp(timing.end))
    return message


def _due_time(acted: Acted) -> pb.DueTime:
    return pb.DueTime(
        due_time=timestamp(acted.due),
        time=timestamp(acted.at),
        outcome=_OUTCOME + acted.outcome.upper(),
        run_id=acted.run_id,
        reason=acted.reason,
        message=acted.message,
        manual=acted.manual,
    )
