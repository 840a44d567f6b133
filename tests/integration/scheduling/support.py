"""A server with schedules whose time is set by the tests."""

from __future__ import annotations

import json
from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from typing import Any

import grpc
from google.protobuf.duration_pb2 import Duration
from google.protobuf.timestamp_pb2 import Timestamp

from stepwire.server.testing import RunningServer
from stepwire.v1 import run_service_pb2, run_service_pb2_grpc, schedule_service_pb2_grpc, types_pb2
from stepwire.v1 import schedule_service_pb2 as pb
from stepwire.workflow import Context, HumanResponseEvent, StartEvent, StopEvent, Workflow, step

__all__ = ["NOON", "Done", "Job", "Quick", "Schedules", "at", "cron", "every", "outcomes"]

NOON = datetime(2026, 6, 17, 12, 0, 20, tzinfo=UTC)
"""When the servers of these tests start, and stand: a Wednesday, away from the due times of hours and minutes."""

OVERLAPS = {
    "skip": pb.OVERLAP_POLICY_SKIP,
    "queue_one": pb.OVERLAP_POLICY_QUEUE_ONE,
    "queue_all": pb.OVERLAP_POLICY_QUEUE_ALL,
    "cancel_running": pb.OVERLAP_POLICY_CANCEL_RUNNING,
    "start_anyway": pb.OVERLAP_POLICY_START_ANYWAY,
}


class Begin(StartEvent):
    text: str = "hello"
    times: int = 1


class Done(HumanResponseEvent):
    pass


class Quick(Workflow):
    """End at once."""

    @step
    async def go(self, ev: Begin) -> StopEvent:
        return StopEvent(result=ev.text * ev.times)


class Job(Workflow):
    """Work until `Done` comes."""

    def __init__(self) -> None:
        super().__init__(timeout=None)

    @step
    async def go(self, ctx: Context, ev: Begin) -> StopEvent:
        await ctx.wait_for_event(Done, timeout=None)
        return StopEvent(result=ev.text)


def cron(expression: str, zone: str = "", **fields: Any) -> pb.ScheduleTiming:
    return pb.ScheduleTiming(cron=expression, time_zone=zone, **fields)


def every(**units: float) -> pb.ScheduleTiming:
    span = Duration()
    span.FromTimedelta(timedelta(**units))
    return pb.ScheduleTiming(interval=pb.ScheduleInterval(every=span))


def at(moment: datetime) -> pb.ScheduleTiming:
    return pb.ScheduleTiming(at=stamp(moment))


def stamp(moment: datetime) -> Timestamp:
    message = Timestamp()
    message.FromDatetime(moment.astimezone(UTC))
    return message


def outcomes(schedule: pb.Schedule) -> dict[str, int]:
    """Return how many due times a schedule has had, by what came of them; without those that never happened."""
    counts = schedule.counts
    found = {"started": counts.started, "skipped": counts.skipped, "missed": counts.missed, "failed": counts.failed}
    return {name: number for name, number in found.items() if number}


class Schedules:
    """Calls of ScheduleService, and of RunService for the runs of schedules."""

    def __init__(self, server: RunningServer, token: str = "") -> None:
        self.server = server
        self.channel = grpc.insecure_channel(server.address)
        self.stub: Any = schedule_service_pb2_grpc.ScheduleServiceStub(self.channel)
        self.runs_stub: Any = run_service_pb2_grpc.RunServiceStub(self.channel)
        self._metadata = (("authorization", f"Bearer {token}"),) if token else ()

    def call(self, method: str, **fields: Any) -> Any:
        request = getattr(pb, f"{method}Request")(**fields)
        return getattr(self.stub, method)(request, metadata=self._metadata, timeout=60)

    def create(
        self,
        schedule_id: str,
        timing: pb.ScheduleTiming,
        workflow: str = "Quick",
        *,
        overlap: str = "skip",
        input: Mapping[str, Any] | None = None,
        window: float | None = None,
        **fields: Any,
    ) -> pb.Schedule:
        found: pb.Schedule = self.call(
            "CreateSchedule",
            schedule_id=schedule_id,
            spec=self.spec(timing, workflow, overlap=overlap, input=input, window=window),
            **fields,
        ).schedule
        return found

    def spec(
        self,
        timing: pb.ScheduleTiming,
        workflow: str = "Quick",
        *,
        overlap: str = "skip",
        input: Mapping[str, Any] | None = None,
        window: float | None = None,
        **fields: Any,
    ) -> pb.ScheduleSpec:
        spec = pb.ScheduleSpec(workflow=workflow, timing=timing, overlap=OVERLAPS[overlap], **fields)
        if input is not None:
            spec.input.json = json.dumps(input).encode()
        if window is not None:
            spec.catch_up_window.FromTimedelta(timedelta(seconds=window))
        return spec

    def get(self, schedule_id: str) -> pb.Schedule:
        found: pb.Schedule = self.call("GetSchedule", schedule_id=schedule_id).schedule
        return found

    def runs(self, schedule_id: str) -> list[types_pb2.Run]:
        """Return the runs of a schedule, the oldest first."""
        found: list[types_pb2.Run] = []
        request = run_service_pb2.ListRunsRequest(
            schedule_id=schedule_id, page_size=1000, encoding=types_pb2.PAYLOAD_ENCODING_JSON, view="RUN_VIEW_FULL"
        )
        while True:
            page = self.runs_stub.ListRuns(request, metadata=self._metadata, timeout=60)
            found += page.runs
            if not page.next_page_token:
                return found[::-1]
            request.page_token = page.next_page_token

    def due(self, schedule_id: str) -> list[datetime]:
        """Return the due times of the runs of a schedule, the oldest run first."""
        return [run.schedule.due_time.ToDatetime(UTC) for run in self.runs(schedule_id)]

    def finish(self, run_id: str) -> None:
        """Let a run of Job end."""
        event = types_pb2.Event(type="Done")
        self.runs_stub.SendEvent(run_service_pb2.SendEventRequest(run_id=run_id, event=event), timeout=60)
        self.runs_stub.WaitRun(run_service_pb2.WaitRunRequest(run_id=run_id), timeout=60)
