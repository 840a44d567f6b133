"""Schedules that the code of a workflow declares: applied when it is served."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from tests.integration.scheduling.support import NOON, Begin, Schedules, cron

from stepwire.server.app import ConfigError
from stepwire.server.testing import RunningServer, serve
from stepwire.workflow import At, Cron, Every, StartEvent, StopEvent, Workflow, step


def made(declared: Any) -> type[Workflow]:
    """Return a workflow that declares this."""

    class Report(Workflow):
        schedule = declared

        @step
        async def go(self, ev: Begin) -> StopEvent:
            return StopEvent(result=ev.text)

    return Report


DAILY = Cron("0 7 * * 1-5", tz="Europe/Oslo", input={"text": "daily"}, labels={"kind": "daily"})


@pytest.fixture
def serving(tmp_path: Path) -> Iterator[Callable[[Any], Schedules]]:
    """Serve a workflow that declares something, again and again on the same data."""
    running: list[RunningServer] = []

    def again(declared: Any) -> Schedules:
        if running:
            running[0].restart(made(declared))
        else:
            context = serve(made(declared), data=tmp_path, standing_at=NOON)
            contexts.append(context)
            running.append(context.__enter__())
        found = Schedules(running[0])
        running[0].skip(seconds=0)
        return found

    contexts: list[Any] = []
    yield again
    for context in contexts:
        context.__exit__(None, None, None)


def applied(schedules: Schedules, count: int = 1) -> list[Any]:
    """Return the schedules once there are so many."""
    while len(found := schedules.call("ListSchedules").schedules) < count:
        schedules.server.skip(seconds=0.1)
    return sorted(found, key=lambda each: str(each.schedule_id))


def until(schedules: Schedules, condition: Callable[[Any], bool]) -> Any:
    """Return the only schedule once it is so."""
    while not condition(found := schedules.get("Report")):
        schedules.server.skip(seconds=0.1)
    return found


def test_a_declared_schedule_is_there_and_starts_runs(serving: Callable[[Any], Schedules]) -> None:
    schedules = serving(DAILY)
    (found,) = applied(schedules)
    assert (found.schedule_id, found.declared, found.created_by) == ("Report", True, "server")
    assert (found.spec.timing.cron, found.spec.timing.time_zone) == ("0 7 * * 1-5", "Europe/Oslo")
    schedules.server.skip(days=7)
    runs = schedules.runs("Report")
    assert len(runs) == 5
    assert {run.outcome.result.json for run in runs} == {b'"daily"'}
    assert {run.labels["kind"] for run in runs} == {"daily"}


def test_serving_the_same_again_changes_nothing(serving: Callable[[Any], Schedules]) -> None:
    (before,) = applied(serving(DAILY))
    again = serving(DAILY)
    again.server.skip(seconds=1)
    (after,) = applied(again)
    assert (after.etag, after.updated_at) == (before.etag, before.updated_at)


def test_what_the_code_says_anew_is_applied_once(serving: Callable[[Any], Schedules]) -> None:
    applied(serving(DAILY))
    schedules = serving(Every(timedelta(hours=1)))
    found = until(schedules, lambda found: found.spec.timing.WhichOneof("when") == "interval")
    assert found.etag == "s2"
    schedules.server.skip(hours=2)
    assert len(schedules.runs("Report")) == 2


def test_what_is_declared_no_more_is_paused_and_goes_on_when_it_is(serving: Callable[[Any], Schedules]) -> None:
    applied(serving(DAILY))
    schedules = serving(None)
    found = until(schedules, lambda found: found.HasField("pause"))
    assert found.pause.by == "server"
    assert found.pause.reason == "the code of the workflow does not declare it any more"
    schedules.server.skip(days=7)
    assert not schedules.runs("Report")
    again = serving(DAILY)
    until(again, lambda found: not found.HasField("pause"))


def test_a_pause_by_a_person_stays(serving: Callable[[Any], Schedules]) -> None:
    schedules = serving(DAILY)
    applied(schedules)
    schedules.call("PauseSchedule", schedule_id="Report", reason="holidays")
    again = serving(Every(timedelta(hours=1)))
    found = until(again, lambda found: found.spec.timing.WhichOneof("when") == "interval")
    assert found.pause.reason == "holidays"


def test_a_schedule_that_a_caller_made_is_left_alone(serving: Callable[[Any], Schedules]) -> None:
    schedules = serving(None)
    schedules.create("Report", cron("@yearly"), "Report")
    again = serving(DAILY)
    again.server.skip(seconds=1)
    assert again.get("Report").spec.timing.cron == "@yearly"
    assert not again.get("Report").declared


def test_several_by_name(serving: Callable[[Any], Schedules]) -> None:
    moment = datetime(2100, 1, 1, tzinfo=UTC)
    found = applied(serving([Cron("@daily", name="day"), At(moment, name="century")]), 2)
    assert [each.schedule_id for each in found] == ["Report.century", "Report.day"]
    found = applied(serving({"day": Cron("@daily"), "hour": Every(timedelta(hours=1))}), 3)
    assert [each.schedule_id for each in found] == ["Report.century", "Report.day", "Report.hour"]


@pytest.mark.parametrize(
    ("declared", "says"),
    [
        (Cron("61 * * * *"), "schedule Report of Report: timing.cron is not valid: bad minute"),
        (Cron("@daily", tz="Mars"), "timing.time_zone must be the name"),
        (Cron("@daily", input={"times": "many"}), "schedule Report of Report: times"),
        (Every(timedelta(0)), "timing.interval.every must be from 1 second"),
        (Every("1m"), "schedule Report of Report: interval should be a valid timedelta"),  # type: ignore[arg-type]
        (Cron("@daily", labels={"a": 1}), "labels.a should be a valid string"),  # type: ignore[dict-item]
        (At(datetime(2100, 1, 1)), "time has no time zone"),  # noqa: DTZ001 - what is refused
        ("0 7 * * *", r"Report.schedule must be a Cron, an Every or an At"),
        ([Cron("@daily")], "give each a name"),
        ([Cron("@daily", name="a"), Cron("@daily", name="a")], "two schedules that are named 'a'"),
        ({"a": "@daily"}, "no Cron, Every or At"),
        (Cron("@daily", name="a b"), "schedule_id must be 1 to 64"),
    ],
)
def test_what_cannot_be_is_refused_at_the_start(declared: Any, says: str) -> None:
    with pytest.raises(ConfigError, match=says), serve(made(declared), standing_at=NOON):
        pass


def test_a_step_may_be_named_schedule() -> None:
    class Plan(Workflow):
        @step
        async def schedule(self, ev: StartEvent) -> StopEvent:  # type: ignore[override]
            return StopEvent(result="planned")

    with serve(Plan, standing_at=NOON) as server, server.client() as client:
        assert client.start_run("Plan").result() == "planned"
        assert not Schedules(server).call("ListSchedules").schedules
