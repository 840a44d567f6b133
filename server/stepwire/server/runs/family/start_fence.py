"""Keep a child from being started late: its parent has ended, and another replica may be starting it still."""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

from stepwire.server.runs.hosting.commits.delta import encode_delta
from stepwire.server.runs.hosting.pool import RunPool
from stepwire.server.runs.log.chunks import chunks_of
from stepwire.server.runs.requests import Parent
from stepwire.server.store import Commit, RunExistsError, RunKey, RunRecord, Status
from stepwire.server.store.terms import PARENT, STARTED_BY, term
from stepwire.workflow.hosting import (
    CANCEL,
    FailureReport,
    HostedRun,
    StartEvent,
    StopEvent,
    TypeRegistry,
    Workflow,
    WorkflowCancelledEvent,
    plan_of,
    step,
)

__all__ = ["fence"]


class _Unbegun(Workflow):
    """Stands for the workflow of a run that ends before it begins: this process may not serve it."""

    @step
    async def begin(self, ev: StartEvent) -> StopEvent:
        """Never run."""
        return StopEvent()


class _Host:
    """The host of a run that ends at once: there is nothing to drive."""

    def changed(self) -> None:
        """Do nothing: the one commit is made by hand."""

    def after_commit(self, callback: Callable[[], None]) -> None:
        """Do nothing: nothing follows."""

    def report(
        self, step: str | None, error: BaseException, *, attempt: int = 0, next_at: float | None = None
    ) -> FailureReport:
        """Report nothing: no step runs."""
        return FailureReport("", "", "")

    def executed(self, step: str, outcome: str, seconds: float) -> None:
        """Do nothing: no step runs."""


_WORKFLOW: Final = _Unbegun()
_NAMES: Final = TypeRegistry.of(_Unbegun, plan_of(_WORKFLOW).steps)


async def fence(pool: RunPool, parent: RunRecord, run_id: str, workflow: str) -> bool:
    """Create a child as a run that was cancelled before it began, unless it is there.

    A start of the child that comes later finds it, and starts nothing. One that came before is found by whoever looks
    for the children of the parent from now on.

    Args:
        pool: The runs.
        parent: The record of the parent, which has ended.
        run_id: The id of the child.
        workflow: Its workflow.

    Returns:
        Whether it was not there.

    Raises:
        StoreError: The store does not say.
    """
    at = pool.clock.now()
    event = WorkflowCancelledEvent(reason=f"its parent {parent.key.run_id} has ended")
    hosted = HostedRun(_WORKFLOW, _NAMES, _Host(), run_id=run_id, clock=pool.clock)
    hosted.make_durable()
    hosted.broker.end("cancelled", event)
    changes = hosted.take_changes(everything=True)
    hosted.leave()
    above = parent.info.get("parent")
    of = Parent(parent.key.run_id, "", 0, CANCEL, (*(above["chain"] if above else ()), parent.workflow))
    principal = str(parent.info.get("principal", ""))
    outcome = {"status": Status.CANCELLED, "event_type": type(event).__name__, "reason": event.reason}
    record = RunRecord(
        key=RunKey(parent.key.namespace, run_id),
        workflow=workflow,
        status=Status.CANCELLED,
        created_at=at,
        updated_at=at,
        ended_at=at,
        last_sequence=hosted.broker.sequence,
        info={"version": "", "principal": principal, "parent": of.saved(), "outcome": outcome},
        terms=tuple(sorted({term(PARENT, parent.key.run_id), *([term(STARTED_BY, principal)] if principal else [])})),
    )
    commit = Commit(record, None, encode_delta(changes.parts), True, chunks_of(changes.entries, pool.codec))
    try:
        await pool.store.commit(commit)
    except RunExistsError:
        return False
    return True
