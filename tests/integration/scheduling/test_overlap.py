"""What a due time does while an earlier run has not ended, and after downtime."""

from __future__ import annotations

from datetime import timedelta
from itertools import pairwise

import grpc
import pytest
from tests.integration.scheduling.support import Job, Quick, Schedules, at, cron, every, outcomes

from stepwire.v1 import run_service_pb2, types_pb2
from stepwire.workflow import StartEvent, StopEvent, Workflow, step

WAITING, CANCELLED = types_pb2.RUN_STATUS_WAITING, types_pb2.RUN_STATUS_CANCELLED
COMPLETED = types_pb2.RUN_STATUS_COMPLETED


def statuses(schedules: Schedules, schedule_id: str) -> list[int]:
    return [run.status for run in schedules.runs(schedule_id)]


@pytest.mark.parametrize("restart", [False, True], ids=["", "restarted"])
class TestPolicies:
    """Four due times while the first run goes on; then it ends. The server may have been killed before the end."""

    def _four(self, schedules: Schedules, overlap: str, *, restart: bool) -> None:
        schedules.create("s", every(hours=1), "Job", overlap=overlap)
        schedules.server.skip(hours=4)
        if restart:
            schedules.server.restart(kill=True)
            schedules.server.skip(seconds=0)

    def test_skip(self, schedules: Schedules, restart: bool) -> None:
        self._four(schedules, "skip", restart=restart)
        assert outcomes(schedules.get("s")) == {"started": 1, "skipped": 3}
        schedules.finish(schedules.runs("s")[0].run_id)
        schedules.server.skip(hours=1)
        assert statuses(schedules, "s") == [COMPLETED, WAITING]

    def test_queue_one(self, schedules: Schedules, restart: bool) -> None:
        self._four(schedules, "queue_one", restart=restart)
        found = schedules.get("s")
        assert outcomes(found) == {"started": 1, "skipped": 2}
        assert found.queued == 1
        due = found.created_at.ToDatetime()
        schedules.finish(schedules.runs("s")[0].run_id)
        schedules.server.skip(seconds=1)
        assert statuses(schedules, "s") == [COMPLETED, WAITING]
        first, second = schedules.due("s")
        assert second - first == timedelta(hours=1)
        assert first.replace(tzinfo=None) > due
        schedules.finish(schedules.runs("s")[1].run_id)
        schedules.server.skip(seconds=1)
        assert statuses(schedules, "s") == [COMPLETED, COMPLETED]

    def test_queue_all(self, schedules: Schedules, restart: bool) -> None:
        self._four(schedules, "queue_all", restart=restart)
        assert schedules.get("s").queued == 3
        for number in range(4):
            assert statuses(schedules, "s") == [COMPLETED] * number + [WAITING]
            schedules.finish(schedules.runs("s")[number].run_id)
            schedules.server.skip(seconds=1)
        assert outcomes(schedules.get("s")) == {"started": 4}
        due = schedules.due("s")
        assert [after - before for before, after in pairwise(due)] == [timedelta(hours=1)] * 3

    def test_cancel_running(self, schedules: Schedules, restart: bool) -> None:
        self._four(schedules, "cancel_running", restart=restart)
        assert statuses(schedules, "s") == [CANCELLED, CANCELLED, CANCELLED, WAITING]
        assert "the next run of schedule s is due" in schedules.runs("s")[0].outcome.reason
        assert outcomes(schedules.get("s")) == {"started": 4}

    def test_start_anyway(self, schedules: Schedules, restart: bool) -> None:
        self._four(schedules, "start_anyway", restart=restart)
        assert statuses(schedules, "s") == [WAITING] * 4


@pytest.mark.timeout(240)  # a thousand due times
@pytest.mark.slow
def test_a_queue_is_bounded(schedules: Schedules) -> None:
    schedules.create("s", every(minutes=1), "Job", overlap="queue_all", window=366 * 86_400)
    schedules.server.stop()
    schedules.server._clock.skip_to(schedules.server._clock.now() + 60 * 1200)
    schedules.server.start()
    while outcomes(schedules.get("s")).get("skipped", 0) < 199:
        schedules.server.skip(seconds=0)
    found = schedules.get("s")
    assert found.queued == 1000
    assert outcomes(found)["started"] == 1


def test_a_change_of_the_policy_acts_on_what_waits(schedules: Schedules) -> None:
    schedules.create("s", every(hours=1), "Job", overlap="queue_all")
    schedules.server.skip(hours=3)
    assert schedules.get("s").queued == 2
    spec = schedules.spec(every(hours=1), "Job", overlap="cancel_running")
    schedules.call("UpdateSchedule", schedule_id="s", spec=spec)
    schedules.server.skip(seconds=1)
    assert statuses(schedules, "s") == [CANCELLED, CANCELLED, WAITING]


