"""`stepwire events` and `stepwire send`."""

from __future__ import annotations

import asyncio
from typing import Annotated

import typer

from stepwire.cli._arguments import DEFAULT_SERVER, Fields, FieldsDocument, Json, JsonLines, RunId, Server
from stepwire.cli._calling import call
from stepwire.cli._help import examples
from stepwire.cli._log import log_beginning
from stepwire.cli._parsing import fields
from stepwire.cli._resuming import resume_command
from stepwire.cli._run_ids import whole_id
from stepwire.cli.following.answers import Answers
from stepwire.cli.following.follower import Follower
from stepwire.cli.render.progress import event_line
from stepwire.cli.render.records import event_record
from stepwire.cli.render.terminal import Output
from stepwire.client import Client, Run, event_meta

__all__ = ["register"]


def register(app: typer.Typer) -> None:
    """Add the commands."""
    lines = ("stepwire events 3f2a9c --follow", "stepwire events 3f2a9c --after 40 --type Progress --json")
    app.command(epilog=examples(*lines))(events)
    app.command(
        epilog=examples("stepwire send 3f2a9c Approval approved=true", "stepwire send 3f2a9c Order --input @o.json")
    )(send)


def events(
    run_id: RunId,
    after: Annotated[
        int | None,
        typer.Option(metavar="N", min=0, help="Begin after this sequence. Default: where the log begins."),
    ] = None,
    follow: Annotated[bool, typer.Option("--follow", "-f", help="Go on until the run has ended.")] = False,
    internal: Annotated[
        bool, typer.Option("--internal", help="Also the events that were sent to and by steps.")
    ] = False,
    types: Annotated[
        list[str] | None, typer.Option("--type", "-t", metavar="TYPE", help="Only this event type, and the end.")
    ] = None,
    ask: Annotated[bool, typer.Option("--ask", help="With --follow: answer questions at this terminal.")] = False,
    server: Server = DEFAULT_SERVER,
    as_json: JsonLines = False,
) -> None:
    """Write the events of a run's log, a line each."""
    output = Output(json=as_json)
    if ask and not (follow and output.interactive):
        raise typer.BadParameter("--ask needs --follow, a terminal, and no --json")
    place = after or 0

    async def answering(client: Client, run: Run) -> None:
        nonlocal place
        follower = Follower(
            client,
            run,
            output,
            answers=Answers(),
            ask=True,
            after=place,
            types=types or (),
            internal=internal,
            events_to_stdout=True,
        )
        try:
            await follower.follow()
        finally:
            place = follower.resume_after

    async def reading(run: Run) -> None:
        nonlocal place
        async for event in run.events(place, types=types or (), internal=internal, follow=follow):
            place = event_meta(event).sequence
            if as_json:
                output.record(event_record(event))
            else:
                output.line(event_line(event))

    async def body(client: Client) -> None:
        nonlocal place
        run = client.run(await whole_id(client, run_id))
        try:
            if after is None:
                place = await log_beginning(run, output)
            await (answering(client, run) if ask else reading(run))
        except asyncio.CancelledError:
            output.note(f"\nleft; come back: {resume_command(run_id, place, server, ask=ask)}")
            raise

    call(server, output, body)


def send(
    run_id: RunId,
    event_type: Annotated[str, typer.Argument(metavar="TYPE", help="The event type.", show_default=False)],
    values: Fields = None,
    document: FieldsDocument = None,
    step: Annotated[
        str | None,
        typer.Option(metavar="STEP", help="The step to send it to. Default: all steps and waiters that take it."),
    ] = None,
    server: Server = DEFAULT_SERVER,
    as_json: Json = False,
) -> None:
    """Send an event to a run, or answer its question.

    Exits with 0 also when nothing takes the event, which is in the run's log then: --json tells a script, by
    "delivered": 0.
    """
    output = Output(json=as_json)
    given = fields(values or (), document) or {}

    async def body(client: Client) -> None:
        sent = await client.run(await whole_id(client, run_id)).context.send_event((event_type, given), step)
        if as_json:
            output.document({"sequence": sent.sequence, "delivered": sent.delivered})
        elif sent.delivered:
            output.note(f"sent as {sent.sequence}; {_takers(sent.delivered)} it")
        else:
            output.note(f"sent as {sent.sequence}, but nothing took it", style="yellow")

    call(server, output, body, given)


def _takers(count: int) -> str:
    return f"{count} steps or questions took" if count > 1 else "1 step or question took"
