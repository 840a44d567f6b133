"""The internal workflow whose runs are schedules: a run waits for its next due time, and acts on it."""

from __future__ import annotations

from collections.abc import Awaitable
from dataclasses import replace
from typing import Any, ClassVar, Final, Protocol

from pydantic import Field

from stepwire.server.registry import OWN, Served
from stepwire.server.runs.scheduling.schedule import told
from stepwire.server.store import RunKey
from stepwire.workflow.hosting import (
    Context,
    Event,
    ExponentialBackoffRetryPolicy,
    StartEvent,
    StopEvent,
    Workflow,
    step,
)

__all__ = ["HIDDEN", "NAME", "Nudge", "Work", "key_of", "served_schedules"]

NAME: Final = f"{OWN}schedule"
"""The name of the workflow. No served workflow can have it: names begin with a letter or a digit."""
HIDDEN: Final = OWN
"""What the namespace of a namespace's schedules begins with. No caller can be in such a namespace."""
_RETRIES: Final = ExponentialBackoffRetryPolicy(initial=1.0, maximum_delay=60.0, maximum_attempts=None)


def key_of(namespace: str, schedule_id: str) -> RunKey:
    """Return the key of the run that is a schedule."""
    return RunKey(HIDDEN + namespace, schedule_id)


class Begin(StartEvent):
    """Begin a schedule; `spec` tells requests apart, what the schedule does is in the state."""

    spec: dict[str, Any] = Field(default_factory=dict)


class Again(Event):
    """Look at the schedule again."""


class Nudge(Event):
    """The schedule was changed."""


class Work(Protocol):
    """What a schedule's run does."""

    def __call__(self, ctx: Context[Any]) -> Awaitable[None]:
        """Act on what is due, or wait until something is."""


class Schedules(Workflow):
    """Schedules."""

    version: ClassVar[str] = "1"

    def __init__(self, work: Work) -> None:
        super().__init__(timeout=None)
        self._work = work

    @step(retry_policy=_RETRIES)
    async def keep(self, ctx: Context[Any], event: Begin | Again) -> Again | StopEvent:
        """Act on what is due; each round is a delivery of its own, so nothing grows."""
        await self._work(ctx)
        return Again()


def served_schedules(work: Work) -> Served:
    """Return the internal workflow, as a pool hosts it."""
    return replace(Served.of(NAME, Schedules(work)), tells=told)
