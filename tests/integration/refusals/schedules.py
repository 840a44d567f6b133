"""Refusals of schedules: what cannot be, and what is not there."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Any
from uuid import uuid4

from google.protobuf.duration_pb2 import Duration
from google.protobuf.timestamp_pb2 import Timestamp
from tests.integration.refusals.table import World, case, nested
from tests.integration.rpc_flows import SECRET
from tests.integration.rpc_serving import Refusal, payload, raw, refused

from stepwire.v1 import schedule_service_pb2 as pb


def spec(**fields: Any) -> pb.ScheduleSpec:
    """Return what a schedule of `ask` does: nothing before the year 2100, unless the fields say otherwise."""
    return pb.ScheduleSpec(
        **{
            "workflow": "ask",
            "input": payload({"item": "tea"}),
            "timing": pb.ScheduleTiming(at=Timestamp(seconds=4_102_444_800)),
            **fields,
        }
    )


def create(w: World, schedule_id: str, made: pb.ScheduleSpec, **fields: Any) -> Awaitable[Any]:
    request = pb.CreateScheduleRequest(schedule_id=schedule_id, spec=made, **fields)
    created: Awaitable[Any] = w.rpc.schedules.CreateSchedule(request)
    return created


def _bad(name: str, field: str, reason: str = "INVALID_REQUEST", **fields: Any) -> None:
    async def attempt(w: World) -> Refusal:
        return await refused(create(w, "s", spec(**fields)))

    attempt.__name__ = f"schedule_with_{name}"
    case(reason, *([field] if field else []))(attempt)


def _bad_timing(name: str, field: str, **fields: Any) -> None:
    _bad(name, f"spec.timing{field}", timing=pb.ScheduleTiming(**fields))


_bad_timing("no_timing", "")
_bad_timing("a_wrong_cron", ".cron", cron="61 * * * *")
_bad_timing("a_cron_of_six_fields", ".cron", cron="* * * * * *")
_bad_timing("a_cron_that_never_comes", ".cron", cron="0 0 30 2 *")
_bad_timing("a_day_that_no_month_has", ".cron", cron="0 0 31 4,6,9,11 *")
_bad_timing("a_long_cron", ".cron", cron=f"{'1,' * 200}1 * * * *")
_bad_timing("an_unknown_macro", ".cron", cron="@reboot")
_bad_timing("an_unknown_zone", ".time_zone", cron="0 7 * * *", time_zone="Europe/Atlantis")
_bad_timing("a_zone_that_is_a_path", ".time_zone", cron="0 7 * * *", time_zone="../../etc/passwd")
_bad_timing("a_zone_that_is_a_folder", ".time_zone", cron="0 7 * * *", time_zone="Europe")
_bad_timing("a_short_interval", ".interval.every", interval=pb.ScheduleInterval(every=Duration(nanos=1)))
_bad_timing("no_interval", ".interval.every", interval=pb.ScheduleInterval())
_bad_timing("a_past_time", "", at=Timestamp(seconds=1))
_bad_timing("a_negative_jitter", ".jitter", cron="@daily", jitter=Duration(seconds=-1))
_bad_timing("a_window_that_is_empty", ".end_time", cron="@daily", start_time=Timestamp(seconds=9), end_time=Timestamp())
_bad_timing("a_window_that_is_over", "", cron="@daily", end_time=Timestamp(seconds=9))
_bad("no_catch_up_window", "spec.catch_up_window", catch_up_window=Duration())
_bad("a_negative_timeout", "spec.run_timeout", run_timeout=Duration(seconds=-1))
_bad("an_unknown_policy", "spec.overlap", overlap=99)
_bad("long_labels", "spec.labels", labels={"k" * 64: "v"})
_bad("a_long_description", "spec.description", description="x" * 1001)
_bad("an_input_that_does_not_fit", "item", "INVALID_INPUT", input=payload({"item": {"not": SECRET}}))
_bad("an_input_that_is_no_json", "", "INVALID_INPUT", input=raw(b"{" + SECRET.encode()))
_bad("an_input_that_is_large", "spec.input", input=payload({"item": "x" * 70_000}))
_bad("an_unknown_workflow", "", "WORKFLOW_NOT_FOUND", workflow="nothing")
_bad("the_workflow_of_schedules", "", "WORKFLOW_NOT_FOUND", workflow="~schedule")


@case("LIMIT_EXCEEDED")
async def schedule_with_a_deep_input(w: World) -> Refusal:
    return await refused(create(w, "s", spec(input=raw(nested(101)))))


@case("INVALID_REQUEST", "schedule_id")
async def schedule_with_a_wrong_id(w: World) -> Refusal:
    return await refused(create(w, "~s", spec()))


@case("SCHEDULE_EXISTS")
async def schedule_whose_id_is_taken(w: World) -> Refusal:
    schedule_id = uuid4().hex
    await create(w, schedule_id, spec())
    return await refused(create(w, schedule_id, spec()))


@case("REQUEST_ID_REUSED")
async def reused_request_id_of_a_schedule(w: World) -> Refusal:
    schedule_id = uuid4().hex
    first = await create(w, schedule_id, spec(), request_id=schedule_id)
    assert await create(w, schedule_id, spec(), request_id=schedule_id) == first
    return await refused(create(w, schedule_id, spec(description="another"), request_id=schedule_id))


@case("ETAG_MISMATCH")
async def update_of_a_schedule_with_a_stale_etag(w: World) -> Refusal:
    schedule_id = uuid4().hex
    etag = (await create(w, schedule_id, spec())).schedule.etag
    request = pb.UpdateScheduleRequest(schedule_id=schedule_id, spec=spec(description="new"), etag=etag)
    await w.rpc.schedules.UpdateSchedule(request)
    return await refused(w.rpc.schedules.UpdateSchedule(request))


@case("INVALID_REQUEST", "start_time", "end_time")
async def backfill_without_a_range(w: World) -> Refusal:
    schedule_id = uuid4().hex
    await create(w, schedule_id, spec())
    return await refused(w.rpc.schedules.BackfillSchedule(pb.BackfillScheduleRequest(schedule_id=schedule_id)))


@case("INVALID_REQUEST", "end_time")
async def backfill_of_the_future(w: World) -> Refusal:
    schedule_id = uuid4().hex
    await create(w, schedule_id, spec())
    request = pb.BackfillScheduleRequest(
        schedule_id=schedule_id, start_time=Timestamp(seconds=1), end_time=Timestamp(seconds=4_102_444_800)
    )
    return await refused(w.rpc.schedules.BackfillSchedule(request))


@case("INVALID_PAGE_TOKEN")
async def list_of_schedules_with_a_wrong_token(w: World) -> Refusal:
    return await refused(w.rpc.schedules.ListSchedules(pb.ListSchedulesRequest(page_token="x")))


def _unknown(name: str, call: Callable[[World, str], Awaitable[Any]]) -> None:
    async def attempt(w: World) -> Refusal:
        return await refused(call(w, "never-made"))

    attempt.__name__ = f"unknown_schedule_{name}"
    case("SCHEDULE_NOT_FOUND")(attempt)


_unknown("get", lambda w, id: w.rpc.schedules.GetSchedule(pb.GetScheduleRequest(schedule_id=id)))
_unknown("update", lambda w, id: w.rpc.schedules.UpdateSchedule(pb.UpdateScheduleRequest(schedule_id=id, spec=spec())))
_unknown("pause", lambda w, id: w.rpc.schedules.PauseSchedule(pb.PauseScheduleRequest(schedule_id=id)))
_unknown("resume", lambda w, id: w.rpc.schedules.ResumeSchedule(pb.ResumeScheduleRequest(schedule_id=id)))
_unknown("trigger", lambda w, id: w.rpc.schedules.TriggerSchedule(pb.TriggerScheduleRequest(schedule_id=id)))
_unknown("delete", lambda w, id: w.rpc.schedules.DeleteSchedule(pb.DeleteScheduleRequest(schedule_id=id)))
_unknown(
    "backfill",
    lambda w, id: w.rpc.schedules.BackfillSchedule(
        pb.BackfillScheduleRequest(schedule_id=id, start_time=Timestamp(), end_time=Timestamp(seconds=60))
    ),
)
