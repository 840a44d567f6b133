"""Each due time starts one run, with the input, the labels and the origin that the schedule says."""

from __future__ import annotations

from datetime import UTC, timedelta

import grpc
import pytest
from tests.integration.scheduling.support import NOON, Schedules, at, cron, every, outcomes

from stepwire.v1 import run_service_pb2, types_pb2, workflow_service_pb2, workflow_service_pb2_grpc


def test_seven_days_start_seven_runs(schedules: Schedules) -> None:
    created = schedules.create("nightly", cron("0 7 * * *", "Europe/Oslo"), input={"text": "ha", "times": 2})
    expected = [each.ToDatetime(UTC) for each in created.next_times][:7]
    schedules.server.skip(days=7)
    runs = schedules.runs("nightly")
    assert schedules.due("nightly") == expected
    assert {run.status for run in runs} == {types_pb2.RUN_STATUS_COMPLETED}
    assert {run.outcome.result.json for run in runs} == {b'"haha"'}
    assert all(run.schedule.schedule_id == "nightly" and not run.schedule.manual for run in runs)
    assert all(run.run_id.startswith("nightly-2") for run in runs)
    found = schedules.get("nightly")
    assert outcomes(found) == {"started": 7}
    assert [each.run_id for each in found.last] == [run.run_id for run in reversed(runs)]
    assert len(found.next_times) == 10
    assert not found.HasField("last_failure")


def test_an_interval_is_counted_from_its_anchor(schedules: Schedules) -> None:
    timing = every(hours=6)
    timing.interval.anchor.seconds = 1_800_000_000 + 1234
    schedules.create("often", timing)
    schedules.server.skip(days=1)
    due = schedules.due("often")
    assert len(due) == 4
    assert {(each.timestamp() - 1234) % (6 * 3600) for each in due} == {1_800_000_000 % (6 * 3600)}


def test_one_point_in_time_starts_one_run(schedules: Schedules) -> None:
    moment = (schedules.server.now + timedelta(days=3)).replace(microsecond=0)
    schedules.create("once", at(moment))
    schedules.server.skip(days=2)
    assert schedules.due("once") == []
    schedules.server.skip(days=9)
    assert schedules.due("once") == [moment]
    assert not schedules.get("once").next_times


def test_a_window_bounds_the_due_times(schedules: Schedules) -> None:
    now = schedules.server.now.replace(microsecond=0)
    timing = every(hours=1)
    timing.start_time.FromDatetime(now + timedelta(days=1))
    timing.end_time.FromDatetime(now + timedelta(days=1, hours=5))
    schedules.create("bounded", timing)
    schedules.server.skip(days=3)
    due = schedules.due("bounded")
    assert len(due) == 5
    assert now + timedelta(days=1) <= due[0] < due[-1] < now + timedelta(days=1, hours=5)


def test_jitter_is_the_same_after_a_restart(schedules: Schedules) -> None:
    timing = cron("0 * * * *")
    timing.jitter.FromTimedelta(timedelta(minutes=30))
    schedules.create("jittered", timing)
    schedules.server.skip(hours=3)
    schedules.server.restart(kill=True)
    schedules.server.skip(hours=4)
    found = schedules.get("jittered")
    late = [(each.time.ToDatetime(UTC) - each.due_time.ToDatetime(UTC)).total_seconds() for each in found.last]
    assert len(late) in (6, 7)  # the last one may be late beyond the end
    assert all(0 <= each < 1801 for each in late)
    assert len({round(each) for each in late}) > 3
    assert len(set(schedules.due("jittered"))) == len(late)


def test_runs_have_the_labels_and_the_timeout(schedules: Schedules) -> None:
    spec = schedules.spec(every(hours=1), "Job", labels={"team": "blue"})
    spec.run_timeout.seconds = 60
    schedules.call("CreateSchedule", schedule_id="labelled", spec=spec)
    schedules.server.skip(hours=1)
    (run,) = schedules.runs("labelled")
    assert dict(run.labels) == {"team": "blue"}
    assert run.status == types_pb2.RUN_STATUS_WAITING
    assert len(schedules.call("ListSchedules", labels={"team": "blue"}).schedules) == 1
    assert not schedules.call("ListSchedules", labels={"team": "red"}).schedules
    assert len(schedules.call("ListSchedules", workflow="Job").schedules) == 1
    assert not schedules.call("ListSchedules", workflow="Quick").schedules


