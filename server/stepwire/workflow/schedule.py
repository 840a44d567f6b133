"""When a service starts runs of a workflow by itself: what authors write into its class.

::

    class Report(Workflow):
        schedule = Cron("0 7 * * 1-5", tz="Europe/Oslo", input={"kind": "daily"})

A service applies it when it begins to serve the workflow; without a service it does nothing.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Any, Literal, TypeAlias

from stepwire.workflow.errors import WorkflowConfigurationError

__all__ = ["At", "Cron", "Declared", "Every", "Schedule", "declared_schedules"]

Policy: TypeAlias = Literal["skip", "queue_one", "queue_all", "cancel_running", "start_anyway"]


@dataclass(frozen=True, kw_only=True)
class Schedule:
    """What the schedules of all kinds may say.

    Attributes:
        name: Tells the schedules of one workflow apart; a workflow with one needs none.
        input: The fields of the start event of the runs.
        overlap: What a due time does while an earlier run has not ended.
        catch_up_window: Due times that passed while no service ran are made up for if they passed this short ago.
        jitter: Runs start up to this long after their due times.
        labels: The labels of the runs.
        start_time: No due time is before this one.
        end_time: No due time is at or after this one.
        run_timeout: How long a run may take; None for the workflow's own timeout.
        description: What it is for, for people.
    """

    name: str = ""
    input: Mapping[str, Any] | None = None
    overlap: Policy = "skip"
    catch_up_window: timedelta = timedelta(days=1)
    jitter: timedelta = timedelta(0)
    labels: Mapping[str, str] = field(default_factory=dict)
    start_time: datetime | None = None
    end_time: datetime | None = None
    run_timeout: timedelta | None = None
    description: str = ""


@dataclass(frozen=True)
class Cron(Schedule):
    """Due by a cron expression.

    Attributes:
        expression: Five fields (minute, hour, day of the month, month, day of the week), or a name such as "@daily".
        tz: The IANA time zone that it is of, as in "Europe/Oslo".
    """

    expression: str
    tz: str = "UTC"


@dataclass(frozen=True)
class Every(Schedule):
    """Due every so often.

    Attributes:
        interval: The time from one due time to the next, at least a second.
        anchor: A due time, from which the others are counted; None for midnight UTC of 1 January 1970.
    """

    interval: timedelta
    anchor: datetime | None = None


@dataclass(frozen=True)
class At(Schedule):
    """Due once.

    Attributes:
        time: When, with a time zone.
    """

    time: datetime


Declared: TypeAlias = Schedule | Sequence[Schedule] | Mapping[str, Schedule] | None
"""What `Workflow.schedule` may be: one, several with a `name` each, or several by their names."""


def declared_schedules(owner: str, declared: object) -> dict[str, Schedule]:
    """Return the schedules that a workflow declares, by name; the name of a single one may be empty.

    Args:
        owner: The name of the workflow's class, for the error.
        declared: Its attribute `schedule`. A step may have that name, too: it declares nothing.

    Raises:
        WorkflowConfigurationError: It is none of what `Declared` says, or two have one name.
    """
    if declared is None or callable(declared):
        return {}
    if isinstance(declared, Schedule):
        return {declared.name: declared}
    named: list[tuple[str, object]]
    if isinstance(declared, Mapping):
        named = [(str(name), each) for name, each in declared.items()]
    elif isinstance(declared, Sequence) and not isinstance(declared, str | bytes):
        named = [(getattr(each, "name", ""), each) for each in declared]
    else:
        raise WorkflowConfigurationError(f"{owner}.schedule must be a Cron, an Every or an At, or several of them")
    found: dict[str, Schedule] = {}
    for name, each in named:
        if not isinstance(each, Schedule):
            raise WorkflowConfigurationError(f"{owner}.schedule holds something that is no Cron, Every or At")
        if not name:
            raise WorkflowConfigurationError(f"{owner}.schedule has several schedules: give each a name")
        if name in found:
            raise WorkflowConfigurationError(f"{owner}.schedule has two schedules that are named {name!r}")
        found[name] = each
    return found
