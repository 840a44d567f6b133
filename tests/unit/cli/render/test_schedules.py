"""Lists of schedules."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

from tests.unit.cli.render.things import NOW, shown

from stepwire.cli.render.schedules import schedule_page, schedules_table
from stepwire.client import Cron, DueOutcome, DueTime, Every, Pause, Schedule, ScheduleCounts, ScheduleSpec

WEEKDAYS = ScheduleSpec("orders", Cron("0 7 * * 1-5", tz="Europe/Oslo"))
STARTED = DueTime(NOW, NOW - timedelta(minutes=2), DueOutcome.STARTED, "r1", "", "", False)


def schedule(**changes: Any) -> Schedule:
    values: dict[str, Any] = {
        "schedule_id": "nightly",
        "spec": WEEKDAYS,
        "etag": "1",
        "created_by": "ada",
        "created_at": NOW,
        "updated_at": NOW,
        "pause": None,
        "declared": False,
        "next_times": (NOW + timedelta(hours=18),),
        "last": (STARTED,),
        "counts": ScheduleCounts(1, 0, 0, 0),
        "last_failure": None,
        "consecutive_failures": 0,
        "running": (),
        "queued": 0,
    }
    return Schedule(**{**values, **changes})


def test_the_times_of_a_schedule_are_whole_where_there_is_room() -> None:
    lines = shown(schedules_table([schedule()], NOW)).splitlines()
    assert lines[0].split() == ["SCHEDULE", "WORKFLOW", "WHEN", "STATUS", "NEXT", "LAST"]
    assert [cell.strip() for cell in lines[2].split("   ") if cell] == [
        "nightly",
        "orders",
        "0 7 * * 1-5 (Europe/Oslo)",
        "active",
        "2026-02-01 07:00:00 CET",
        "started 2m00s ago",
    ]


def test_a_narrow_terminal_shows_how_soon_a_schedule_is_due_in_one_piece() -> None:
    paused = schedule(schedule_id="poll", pause=Pause(NOW, "", "ada", False), next_times=(), last=())
    seconds = schedule(schedule_id="often", spec=ScheduleSpec("orders", Every(timedelta(seconds=90))))
    lines = shown(schedules_table([schedule(), paused, seconds], NOW, width=80), width=80).splitlines()
    assert lines[2].split("   ")[-3:] == ["active", "in 18h00m", "started 2m00s ago"]
    assert lines[2].split()[:7] == ["nightly", "orders", "0", "7", "*", "*", "1-5"]
    assert lines[3].split() == ["(Europe/Oslo)"]
    assert [line.split()[:2] for line in lines[4:]] == [["poll", "orders"], ["(Europe/Oslo)"], ["often", "orders"]]
    assert lines[-1].endswith("in 18h00m   started 2m00s ago")


def test_a_terminal_that_is_wide_enough_shows_the_time() -> None:
    table = schedules_table(
        [schedule(spec=ScheduleSpec("orders", Every(timedelta(seconds=90))), last=())], NOW, width=80
    )
    assert "2026-02-01 06:00:00 UTC" in shown(table, width=80)


def test_the_page_of_a_schedule_has_the_present_status_of_its_runs() -> None:
    page = shown(schedule_page(schedule(running=("r1", "r2")), {"r1": "completed", "r2": "waiting"}, NOW)).splitlines()
    assert [line.split() for line in page if "r1" in line or "r2" in line][-3:-1] == [
        ["run", "r1", "completed"],
        ["r2", "waiting"],
    ]
    assert not any(line.startswith("running") for line in page)


def test_the_page_of_a_schedule_has_all_times_in_its_zone() -> None:
    page = shown(schedule_page(schedule(pause=Pause(time=NOW, by="ada", reason="holidays", workflow=False)), {}, NOW))
    assert "paused      2026-01-31 13:00:00 CET (0.0s ago) by ada: holidays" in page
    assert "UTC" not in page
    assert "+00:00" not in page
