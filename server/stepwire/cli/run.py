"""`stepwire run` and `stepwire result`."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Annotated

import typer
from google.protobuf.message import DecodeError

from stepwire.cli._arguments import DEFAULT_SERVER, Fields, FieldsDocument, Json, JsonLines, RunId, Server
from stepwire.cli._calling import call
from stepwire.cli._help import examples
from stepwire.cli._parsing import fields, labels, run_and_sequence, seconds
from stepwire.cli._resuming import resume_command
from stepwire.cli._run_ids import whole_id
from stepwire.cli.following.answers import Answers
from stepwire.cli.following.follower import Follower
from stepwire.cli.render.records import run_record
from stepwire.cli.render.terminal import Output
from stepwire.cli.render.text import duration
from stepwire.client import Client, Run, Snapshot

__all__ = ["register"]

EPILOG = examples(
    "stepwire run greet name=Ada",
    "stepwire run orders --input @order.json --label team=blue --timeout 10m",
    "stepwire run orders id=7 --json --answer Approval:approved=true",
    "stepwire run orders --from-run 3f2a9c@12",
)


def register(app: typer.Typer) -> None:
    """Add the commands."""
    app.command(epilog=EPILOG)(run)
    app.command(epilog=examples("stepwire result 3f2a9c", "stepwire result 3f2a9c --timeout 30"))(result)


def run(
    workflow: Annotated[str, typer.Argument(metavar="NAME", help="The workflow.", show_default=False)],
    values: Fields = None,
    document: FieldsDocument = None,
    run_id: Annotated[
        str | None, typer.Option(metavar="ID", help="The id of the run. Default: the server chooses.")
    ] = None,
    label: Annotated[list[str] | None, typer.Option(metavar="KEY=VALUE", help="A label to find the run by.")] = None,
    timeout: Annotated[str | None, typer.Option(metavar="TIME", help="The time that the run may take.")] = None,
    detach: Annotated[
        bool, typer.Option("--detach", "-d", help="Start the run, write its id, do not follow it.")
    ] = False,
    answer: Annotated[
        list[str] | None,
        typer.Option(
            metavar="TYPE:KEY=VALUE",
            help="Answer a question before it is asked. The same key again begins the next answer.",
        ),
    ] = None,
    from_snapshot: Annotated[
        Path | None, typer.Option(metavar="FILE", help="Start from a file that stepwire snapshot --out wrote.")
    ] = None,
    from_run: Annotated[
        str | None, typer.Option(metavar="RUN[@SEQUENCE]", help="Start from a snapshot of a run of this server.")
    ] = None,
    server: Server = DEFAULT_SERVER,
    as_json: JsonLines = False,
) -> None:
    """Start a run, follow it, write its result.

    Asks you the run's questions when there is a terminal. Events go to standard error, the result to standard output.
    Ctrl-C leaves the run, which goes on.
    With --json: a line for the run, each event, each question and the outcome.
    Exits with 3 when the run failed, was cancelled or timed out.
    """
    output = Output(json=as_json)
    given = fields(values or (), document)
    if from_snapshot is not None and from_run is not None:
        raise typer.BadParameter("give --from-snapshot or --from-run, not both")
    snapshot = _read_snapshot(from_snapshot) if from_snapshot is not None else None
    source = run_and_sequence(from_run) if from_run is not None else None
    run_labels = labels(label or ())
    run_timeout = seconds(timeout) if timeout is not None else None
    answers = Answers.parse(answer or ())

    async def body(client: Client) -> None:
        started = await client.start_run(
            workflow,
            given,
            run_id=run_id,
            labels=run_labels,
            timeout=run_timeout,
            snapshot=snapshot,
            from_run=source,
        )
        if detach:
            if as_json:
                output.document(run_record(await started.info()))
            else:
                output.text(started.run_id)
            return
        output.progress_note(f"run {started.run_id} of {workflow}")
        await _follow(client, started, output, answers, server)

    call(server, output, body, given or ())


async def _follow(client: Client, started: Run, output: Output, answers: Answers, server: str) -> None:
    follower = Follower(client, started, output, answers=answers, ask=output.interactive)
    try:
        await follower.follow()
    except asyncio.CancelledError:
        output.note(f"\nleft; run {started.run_id} goes on. Come back:")
        output.note(f"  {resume_command(started.run_id, follower.resume_after, server, ask=output.interactive)}")
        raise
    if unused := answers.unused():
        output.note(f"no question took the answer{'s' * (len(unused) > 1)} {', '.join(unused)}", style="yellow")
    value = await started.result(timeout=0)
    output.progress_note(f"completed after {duration(follower.elapsed)}", style="green")
    if not output.json:
        output.result(value)


def result(
    run_id: RunId,
    timeout: Annotated[str | None, typer.Option(metavar="TIME", help="How long to wait at most.")] = None,
    server: Server = DEFAULT_SERVER,
    as_json: Json = False,
) -> None:
    """Wait for the end of a run and write its result.

    Exits with 3 when the run failed, was cancelled or timed out, with 1 when it has not ended in time.
    """
    output = Output(json=as_json)
    wait = seconds(timeout) if timeout is not None else None

    async def body(client: Client) -> None:
        try:
            found = await whole_id(client, run_id)
            output.result(await client.run(found).result(wait))
        except asyncio.CancelledError:
            output.note(f"\nleft; run {run_id} goes on")
            raise

    call(server, output, body)


def _read_snapshot(path: Path) -> Snapshot:
    try:
        return Snapshot.parse(path.read_bytes())
    except OSError as error:
        raise typer.BadParameter(f"{path}: {error.strerror}", param_hint="--from-snapshot") from None
    except DecodeError:
        raise typer.BadParameter(
            f"{path} is not a snapshot that stepwire snapshot --out wrote", param_hint="--from-snapshot"
        ) from None
