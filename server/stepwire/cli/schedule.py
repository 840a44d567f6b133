"""`stepwire schedule`: create, look at, change, trigger and delete schedules."""

from __future__ import annotations

import asyncio
from typing import Annotated, Final

import typer

from stepwire.cli._arguments import DEFAULT_SERVER, Json, Server
from stepwire.cli._calling import call
from stepwire.cli._filters import takes_options
from stepwire.cli._groups import Commands, Subcommands
from stepwire.cli._help import examples
from stepwire.cli._parsing import labels, moment
from stepwire.cli._schedule_options import ScheduleOptions
from stepwire.cli.render.schedules import schedule_page, schedule_record, schedules_table
from stepwire.cli.render.terminal import Output
from stepwire.client import Client, NotFoundError, Schedule

__all__ = ["register"]

_NONE = ScheduleOptions()
_RUNS_SHOWN: Final = 10
"""Runs of a schedule whose status is asked for: each is a call."""

ScheduleId = Annotated[str, typer.Argument(metavar="SCHEDULE", help="The id of the schedule.", show_default=False)]
Inputs = Annotated[
    list[str] | None,
    typer.Argument(metavar="KEY=VALUE", help="Fields of the start event of the runs.", show_default=False),
]


def register(app: typer.Typer) -> None:
    """Add the group of commands."""
    group = Commands(
        cls=Subcommands,
        help="Start runs at due times: by cron, at intervals, or once.",
        no_args_is_help=True,
        rich_markup_mode=None,
        add_completion=False,
    )
    lines = (
        "stepwire schedule create nightly orders --cron '0 7 * * 1-5' --tz Europe/Oslo item=tea",
        "stepwire schedule create poll feeds --every 5m --overlap queue_one",
        "stepwire schedule create once report --at 2026-12-31T23:00 --input @report.json",
    )
    group.command("create", epilog=examples(*lines))(create)
    group.command("list", epilog=examples("stepwire schedule list --workflow orders --label team=blue"))(list_all)
    group.command("show", epilog=examples("stepwire schedule show nightly"))(show)
    group.command("update", epilog=examples("stepwire schedule update nightly --cron '30 6 * * 1-5'"))(update)
    group.command("pause", epilog=examples('stepwire schedule pause nightly --reason "the bank is down"'))(pause)
    group.command("resume", epilog=examples("stepwire schedule resume nightly"))(resume)
    group.command("trigger", epilog=examples("stepwire schedule trigger nightly"))(trigger)
    group.command("delete", epilog=examples("stepwire schedule delete nightly"))(delete)
    line = "stepwire schedule backfill nightly --from 2026-11-01 --to 2026-11-08"
    group.command("backfill", epilog=examples(line))(backfill)
    app.add_typer(group, name="schedule", epilog=examples("stepwire schedule list"))


@takes_options
def create(
    schedule_id: ScheduleId,
    workflow: Annotated[str, typer.Argument(metavar="WORKFLOW", help="Whose runs it starts.", show_default=False)],
    inputs: Inputs = None,
    options: ScheduleOptions = _NONE,
    paused: Annotated[bool, typer.Option("--paused", help="Create it paused.")] = False,
    server: Server = DEFAULT_SERVER,
    as_json: Json = False,
) -> None:
    """Create a schedule. It starts its runs as the caller that creates it."""
    output = Output(json=as_json)
    spec = options.spec(workflow, inputs or [])

    async def body(client: Client) -> None:
        await _show(client, output, await client.schedules.create(schedule_id, spec, paused=paused))

    call(server, output, body)


def list_all(
    workflow: Annotated[
        str | None, typer.Option("--workflow", "-w", metavar="NAME", help="Only schedules of this workflow.")
    ] = None,
    label: Annotated[
        list[str] | None, typer.Option(metavar="KEY=VALUE", help="Only schedules with this label.")
    ] = None,
    server: Server = DEFAULT_SERVER,
    as_json: Json = False,
) -> None:
    """List schedules, the newest first."""
    output = Output(json=as_json)
    wanted = labels(label or ())

    async def body(client: Client) -> None:
        found = [each async for each in client.schedules.list(workflow=workflow, labels=wanted)]
        if as_json:
            output.document([schedule_record(each) for each in found])
        elif found:
            output.show(schedules_table(found, width=output.width))
        else:
            output.note("no schedules", style="dim")

    call(server, output, body)