def test_a_queue_waits_while_the_schedule_is_paused(schedules: Schedules) -> None:
    schedules.create("s", every(hours=1), "Job", overlap="queue_one")
    schedules.server.skip(hours=2)
    schedules.call("PauseSchedule", schedule_id="s")
    schedules.finish(schedules.runs("s")[0].run_id)
    schedules.server.skip(hours=2)
    assert statuses(schedules, "s") == [COMPLETED]
    schedules.call("ResumeSchedule", schedule_id="s")
    schedules.server.skip(seconds=1)
    assert statuses(schedules, "s") == [COMPLETED, WAITING]


# -- downtime -------------------------------------------------------------------------------------------------------


def down_for(schedules: Schedules, **units: float) -> None:
    """Have the server be down for a time."""
    schedules.server.kill()
    clock = schedules.server._clock
    clock.skip_to(clock.now() + timedelta(**units).total_seconds())
    schedules.server.start()
    schedules.server.skip(seconds=0)


def test_what_passed_within_the_window_is_made_up_for(schedules: Schedules) -> None:
    schedules.create("s", cron("0 * * * *"), overlap="start_anyway", window=3 * 3600)
    down_for(schedules, hours=10)
    found = schedules.get("s")
    assert outcomes(found) == {"started": 3, "missed": 7}
    due = schedules.due("s")
    assert due == sorted(due)
    assert schedules.server.now - due[0] <= timedelta(hours=3)
    assert schedules.server.now - due[-1] < timedelta(hours=1)
    schedules.server.skip(hours=1)
    assert outcomes(schedules.get("s")) == {"started": 4, "missed": 7}


def test_with_skip_one_run_makes_up_for_many(schedules: Schedules) -> None:
    schedules.create("s", every(hours=1), "Job")
    down_for(schedules, hours=10)
    assert outcomes(schedules.get("s")) == {"started": 1, "skipped": 9}


def test_months_of_downtime_are_counted_and_do_not_grow_anything(schedules: Schedules) -> None:
    schedules.create("s", every(minutes=1), window=60)
    down_for(schedules, days=60)
    while outcomes(schedules.get("s")).get("missed", 0) < 60 * 24 * 60 - 2:
        schedules.server.skip(seconds=0)
    found = outcomes(schedules.get("s"))
    assert found["missed"] + found.get("started", 0) == 60 * 24 * 60
    assert len(schedules.server.history("s", "~default")) < 100


def test_one_point_in_time_that_passed(schedules: Schedules) -> None:
    moment = schedules.server.now + timedelta(hours=1)
    schedules.create("late", at(moment))
    schedules.create("too-late", at(moment), window=60)
    down_for(schedules, hours=2)
    assert outcomes(schedules.get("late")) == {"started": 1}
    assert outcomes(schedules.get("too-late")) == {"missed": 1}


# -- backfill -------------------------------------------------------------------------------------------------------


def backfill(schedules: Schedules, schedule_id: str, hours: float, **fields: object) -> int:
    from tests.integration.scheduling.support import stamp

    now = schedules.server.now
    answer = schedules.call(
        "BackfillSchedule",
        schedule_id=schedule_id,
        start_time=stamp(now - timedelta(hours=hours)),
        end_time=stamp(now),
        **fields,
    )
    return int(answer.due_times)


def test_a_backfill_starts_what_has_not_started(schedules: Schedules) -> None:
    schedules.create("s", every(hours=1))
    schedules.server.skip(hours=3)
    assert backfill(schedules, "s", 8) == 8
    schedules.server.skip(seconds=1)
    due = schedules.due("s")
    assert len(due) == len(set(due)) == 8
    runs = schedules.runs("s")
    assert sorted(run.schedule.manual for run in runs) == [False] * 3 + [True] * 5
    assert outcomes(schedules.get("s")) == {"started": 8}
    assert schedules.get("s").queued == 0


def test_a_backfill_is_one_after_another_or_at_once(schedules: Schedules) -> None:
    schedules.create("slow", every(hours=1), "Job", paused=True)
    schedules.create("fast", every(hours=1), "Job")
    assert backfill(schedules, "slow", 3) == 3
    schedules.server.skip(seconds=1)
    assert schedules.runs("slow") == []  # it is paused
    assert backfill(schedules, "fast", 3, at_once=True) == 3
    schedules.server.skip(seconds=1)
    assert statuses(schedules, "fast") == [WAITING] * 3
    schedules.call("ResumeSchedule", schedule_id="slow")
    schedules.server.skip(seconds=1)
    assert statuses(schedules, "slow") == [WAITING]
    for number in range(3):
        schedules.finish(schedules.runs("slow")[number].run_id)
        schedules.server.skip(seconds=1)
    assert statuses(schedules, "slow") == [COMPLETED] * 3