def test_pages_go_through_all_schedules(schedules: Schedules) -> None:
    made = [schedules.create(f"s{number}", every(days=1)).schedule_id for number in range(7)]
    found: list[str] = []
    token = ""
    while True:
        page = schedules.call("ListSchedules", page_size=3, page_token=token)
        found += [each.schedule_id for each in page.schedules]
        token = page.next_page_token
        if not token:
            break
    assert found == made[::-1]


def test_a_trigger_starts_one_run_for_each_request(schedules: Schedules) -> None:
    schedules.create("daily", every(days=1), "Job", paused=True)
    first = schedules.call("TriggerSchedule", schedule_id="daily", request_id="a").run_id
    assert schedules.call("TriggerSchedule", schedule_id="daily", request_id="a").run_id == first
    second = schedules.call("TriggerSchedule", schedule_id="daily").run_id
    assert [run.run_id for run in schedules.runs("daily")] == [first, second]
    assert all(run.schedule.manual for run in schedules.runs("daily"))
    found = schedules.get("daily")
    assert outcomes(found) == {"started": 2}
    assert list(found.running) == [first, second]


def test_pause_and_resume(schedules: Schedules) -> None:
    schedules.create("hourly", every(hours=1))
    schedules.server.skip(hours=2)
    paused = schedules.call("PauseSchedule", schedule_id="hourly", reason="the bank is down").schedule
    assert paused.pause.reason == "the bank is down"
    assert not paused.next_times
    assert schedules.call("PauseSchedule", schedule_id="hourly").schedule.etag == paused.etag
    schedules.server.skip(hours=5)
    schedules.server.restart(kill=True)
    schedules.server.skip(hours=5)
    assert len(schedules.runs("hourly")) == 2
    resumed = schedules.call("ResumeSchedule", schedule_id="hourly").schedule
    assert not resumed.HasField("pause")
    schedules.server.skip(hours=2)
    assert len(schedules.runs("hourly")) == 4
    assert outcomes(schedules.get("hourly")) == {"started": 4}


def test_an_update_of_the_timing_begins_anew(schedules: Schedules) -> None:
    schedules.create("moved", every(hours=1))
    schedules.server.skip(hours=2)
    new = schedules.spec(every(days=1), input={"text": "new"})
    updated = schedules.call("UpdateSchedule", schedule_id="moved", spec=new).schedule
    assert updated.etag != schedules.create("other", every(hours=1)).etag
    schedules.server.skip(days=2)
    runs = schedules.runs("moved")
    assert len(runs) == 4
    assert [run.outcome.result.json for run in runs[2:]] == [b'"new"', b'"new"']


def test_a_deleted_schedule_leaves_its_runs_and_can_be_made_anew(schedules: Schedules) -> None:
    schedules.create("gone", every(hours=1))
    schedules.server.skip(hours=1)
    schedules.call("DeleteSchedule", schedule_id="gone")
    with pytest.raises(grpc.RpcError, match="There is no such schedule"):
        schedules.get("gone")
    schedules.server.skip(hours=5)
    assert len(schedules.runs("gone")) == 1
    schedules.create("gone", every(hours=1))
    schedules.server.skip(hours=1)
    assert len(schedules.runs("gone")) == 2


def test_nobody_sees_the_runs_that_are_schedules(schedules: Schedules) -> None:
    schedules.create("hidden", every(hours=1))
    assert not schedules.runs_stub.ListRuns(run_service_pb2.ListRunsRequest()).runs
    workflows = workflow_service_pb2_grpc.WorkflowServiceStub(schedules.channel)
    listed = workflows.ListWorkflows(workflow_service_pb2.ListWorkflowsRequest()).workflows
    assert [each.name for each in listed] == ["Job", "Quick"]
    with pytest.raises(grpc.RpcError, match="No workflow of this name"):
        workflows.GetWorkflow(workflow_service_pb2.GetWorkflowRequest(name="~schedule"))
    for workflow in ("~schedule",):
        with pytest.raises(grpc.RpcError, match="No workflow of this name"):
            schedules.runs_stub.StartRun(run_service_pb2.StartRunRequest(workflow=workflow))
    with pytest.raises(grpc.RpcError, match="There is no such run"):
        schedules.runs_stub.GetRun(run_service_pb2.GetRunRequest(run_id="hidden"))


@pytest.mark.timeout(240)  # 600 due times
@pytest.mark.slow
def test_a_schedule_of_years_stays_small(schedules: Schedules) -> None:
    schedules.create("busy", every(minutes=1))
    schedules.server.skip(hours=10)
    assert outcomes(schedules.get("busy")) == {"started": 600}
    assert len(schedules.server.history("busy", "~default")) < 800
    assert NOON + timedelta(hours=10) <= schedules.server.now < NOON + timedelta(hours=10, seconds=20)
