"""The audit log has what schedules do, and what the code does to schedules: nobody calls for it."""

from __future__ import annotations

import json
import time
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

from tests.integration.scheduling.support import NOON, Job, Quick, Schedules, every, outcomes

from stepwire.server.testing import RunningServer, serve
from stepwire.workflow import Every, StartEvent, StopEvent, Workflow, step


def records(path: Path, schedule_id: str) -> list[dict[str, Any]]:
    """Return what is recorded of a schedule, but for calls."""
    found = [json.loads(line) for line in path.read_text().splitlines()]
    return [each for each in found if each.get("schedule") == schedule_id and "method" not in each]


def until(server: RunningServer, so: Callable[[], bool]) -> None:
    """Wait until something is so."""
    end = time.monotonic() + 60.0
    while not so() and time.monotonic() < end:
        server.skip(seconds=0.1)
    assert so()


def test_starts_refusals_and_cancels_of_a_schedule_are_recorded(tmp_path: Path) -> None:
    audit = tmp_path / "audit"
    settings = {"audit_log": str(audit)}
    with serve(Quick, Job, data=tmp_path / "data", settings=settings, standing_at=NOON) as server:
        schedules = Schedules(server)
        schedules.create("hourly", every(hours=1), input={"text": "secret"})
        schedules.create("one", every(hours=1), "Job", overlap="cancel_running")
        server.skip(hours=2)
        runs = schedules.runs("hourly")
        told = records(audit, "hourly")
        assert [each["run"] for each in told] == [run.run_id for run in runs]
        assert [datetime.fromisoformat(each["due"]) for each in told] == [
            run.schedule.due_time.ToDatetime(UTC) for run in runs
        ]
        assert {(each["action"], each["workflow"], each["result"]) for each in told} == {("start", "Quick", "OK")}
        until(server, lambda: len(records(audit, "one")) == 3)
        first, second = schedules.runs("one")
        acts = [(each["action"], each["run"]) for each in records(audit, "one")]
        assert acts == [("start", first.run_id), ("cancel", first.run_id), ("start", second.run_id)]
        server.restart(Job)
        server.skip(hours=1)
        until(server, lambda: outcomes(schedules.get("hourly")).get("failed") == 1)
        last = records(audit, "hourly")[-1]
        assert (last["action"], last["result"], last["reason"]) == ("start", "NOT_FOUND", "WORKFLOW_NOT_FOUND")
        assert "secret" not in audit.read_text()


def declaring(declared: Any) -> Workflow:
    """Make a workflow that declares something."""

    class Declares(Workflow):
        schedule = declared

        @step
        async def go(self, ev: StartEvent) -> StopEvent:
            return StopEvent()

    return Declares()


def test_what_the_code_does_to_schedules_is_recorded(tmp_path: Path) -> None:
    audit = tmp_path / "audit"

    def actions() -> list[str]:
        return [each["action"] for each in records(audit, "w") if each["principal"] == "server"]

    data, settings = tmp_path / "data", {"audit_log": str(audit)}
    expected: list[str] = []
    every_hour, every_day = Every(timedelta(hours=1)), Every(timedelta(days=1))
    for declared, action in ((every_hour, "create"), (every_day, "update"), (None, "pause"), (every_day, "resume")):
        expected.append(f"{action} schedule")
        with serve(w=declaring(declared), data=data, settings=settings, standing_at=NOON) as server:
            until(server, lambda: actions() == expected)
