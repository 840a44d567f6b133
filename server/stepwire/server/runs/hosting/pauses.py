"""Paused workflows: which are, since when, and for how long they were before.

Nothing new starts in a run of a paused workflow, and its timeout stands still. A run that is not in memory meanwhile
has its clock set when it is loaded, by the seconds that its workflow was paused since its last commit. So pausing a
workflow costs one write, however many runs it has.
"""

from __future__ import annotations

from stepwire.server.store import RunRecord, RunStore, WorkflowPause
from stepwire.workflow.hosting import Broker, Clock

__all__ = ["PAUSED_SECONDS", "WorkflowPauses"]

PAUSED_SECONDS = "paused_seconds"
"""In the record of a run: for how many seconds its workflow was paused before its last commit."""


class WorkflowPauses:
    """Know the pauses of workflows, by namespace and workflow."""

    def __init__(self, store: RunStore, clock: Clock) -> None:
        self._store = store
        self._clock = clock
        self._pauses: dict[tuple[str, str], WorkflowPause] = {}

    async def open(self) -> None:
        """Read them from the store. Raises StoreError."""
        await self.refresh()

    async def refresh(self) -> list[tuple[str, str]]:
        """Read them again; return the namespaces and workflows of those that changed. Raises StoreError."""
        before = self._pauses
        self._pauses = {(pause.namespace, pause.workflow): pause for pause in await self._store.pauses()}
        return [key for key, pause in self._pauses.items() if before.get(key) != pause]

    def get(self, namespace: str, workflow: str) -> WorkflowPause | None:
        """Return the pause of a workflow that is paused now; None if it is not."""
        pause = self._pauses.get((namespace, workflow))
        return pause if pause is not None and pause.since is not None else None

    def of(self, record: RunRecord) -> WorkflowPause | None:
        """Return the pause of a run's workflow; None if that is not paused."""
        return self.get(record.key.namespace, record.workflow) if self._pauses else None

    def seconds(self, namespace: str, workflow: str, now: float) -> float:
        """Return for how many seconds in all a workflow was paused until now."""
        pause = self._pauses.get((namespace, workflow)) if self._pauses else None
        if pause is None:
            return 0.0
        return pause.total + (0.0 if pause.since is None else max(0.0, now - pause.since))

    def seconds_of(self, record: RunRecord, clock: Clock) -> float:
        """Return for how many seconds in all the workflow of a run was paused until now, by the run's clock."""
        return self.seconds(record.key.namespace, record.workflow, clock.now()) if self._pauses else 0.0

    def catch_up(self, broker: Broker, record: RunRecord) -> None:
        """Set the clock of a run that was loaded: it stood still while its workflow was paused."""
        limit = broker.limit
        passed = self.seconds_of(record, broker.clock) - record.info.get(PAUSED_SECONDS, 0.0)
        if limit.due is not None and passed > 0:
            limit.due += passed
            broker.touch_head()

    def waking(self) -> list[WorkflowPause]:
        """Return the workflows that were resumed and whose runs may not all be at work again."""
        return [pause for pause in self._pauses.values() if pause.waking]

    async def begin(self, namespace: str, workflow: str, by: str, reason: str) -> WorkflowPause:
        """Pause a workflow. One that is paused stays as it is. Raises StoreError."""
        if (present := self.get(namespace, workflow)) is not None:
            return present
        now = self._clock.now()
        total = self.seconds(namespace, workflow, now)
        return await self._keep(WorkflowPause(namespace, workflow, now, by, reason, total, False))

    async def end(self, namespace: str, workflow: str) -> bool:
        """Resume a workflow; return whether it was paused. Raises StoreError."""
        present = self.get(namespace, workflow)
        if present is None:
            return False
        total = self.seconds(namespace, workflow, self._clock.now())
        await self._keep(present._replace(since=None, total=total, waking=True))
        return True

    async def woken(self, pause: WorkflowPause) -> None:
        """Note that all runs of a workflow that was resumed are at work again. Raises StoreError."""
        if self._pauses.get((pause.namespace, pause.workflow)) == pause:
            await self._keep(pause._replace(waking=False))

    async def _keep(self, pause: WorkflowPause) -> WorkflowPause:
        await self._store.save_pause(pause)
        self._pauses[pause.namespace, pause.workflow] = pause
        return pause
