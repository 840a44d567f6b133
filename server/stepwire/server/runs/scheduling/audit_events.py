"""Audit events of schedules: what happens to runs and schedules without a call.

Due times act, and the code declares schedules.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

from stepwire.server.principal import Principal
from stepwire.server.runs.errors import RunsError

__all__ = ["ScheduleAudit", "ScheduleAuditEvent"]


class ScheduleAuditEvent(NamedTuple):
    """One thing that was done, or was refused for good.

    Attributes:
        action: What was done, by the words of the audit log.
        caller: The caller on whose account it was done.
        schedule_id: The schedule.
        workflow: Its workflow.
        run_id: The run; empty for what was done to the schedule.
        due: The due time, in seconds since the epoch; None if it was not for one.
        error: Why it was refused; None if it was done.
    """

    action: str
    caller: Principal
    schedule_id: str
    workflow: str
    run_id: str = ""
    due: float | None = None
    error: RunsError | None = None


class ScheduleAudit:
    """Pass what is done on to a listener, which writes the audit log.

    Attributes:
        listener: Called with each; None if nobody listens.
    """

    def __init__(self) -> None:
        self.listener: Callable[[ScheduleAuditEvent], None] | None = None

    def tell(self, event: ScheduleAuditEvent) -> None:
        """Tell of what is done, once it is durable. A crash may have it told again."""
        if self.listener is not None:
            self.listener(event)
