"""The calls on schedules."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from datetime import datetime
from typing import Any, TypeVar

from google.protobuf.message import Message

from stepwire.client._core.call import Call, Pages, Settings, new_request_id
from stepwire.client._core.schedule_messages import from_spec, to_schedule
from stepwire.client._core.times import to_timestamp
from stepwire.client.schedules import Schedule, ScheduleSpec
from stepwire.v1 import schedule_service_pb2 as pb

T = TypeVar("T")


class ScheduleCalls:
    """Make the calls on schedules. Parameters are those of `Schedules`."""

    def __init__(self, settings: Settings) -> None:
        self._settings = settings

    def create(self, schedule_id: str, spec: ScheduleSpec, *, paused: bool, request_id: str | None) -> Call[Schedule]:
        """Return the call of CreateSchedule."""
        request = pb.CreateScheduleRequest(
            schedule_id=schedule_id, spec=from_spec(spec), paused=paused, request_id=request_id or new_request_id()
        )
        return self._call("CreateSchedule", request, _schedule)

    def get(self, schedule_id: str) -> Call[Schedule]:
        """Return the call of GetSchedule."""
        return self._call("GetSchedule", pb.GetScheduleRequest(schedule_id=schedule_id), _schedule)

    def list(self, workflow: str | None, labels: Mapping[str, str] | None, page_size: int) -> Pages[Schedule]:
        """Return the pages of ListSchedules."""
        request = pb.ListSchedulesRequest(page_size=page_size, workflow=workflow or "", labels=dict(labels or {}))
        return Pages(
            "ScheduleService.ListSchedules",
            request,
            lambda response: [to_schedule(each) for each in response.schedules],
            self._settings.timeout,
        )

    def update(self, schedule_id: str, spec: ScheduleSpec, etag: str) -> Call[Schedule]:
        """Return the call of UpdateSchedule. With an etag it is not repeated: the repeat would not find the etag."""
        request = pb.UpdateScheduleRequest(schedule_id=schedule_id, spec=from_spec(spec), etag=etag)
        return self._call("UpdateSchedule", request, _schedule, safe=not etag)

    def pause(self, schedule_id: str, reason: str) -> Call[Schedule]:
        """Return the call of PauseSchedule."""
        return self._call("PauseSchedule", pb.PauseScheduleRequest(schedule_id=schedule_id, reason=reason), _schedule)

    def resume(self, schedule_id: str) -> Call[Schedule]:
        """Return the call of ResumeSchedule."""
        return self._call("ResumeSchedule", pb.ResumeScheduleRequest(schedule_id=schedule_id), _schedule)

    def trigger(self, schedule_id: str, request_id: str | None) -> Call[str]:
        """Return the call of TriggerSchedule."""
        request = pb.TriggerScheduleRequest(schedule_id=schedule_id, request_id=request_id or new_request_id())
        return self._call("TriggerSchedule", request, lambda response: str(response.run_id))

    def delete(self, schedule_id: str) -> Call[None]:
        """Return the call of DeleteSchedule."""
        return self._call(
            "DeleteSchedule", pb.DeleteScheduleRequest(schedule_id=schedule_id), lambda _: None, safe=False
        )

    def backfill(
        self, schedule_id: str, start: datetime, end: datetime, *, at_once: bool, request_id: str | None
    ) -> Call[int]:
        """Return the call of BackfillSchedule."""
        request = pb.BackfillScheduleRequest(
            schedule_id=schedule_id,
            start_time=to_timestamp(start),
            end_time=to_timestamp(end),
            at_once=at_once,
            request_id=request_id or new_request_id(),
        )
        return self._call("BackfillSchedule", request, lambda response: int(response.due_times))

    def _call(self, method: str, request: Message, parse: Callable[[Any], T], *, safe: bool = True) -> Call[T]:
        return Call(f"ScheduleService.{method}", request, parse, safe=safe, budget=self._settings.timeout)


def _schedule(response: Any) -> Schedule:
    return to_schedule(response.schedule)
