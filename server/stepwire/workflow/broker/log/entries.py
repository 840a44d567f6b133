"""The entries of a run's log, and what a commit writes."""

from __future__ import annotations

from typing import Final, NamedTuple

from stepwire.workflow.broker.deliveries.executions import Attempted

__all__ = [
    "CHILD",
    "EXECUTION",
    "RECEIVED",
    "SENT",
    "STREAM",
    "TERMINAL",
    "Changes",
    "ChildNews",
    "LogEntry",
]

STREAM: Final = 1
"""Written to the stream. Public."""
RECEIVED: Final = 2
"""Sent from outside. Internal."""
SENT: Final = 3
"""Sent or returned by a step. Internal."""
TERMINAL: Final = 4
"""Ends the run and its stream. Public."""
EXECUTION: Final = 5
"""Tells of an attempt at a delivery. Internal; it has no event."""
CHILD: Final = 6
"""Tells of a run that a step has started, or of its end. Internal; it has no event."""


class ChildNews(NamedTuple):
    """An entry of the log about a run that a step has started.

    Attributes:
        run_id: The run.
        workflow: Its workflow.
        status: How it ended, as the statuses of `outcome` say; empty for its start.
        delivery: The delivery whose step has started it.
    """

    run_id: str
    workflow: str
    status: str
    delivery: int


class LogEntry(NamedTuple):
    """One event in the log of a run, or what became of an attempt at a delivery or of a child.

    Attributes:
        sequence: Its number in the log, from 1.
        at: When it was made, in seconds since the epoch.
        kind: STREAM, RECEIVED, SENT, TERMINAL, EXECUTION or CHILD.
        type: The name of the event's class.
        data: The fields of the event as plain JSON, encoded once.
        step: The step that made it, or that an EXECUTION is of; empty for what came from outside.
        delivered: How many deliveries and waiters took the event.
        role: The number of the event's role.
        delivery: The delivery whose step made it; 0 for what came from outside.
        attempted: What an EXECUTION tells.
        child: What a CHILD tells.
    """

    sequence: int
    at: float
    kind: int
    type: str
    data: bytes
    step: str
    delivered: int
    role: int
    delivery: int = 0
    attempted: Attempted | None = None
    child: ChildNews | None = None


class Changes(NamedTuple):
    """What a commit writes: parts of the snapshot that changed or went, and new log entries."""

    parts: dict[str, bytes]
    deleted: list[str]
    entries: list[LogEntry]
