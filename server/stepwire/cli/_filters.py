"""The options that choose runs, of all commands that take them."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from dataclasses import dataclass, fields, is_dataclass
from datetime import datetime
from functools import wraps
from typing import Annotated, Any, TypedDict

import typer

from stepwire.cli._parsing import labels, moment
from stepwire.client import RunStatus

__all__ = ["STATUSES", "Chosen", "Filters", "takes_options"]

STATUSES = tuple(str(status) for status in RunStatus if status is not RunStatus.UNSPECIFIED)


class Chosen(TypedDict):
    """The filters as the client takes them."""

    workflow: str | None
    statuses: list[str]
    labels: dict[str, str]
    created_after: datetime | None
    created_before: datetime | None
    error_type: str | None
    step: str | None
    waiting_for: str | None
    parent: str | None
    started_by: str | None
    run_id_prefix: str | None
    ended_after: datetime | None
    ended_before: datetime | None
    schedule: str | None


@dataclass(frozen=True)
class Filters:
    """What was given to choose runs by."""

    workflow: Annotated[
        str | None, typer.Option("--workflow", "-w", metavar="NAME", help="Only runs of this workflow.")
    ] = None
    status: Annotated[
        list[str] | None, typer.Option(metavar="STATUS", help=f"Only runs with this status: {', '.join(STATUSES)}.")
    ] = None
    label: Annotated[list[str] | None, typer.Option(metavar="KEY=VALUE", help="Only runs with this label.")] = None
    since: Annotated[
        str | None, typer.Option(metavar="TIME", help="Only runs created after this: 2h (ago), or an ISO time.")
    ] = None
    before: Annotated[str | None, typer.Option(metavar="TIME", help="Only runs created before this.")] = None
    error: Annotated[
        str | None,
        typer.Option(
            metavar="TYPE", help="Only runs that failed or timed out with this class of error, or try again after it."
        ),
    ] = None
    step: Annotated[
        str | None,
        typer.Option(metavar="STEP", help="Only runs that ended badly in this step, wait in it, or try it again."),
    ] = None
    waiting_for: Annotated[
        str | None, typer.Option("--waiting-for", metavar="TYPE", help="Only runs that wait for this event type.")
    ] = None
    parent: Annotated[str | None, typer.Option(metavar="RUN", help="Only runs that this run started.")] = None
    by: Annotated[str | None, typer.Option(metavar="CALLER", help="Only runs that this caller started.")] = None
    prefix: Annotated[str | None, typer.Option("--id", metavar="PREFIX", help="Only runs whose id begins so.")] = None
    ended_since: Annotated[
        str | None, typer.Option("--ended-since", metavar="TIME", help="Only runs that ended after this.")
    ] = None
    ended_before: Annotated[
        str | None, typer.Option("--ended-before", metavar="TIME", help="Only runs that ended before this.")
    ] = None
    schedule: Annotated[str | None, typer.Option(metavar="SCHEDULE", help="Only runs that this schedule started.")] = (
        None
    )

    @property
    def given(self) -> bool:
        """Whether there is any filter."""
        return any(getattr(self, field.name) for field in fields(self))

    def chosen(self) -> Chosen:
        """Return the filters as the client takes them. typer.BadParameter for one that is wrong."""
        for item in self.status or ():
            if item not in STATUSES:
                raise typer.BadParameter(f"{item!r} is not one of {', '.join(STATUSES)}", param_hint="--status")
        return Chosen(
            workflow=self.workflow,
            statuses=self.status or [],
            labels=labels(self.label or ()),
            created_after=_moment(self.since),
            created_before=_moment(self.before),
            error_type=self.error,
            step=self.step,
            waiting_for=self.waiting_for,
            parent=self.parent,
            started_by=self.by,
            run_id_prefix=self.prefix,
            ended_after=_moment(self.ended_since),
            ended_before=_moment(self.ended_before),
            schedule=self.schedule,
        )


def takes_options(command: Callable[..., None]) -> Callable[..., None]:
    """Give a command, in the place of each parameter that is a dataclass of options, those options."""
    groups: dict[str, Any] = {}
    parameters: list[inspect.Parameter] = []
    for parameter in inspect.signature(command, eval_str=True).parameters.values():
        kind: Any = parameter.annotation
        if is_dataclass(kind):
            groups[parameter.name] = inspect.signature(kind, eval_str=True).parameters  # type: ignore[arg-type]
            parameters += groups[parameter.name].values()
        else:
            parameters.append(parameter)
    kinds = {name: inspect.signature(command, eval_str=True).parameters[name].annotation for name in groups}

    @wraps(command)
    def run(**given: Any) -> None:
        made = {group: kinds[group](**{name: given.pop(name) for name in names}) for group, names in groups.items()}
        command(**given, **made)

    keyword = inspect.Parameter.KEYWORD_ONLY
    run.__signature__ = inspect.Signature([each.replace(kind=keyword) for each in parameters])  # type: ignore[attr-defined]
    run.__annotations__ = {each.name: each.annotation for each in parameters}
    return run


def _moment(text: str | None) -> datetime | None:
    return None if text is None else moment(text)
