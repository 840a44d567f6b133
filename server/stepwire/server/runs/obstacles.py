"""Why a run cannot go on by itself: it is blocked, or no server serves its workflow."""

from __future__ import annotations

from typing import NamedTuple

from stepwire.server.runs.hosting.commits.record import BLOCKED_REASON
from stepwire.server.runs.hosting.pool import RunPool
from stepwire.server.store import TERMINAL, RunRecord

__all__ = ["Stuck", "obstacle", "unserved"]


class Stuck(NamedTuple):
    """A run that cannot go on by itself.

    Attributes:
        run_id: Its id.
        workflow: Its workflow.
        reason: Why, and what to do about it, for people.
    """

    run_id: str
    workflow: str
    reason: str


def obstacle(pool: RunPool, record: RunRecord) -> str:
    """Return why a run cannot go on by itself; empty if it can, or has ended."""
    if record.status in TERMINAL:
        return ""
    return str(record.info.get(BLOCKED_REASON, "")) or unserved(pool, record.workflow)


def unserved(pool: RunPool, workflow: str) -> str:
    """Return what to say of a workflow that neither this server nor a living replica serves; empty if one does."""
    if pool.served(workflow) is not None or pool.routes.serves(workflow):
        return ""
    return f"no server serves the workflow {workflow}: serve it, or cancel the run"
