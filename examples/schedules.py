"""A report that is written each working day, and a poll every five minutes: schedules in the code of workflows.

stepwire serve examples/schedules.py
stepwire schedule list
stepwire schedule trigger Report
"""

from __future__ import annotations

from datetime import timedelta

from stepwire.workflow import Cron, Every, StartEvent, StopEvent, Workflow, step


class Report(Workflow):
    """Write a report of a `kind`."""

    schedule = Cron("0 7 * * 1-5", tz="Europe/Oslo", input={"kind": "daily"}, overlap="queue_one")

    @step
    async def write(self, ev: StartEvent) -> StopEvent:
        """Return the report."""
        return StopEvent(result=f"the {ev.get('kind', 'empty')} report")


class Poll(Workflow):
    """Look whether there is something new."""

    schedule = Every(timedelta(minutes=5), jitter=timedelta(seconds=30))

    @step
    async def look(self, ev: StartEvent) -> StopEvent:
        """Find nothing."""
        return StopEvent(result=[])
