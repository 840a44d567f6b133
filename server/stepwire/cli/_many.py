"""The options of commands that act on one run or on many, and the action on many."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Annotated, Final

import typer
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn
from rich.text import Text

from stepwire.cli._calling import call
from stepwire.cli._exit_codes import ERROR
from stepwire.cli._filters import Chosen, Filters
from stepwire.cli.render.terminal import Output
from stepwire.cli.render.text import clean
from stepwire.client import ApplyProgress, Client, RunAction, RunInfo

__all__ = ["Many", "act_on_many"]

_DONE = {
    "cancel": "cancelled",
    "retry": "retried",
    "delete": "deleted",
    "pause": "paused",
    "resume": "resumed",
}
_NAMED: Final = 20
"""Runs that a dry run names; the rest is counted."""
_ENDED_BADLY = ("failed", "cancelled", "timed_out")
_FITTING: Final[Mapping[RunAction, tuple[str, ...]]] = {
    "cancel": ("queued", "running", "waiting", "paused", "blocked"),
    "retry": _ENDED_BADLY,
    "delete": (*_ENDED_BADLY, "completed"),
    "pause": ("queued", "running", "waiting"),
    "resume": ("paused",),
}
"""The statuses of the runs that an action takes, as on the server."""


@dataclass(frozen=True)
class Many:
    """What a command that acts on runs is told of their choice."""

    every: Annotated[bool, typer.Option("--all", help="Act on all runs that the filters choose.")] = False
    dry_run: Annotated[bool, typer.Option("--dry-run", help="With --all: count and name them, change nothing.")] = False
    most: Annotated[
        int, typer.Option("--max", metavar="N", min=1, max=1_000_000, help="With --all: the most runs to take.")
    ] = 10_000
    yes: Annotated[bool, typer.Option("--yes", "-y", help="With --all: do not ask at a terminal.")] = False

    def check(self, run_id: str | None, filters: Filters) -> None:
        """Raise typer.BadParameter unless one run or many are chosen."""
        if self.every and run_id is not None:
            raise typer.BadParameter("give a run or --all, not both")
        if self.every and not filters.given:
            raise typer.BadParameter("--all needs a filter, such as --workflow")
        if not self.every and run_id is None:
            raise typer.BadParameter("give a run, or --all and filters")
        if not self.every and (filters.given or self.dry_run):
            raise typer.BadParameter("filters and --dry-run go with --all")


def act_on_many(server: str, output: Output, action: RunAction, many: Many, filters: Filters, reason: str = "") -> None:
    """Apply an action to the runs that the filters choose; exit with 1 if it was refused for some.

    At a terminal the runs are counted first, and a person is asked.
    """
    chosen = filters.chosen()
    expected: int | None = None
    if output.interactive or many.dry_run:
        expected = _count(server, output, action, many, chosen)
        if many.dry_run or not expected:
            return
        if not many.yes and not typer.confirm(f"{action} {_runs(expected)}?", err=True):
            raise typer.Exit(ERROR)

    async def body(client: Client) -> ApplyProgress | None:
        last = None
        with _bar(output) as progress:
            task = progress.add_task(action, total=expected)
            async for last in client.apply_to_runs(action, **chosen, reason=reason, max_runs=many.most):
                progress.update(task, completed=last.matched)
                if output.json:
                    output.record(asdict(last))
                for refusal in last.refusals:
                    output.note(f"run {refusal.run_id}: {refusal.reason}: {refusal.message}", style="red")
        return last

    last = call(server, output, body)
    assert last is not None
    told = [f"{_DONE[action]} {_runs(last.done)}"]
    told += [_unchanged(action, last.unchanged)] if last.unchanged else []
    told += [f"{last.refused} refused"] if last.refused else []
    output.progress_note(", ".join(told), style="green" if not last.refused else "yellow")
    if last.more:
        output.progress_note("there are more: run it again, or give a higher --max", style="yellow")
    if last.refused:
        raise typer.Exit(ERROR)


def _count(server: str, output: Output, action: RunAction, many: Many, chosen: Chosen) -> int:
    async def body(client: Client) -> ApplyProgress | None:
        every = [each async for each in client.apply_to_runs(action, **chosen, dry_run=True, max_runs=many.most)]
        return every[-1] if every else None

    last = call(server, output, body)
    assert last is not None
    if many.dry_run and output.json:
        output.document(asdict(last))
    elif many.dry_run or not last.done:
        more = " or more" if last.more else ""
        unchanged = f"; {_unchanged(action, last.unchanged)}" if last.unchanged else ""
        output.note(f"would {action} {_runs(last.done)}{more}{unchanged}")
    if many.dry_run and not output.json and last.done:
        named = call(server, output, lambda client: _first(client, action, chosen, min(last.done, _NAMED)))
        for info in named:
            output.line(Text(clean(f"{info.run_id}  {info.workflow}  {info.status}", keep="")))
        if last.done > len(named):
            output.note(f"and {last.done - len(named):,} more", style="dim")
    return last.done


async def _first(client: Client, action: RunAction, chosen: Chosen, most: int) -> list[RunInfo]:
    """Return the newest runs that an action would change, at most `most`."""
    found: list[RunInfo] = []
    # The server passes over runs that the action does not fit; so do the statuses here.
    able = [status for status in chosen["statuses"] or _FITTING[action] if status in _FITTING[action]]
    if not able:
        return found
    fitting = chosen.copy()
    fitting["statuses"] = able
    async for info in client.list_runs(**fitting, page_size=100):
        if action != "retry" or not info.retried_as:
            found.append(info)
        if len(found) >= most:
            break
    return found


def _unchanged(action: RunAction, count: int) -> str:
    """Say how many runs an action leaves as they are, and why."""
    were = "was" if count == 1 else "were"
    if action == "retry":
        return f"{count} {were} retried before"
    return f"{count} {were} gone or {_DONE[action]} already"


def _bar(output: Output) -> Progress:
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    return Progress(*columns, console=output.err, disable=not output.live, transient=True)


def _runs(count: int) -> str:
    return f"{count} run{'' if count == 1 else 's'}"