def test_a_backfill_is_repeated_under_its_request_id_without_effect(schedules: Schedules) -> None:
    schedules.create("s", every(hours=1), "Job")
    assert backfill(schedules, "s", 5, request_id="b") == 5
    with pytest.raises(grpc.RpcError, match="request_id came before"):
        backfill(schedules, "s", 6, request_id="b")
    for number in range(9):
        backfill(schedules, "s", 5, request_id=f"c{number}")
    with pytest.raises(grpc.RpcError, match="at most 10 ranges"):
        backfill(schedules, "s", 5)


@pytest.mark.slow
def test_a_backfill_goes_on_after_a_kill(schedules: Schedules) -> None:
    schedules.create("s", every(minutes=1))
    assert backfill(schedules, "s", 5) == 300
    schedules.server.restart(kill=True)
    while schedules.get("s").queued:
        schedules.server.skip(seconds=0)
    due = [run.schedule.due_time.seconds for run in schedules.runs("s") if run.schedule.manual]
    assert len(due) == len(set(due)) == 300


def test_a_backfill_at_once_starts_as_many_runs_as_a_schedule_can_wait_for(schedules: Schedules) -> None:
    schedules.create("s", every(minutes=1), "Job")
    assert backfill(schedules, "s", 1.75, at_once=True) == 105

    def working_when_queued(count: int) -> list[str]:
        while schedules.get("s").queued > count:
            schedules.server.skip(seconds=0)
        schedules.server.skip(seconds=0)
        assert schedules.get("s").queued == count
        return [run.run_id for run in schedules.runs("s") if run.status == WAITING]

    working = working_when_queued(5)
    assert len(working) == 100
    schedules.finish(working[50])
    working = working_when_queued(4)
    assert len(working) == 100
    for run_id in working:
        schedules.finish(run_id)
    assert len(working_when_queued(0)) == 4


# -- failures -------------------------------------------------------------------------------------------------------


def test_failures_are_shown_and_the_schedule_goes_on(schedules: Schedules) -> None:
    class Begin(StartEvent):
        text: int

    class Changed(Workflow):
        @step
        async def go(self, ev: Begin) -> StopEvent:
            return StopEvent(result=ev.text)

    schedules.create("gone", every(hours=1), "Job")
    schedules.create("changed", every(hours=1), "Quick", input={"text": "words"})
    schedules.server.restart(Quick=Changed)
    schedules.server.skip(hours=3)
    gone, changed = schedules.get("gone"), schedules.get("changed")
    assert outcomes(gone) == outcomes(changed) == {"failed": 3}
    assert (gone.last_failure.reason, changed.last_failure.reason) == ("WORKFLOW_NOT_FOUND", "INVALID_INPUT")
    assert gone.consecutive_failures == 3
    assert [each.reason for each in gone.last] == ["WORKFLOW_NOT_FOUND"] * 3
    assert gone.last_failure.message
    with pytest.raises(grpc.RpcError, match="No workflow of this name is served"):
        schedules.call("TriggerSchedule", schedule_id="gone")
    schedules.server.restart(Quick, Job)
    schedules.server.skip(hours=1)
    gone, changed = schedules.get("gone"), schedules.get("changed")
    assert outcomes(gone) == outcomes(changed) == {"failed": 3, "started": 1}
    assert gone.consecutive_failures == 0
    assert gone.last_failure.reason == "WORKFLOW_NOT_FOUND"


def test_a_run_of_the_same_id_that_the_schedule_has_not_started_is_a_failure(schedules: Schedules) -> None:
    schedules.create("s", cron("0 * * * *"))
    schedules.server.skip(hours=1)
    (first,) = schedules.runs("s")
    due = schedules.due("s")[0]
    later = [f"{due + timedelta(hours=hours):%Y%m%dT%H%M%S}" for hours in (1, 2)]
    taken = first.run_id.replace(f"{due:%Y%m%dT%H%M%S}", later[0])
    assert taken != first.run_id
    schedules.runs_stub.StartRun(run_service_pb2.StartRunRequest(workflow="Quick", run_id=taken), timeout=60)
    schedules.server.skip(hours=2)
    found = schedules.get("s")
    assert outcomes(found) == {"started": 2, "failed": 1}
    assert found.last_failure.reason == "RUN_EXISTS"
    assert [later[1] in run.run_id for run in schedules.runs("s")] == [False, True]
