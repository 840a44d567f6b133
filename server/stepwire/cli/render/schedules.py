"""Schedules: a table, a page about one, and JSON objects for scripts."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import asdict
from datetime import UTC, datetime
from typing import Any
from zoneinfo import ZoneInfo

from rich.table import Table
from rich.text import Text

from stepwire.cli.render.pages import Page
from stepwire.cli.render.records import pause_record, time_text
from stepwire.cli.render.tables import new_table, table_width
from stepwire.cli.render.text import clean, compact, exact, fields_text, since, until
from stepwire.client import At, Cron, DueTime, Every, Pause, Schedule, ScheduleSpec

__all__ = ["schedule_page", "schedule_record", "schedules_table"]


def schedules_table(schedules: Iterable[Schedule], now: datetime | None = None, width: int | None = None) -> Table:
    """Return a table of schedules.

    Args:
        schedules: The schedules.
        now: What time it is; None for the time of the machine.
        width: The width of the terminal; None elsewhere. In one that is too narrow, NEXT is how soon it is: the page of
            a schedule has the time.
    """
    found = list(schedules)
    rows = [_row(each, now, soon=False) for each in found]
    table = new_table("SCHEDULE", "WORKFLOW", "WHEN", "STATUS", "NEXT", "LAST")
    if width is not None and rows and table_width(table, rows) > width:
        rows = [_row(each, now, soon=True) for each in found]
        for column in table.columns[3:]:
            column.no_wrap = True
    for row in rows:
        table.add_row(*row)
    return table


def _row(schedule: Schedule, now: datetime | None, *, soon: bool) -> tuple[Text, ...]:
    if schedule.pause is not None:
        status = Text("paused", style="magenta")
    elif schedule.consecutive_failures:
        status = Text(f"failing ({schedule.consecutive_failures})", style="red")
    else:
        status = Text(*("active", "green") if schedule.next_times else ("over", "dim"))
    following = ""
    if schedule.next_times:
        time = schedule.next_times[0]
        following = f"in {until(time, now)}" if soon else _moment(time, schedule.spec)
    last = f"{schedule.last[0].outcome} {since(schedule.last[0].time, now)} ago" if schedule.last else ""
    cells = (schedule.schedule_id, schedule.spec.workflow, _when(schedule.spec))
    shown = (Text(clean(cell, keep=""), overflow="fold") for cell in cells)
    return (*shown, status, Text(following), Text(last))


def schedule_page(schedule: Schedule, statuses: Mapping[str, str], now: datetime | None = None) -> Text:
    """Return everything about a schedule.

    Args:
        schedule: The schedule.
        statuses: The present status of each run in `schedule.running`, which has what the schedule saw last.
        now: What time it is; None for the time of the machine.
    """
    spec, page = schedule.spec, Page()
    page.row("schedule", schedule.schedule_id)
    page.row("about", spec.description)
    page.row("workflow", spec.workflow)
    page.row("when", _when(spec))
    page.row("jitter", exact(spec.jitter.total_seconds()) if spec.jitter else "")
    page.row("from", _moment(spec.start_time, spec))
    page.row("until", _moment(spec.end_time, spec))
    page.row("input", compact(spec.input, 200) if spec.input is not None else "")
    page.row("overlap", str(spec.overlap))
    page.row("catch up", exact(spec.catch_up_window.total_seconds()))
    page.row("timeout", exact(spec.run_timeout.total_seconds()) if spec.run_timeout is not None else "")
    page.row("labels", fields_text(spec.labels))
    page.row("runs as", schedule.created_by)
    page.row("declared", "in the code of the workflow" if schedule.declared else "")
    page.row("paused", _paused(schedule.pause, spec, now), "magenta")
    page.row("due times", ", ".join(f"{number} {name}" for name, number in asdict(schedule.counts).items() if number))
    page.row("waiting", f"{schedule.queued} due times" if schedule.queued else "")
    for run_id, status in statuses.items():
        page.row("run", f"{run_id}  {status}")
    for each in schedule.last:
        page.row("last", _acted(each, spec), "red" if each.reason else "")
    failure = schedule.last_failure
    if failure is not None:
        page.row("last error", f"{failure.reason}: {failure.message} ({since(failure.time, now)} ago)", "red")
    for time in schedule.next_times:
        page.row("next", _moment(time, spec))
    return page.text


def schedule_record(schedule: Schedule) -> dict[str, Any]:
    """Return a schedule as a JSON object. Names are those of the contract."""
    spec = schedule.spec
    return {
        "schedule_id": schedule.schedule_id,
        "spec": {
            "workflow": spec.workflow,
            "timing": _timing(spec),
            "input": spec.input,
            "overlap": str(spec.overlap),
            "catch_up_window": spec.catch_up_window.total_seconds(),
            "labels": dict(spec.labels),
            "run_timeout": spec.run_timeout.total_seconds() if spec.run_timeout is not None else None,
            "description": spec.description,
        },
        "etag": schedule.etag,
        "created_by": schedule.created_by,
        "created_at": time_text(schedule.created_at),
        "updated_at": time_text(schedule.updated_at),
        "pause": pause_record(schedule.pause) if schedule.pause else None,
        "declared": schedule.declared,
        "next_times": [time_text(each) for each in schedule.next_times],
        "last": [_due_record(each) for each in schedule.last],
        "counts": asdict(schedule.counts),
        "last_failure": _due_record(schedule.last_failure) if schedule.last_failure else None,
        "consecutive_failures": schedule.consecutive_failures,
        "running": list(schedule.running),
        "queued": schedule.queued,
    }


def _paused(pause: Pause | None, spec: ScheduleSpec, now: datetime | None) -> str:
    if pause is None:
        return ""
    told = f"{_moment(pause.time, spec)} ({since(pause.time, now)} ago) by {pause.by}"
    return f"{told}: {pause.reason}" if pause.reason else told


def _timing(spec: ScheduleSpec) -> dict[str, Any]:
    when: dict[str, Any]
    if isinstance(spec.when, Cron):
        when = {"cron": spec.when.expression, "time_zone": spec.when.tz}
    elif isinstance(spec.when, Every):
        when = {"interval": {"every": spec.when.interval.total_seconds(), "anchor": time_text(spec.when.anchor)}}
    else:
        when = {"at": time_text(spec.when.time)}
    return {
        **when,
        "jitter": spec.jitter.total_seconds(),
        "start_time": time_text(spec.start_time),
        "end_time": time_text(spec.end_time),
    }


def _due_record(due: DueTime) -> dict[str, Any]:
    return {
        "due_time": time_text(due.due_time),
        "time": time_text(due.time),
        "outcome": str(due.outcome),
        "run_id": due.run_id,
        "reason": due.reason,
        "message": due.message,
        "manual": due.manual,
    }


def _when(spec: ScheduleSpec) -> str:
    when = spec.when
    if isinstance(when, Cron):
        return f"{when.expression} ({when.tz})"
    if isinstance(when, Every):
        anchor = f" from {_moment(when.anchor, spec)}" if when.anchor else ""
        return f"every {exact(when.interval.total_seconds())}{anchor}"
    assert isinstance(when, At)
    return f"at {_moment(when.time, spec)}"


def _acted(due: DueTime, spec: ScheduleSpec) -> str:
    told = due.run_id or (f"{due.reason}: {due.message}" if due.reason else "")
    by_hand = " by hand" if due.manual else ""
    return f"{_moment(due.due_time, spec)} {due.outcome}{by_hand} {told}".rstrip()


def _moment(time: datetime | None, spec: ScheduleSpec) -> str:
    """Return a time for people, in the zone of the schedule."""
    if time is None:
        return ""
    name = spec.when.tz if isinstance(spec.when, Cron) else "UTC"
    try:
        zone: Any = ZoneInfo(name)
    except (KeyError, ValueError, OSError):  # this machine does not know the zone
        zone = UTC
    return time.astimezone(zone).strftime("%Y-%m-%d %H:%M:%S %Z")