def show(schedule_id: ScheduleId, server: Server = DEFAULT_SERVER, as_json: Json = False) -> None:
    """Show a schedule: what it does, what it did, what comes next."""
    output = Output(json=as_json)

    async def body(client: Client) -> None:
        await _show(client, output, await client.schedules.get(schedule_id))

    call(server, output, body)


@takes_options
def update(
    schedule_id: ScheduleId,
    inputs: Inputs = None,
    options: ScheduleOptions = _NONE,
    server: Server = DEFAULT_SERVER,
    as_json: Json = False,
) -> None:
    """Change what a schedule does: what is given; the rest stays.

    With new times, due times of before the update start nothing any more.
    """
    output = Output(json=as_json)
    if options == _NONE and not inputs:
        raise typer.BadParameter("say what to change")

    async def body(client: Client) -> None:
        found = await client.schedules.get(schedule_id)
        spec = options.update(found.spec, inputs or [])
        await _show(client, output, await client.schedules.update(schedule_id, spec, etag=found.etag))

    call(server, output, body)


def pause(
    schedule_id: ScheduleId,
    reason: Annotated[str, typer.Option(metavar="TEXT", help="The reason, for people.")] = "",
    server: Server = DEFAULT_SERVER,
    as_json: Json = False,
) -> None:
    """Have due times start nothing until the schedule is resumed. Its runs go on."""
    output = Output(json=as_json)

    async def body(client: Client) -> None:
        await _show(client, output, await client.schedules.pause(schedule_id, reason))

    call(server, output, body)


def resume(schedule_id: ScheduleId, server: Server = DEFAULT_SERVER, as_json: Json = False) -> None:
    """End the pause. Due times that passed meanwhile start nothing."""
    output = Output(json=as_json)

    async def body(client: Client) -> None:
        await _show(client, output, await client.schedules.resume(schedule_id))

    call(server, output, body)


def trigger(schedule_id: ScheduleId, server: Server = DEFAULT_SERVER, as_json: Json = False) -> None:
    """Start a run now and write its id. The times, the overlap policy and a pause do not matter."""
    output = Output(json=as_json)

    async def body(client: Client) -> None:
        run_id = await client.schedules.trigger(schedule_id)
        if as_json:
            output.document({"run_id": run_id})
        else:
            output.text(run_id)

    call(server, output, body)


def delete(schedule_id: ScheduleId, server: Server = DEFAULT_SERVER, as_json: Json = False) -> None:
    """Delete a schedule. Its runs stay."""
    output = Output(json=as_json)

    async def body(client: Client) -> None:
        await client.schedules.delete(schedule_id)
        if as_json:
            output.document({"schedule_id": schedule_id})
        else:
            output.note(f"deleted {schedule_id}")

    call(server, output, body)


def backfill(
    schedule_id: ScheduleId,
    start: Annotated[
        str, typer.Option("--from", metavar="TIME", help="Due times from this one on: an ISO time, or 2d (ago).")
    ],
    end: Annotated[str, typer.Option("--to", metavar="TIME", help="Due times before this one. Default: now.")] = "0s",
    at_once: Annotated[
        bool, typer.Option("--at-once", help="Start all runs at once, rather than one after another.")
    ] = False,
    server: Server = DEFAULT_SERVER,
    as_json: Json = False,
) -> None:
    """Start the runs of the due times in a past range. Those that have started one are left out."""
    output = Output(json=as_json)
    first, last = moment(start), moment(end)

    async def body(client: Client) -> None:
        count = await client.schedules.backfill(schedule_id, first, last, at_once=at_once)
        if as_json:
            output.document({"due_times": count})
        else:
            output.note(f"{count} due time{'' if count == 1 else 's'}; watch: stepwire schedule show {schedule_id}")

    call(server, output, body)


async def _show(client: Client, output: Output, schedule: Schedule) -> None:
    if output.json:
        output.document(schedule_record(schedule))
        return
    ids = schedule.running[-_RUNS_SHOWN:]
    statuses = await asyncio.gather(*(_status(client, run_id) for run_id in ids))
    output.show(schedule_page(schedule, dict(zip(ids, statuses, strict=True))))


async def _status(client: Client, run_id: str) -> str:
    try:
        return str((await client.get_run(run_id)).status)
    except NotFoundError:
        return "deleted"
