"""The options that say what a schedule does, of the commands that create and update one."""

from __future__ import annotations

from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from typing import Annotated, Any

import typer

from stepwire.cli._parsing import fields, labels, moment, seconds
from stepwire.client import At, Cron, Every, Overlap, ScheduleSpec
from stepwire.client.schedules import When

__all__ = ["ScheduleOptions"]

_POLICIES = ", ".join(str(each) for each in Overlap)


@dataclass(frozen=True)
class ScheduleOptions:
    """What was given of what a schedule does."""

    cron: Annotated[
        str | None, typer.Option(metavar="EXPRESSION", help="Due by a cron expression: '0 7 * * 1-5', or @daily.")
    ] = None
    tz: Annotated[str | None, typer.Option(metavar="ZONE", help="Its time zone: Europe/Oslo. Default: UTC.")] = None
    every: Annotated[str | None, typer.Option(metavar="SPAN", help="Due every so often: 90s, 5m, 2h, 1d.")] = None
    anchor: Annotated[
        str | None, typer.Option(metavar="TIME", help="A due time that --every is counted from; an ISO time.")
    ] = None
    at: Annotated[str | None, typer.Option(metavar="TIME", help="Due once: an ISO time, or 2h (from now).")] = None
    document: Annotated[
        str | None, typer.Option("--input", metavar="JSON", help="The start event of the runs: JSON, @file or @-.")
    ] = None
    overlap: Annotated[
        str | None,
        typer.Option(metavar="POLICY", help=f"While an earlier run has not ended: {_POLICIES}. Default: skip."),
    ] = None
    catch_up: Annotated[
        str | None,
        typer.Option("--catch-up", metavar="SPAN", help="How old a due time may be after downtime. Default: 1d."),
    ] = None
    jitter: Annotated[str | None, typer.Option(metavar="SPAN", help="Start runs up to this long after.")] = None
    label: Annotated[
        list[str] | None, typer.Option(metavar="KEY=VALUE", help="A label of the schedule and its runs.")
    ] = None
    start: Annotated[
        str | None, typer.Option(metavar="TIME", help="No due time before this: an ISO time, or 2h (from now).")
    ] = None
    end: Annotated[str | None, typer.Option(metavar="TIME", help="No due time from this one on: likewise.")] = None
    timeout: Annotated[
        str | None, typer.Option(metavar="SPAN", help="How long a run may take. Default: as the workflow says.")
    ] = None
    description: Annotated[str | None, typer.Option(metavar="TEXT", help="What it is for, for people.")] = None

    def spec(self, workflow: str, inputs: list[str]) -> ScheduleSpec:
        """Return what a new schedule does. typer.BadParameter unless it is said when it is due."""
        when = self._when(None)
        if when is None:
            raise typer.BadParameter("say when it is due: --cron, --every or --at")
        return self._changed(ScheduleSpec(workflow, when), inputs)

    def update(self, spec: ScheduleSpec, inputs: list[str]) -> ScheduleSpec:
        """Return what a schedule does with what was given. typer.BadParameter for an option that is wrong."""
        return self._changed(replace(spec, when=self._when(spec.when) or spec.when), inputs)

    def _when(self, before: When | None) -> When | None:
        if sum(each is not None for each in (self.cron, self.every, self.at)) > 1:
            raise typer.BadParameter("give one of --cron, --every and --at")
        if self.cron is not None or (self.tz is not None and isinstance(before, Cron)):
            old = before if isinstance(before, Cron) else Cron("")
            return Cron(self.cron or old.expression, self.tz or old.tz)
        if self.tz is not None:
            raise typer.BadParameter("is only for cron expressions", param_hint="--tz")
        if self.every is not None:
            return Every(timedelta(seconds=seconds(self.every)), None if self.anchor is None else moment(self.anchor))
        if self.anchor is not None:
            raise typer.BadParameter("is only for --every", param_hint="--anchor")
        return None if self.at is None else At(_ahead(self.at))

    def _changed(self, spec: ScheduleSpec, inputs: list[str]) -> ScheduleSpec:
        changes: dict[str, Any] = {}
        if (given := fields(inputs, self.document)) is not None:
            changes["input"] = given
        if self.overlap is not None:
            policy = self.overlap.replace("-", "_")
            if policy not in list(Overlap):
                raise typer.BadParameter(f"{self.overlap!r} is not one of {_POLICIES}", param_hint="--overlap")
            changes["overlap"] = Overlap(policy)
        for name, span in (("catch_up_window", self.catch_up), ("jitter", self.jitter), ("run_timeout", self.timeout)):
            if span is not None:
                changes[name] = timedelta(seconds=seconds(span))
        for name, time in (("start_time", self.start), ("end_time", self.end)):
            if time is not None:
                changes[name] = _ahead(time)
        if self.label is not None:
            changes["labels"] = labels(self.label)
        if self.description is not None:
            changes["description"] = self.description
        return replace(spec, **changes)


def _ahead(text: str) -> datetime:
    """Return a time that is given in ISO 8601, or as a time span from now."""
    now = datetime.now(UTC)
    try:
        span = timedelta(seconds=seconds(text))
    except typer.BadParameter:
        return moment(text, "a time span from now")
    try:
        return now + span
    except OverflowError:
        raise typer.BadParameter(f"{text!r} from now is after the year 9999") from None
