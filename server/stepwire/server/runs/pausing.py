"""Pause and resume runs and workflows for callers."""

from __future__ import annotations

from stepwire.server.principal import Principal
from stepwire.server.runs.errors import RunFinishedError, WorkflowNotFoundError, as_runs_error
from stepwire.server.runs.hosting.commits.record import RunPause
from stepwire.server.runs.hosting.keeper import PoolKeeper
from stepwire.server.runs.hosting.pool import RunPool
from stepwire.server.runs.limits import MAX_REASON, check_length, refuse
from stepwire.server.store import RunRecord, StoreError, WorkflowPause

__all__ = ["RunPauses"]


class RunPauses:
    """Pause and resume: nothing new starts, what runs finishes, input is still taken. Raises `RunsError`s."""

    def __init__(self, pool: RunPool, keeper: PoolKeeper) -> None:
        self._pool = pool
        self._keeper = keeper

    async def pause(self, caller: Principal, run_id: str, reason: str) -> RunRecord:
        """Pause a run, and return its record once that is durable. A run that is paused stays as it is.

        Raises:
            RunFinishedError: It has ended.
            RunsError: As `RunPool.reach`.
        """
        refuse(check_length("reason", reason, MAX_REASON))
        run = await self._pool.live(caller, run_id)
        if run.pause is None:
            run.set_pause(RunPause(self._pool.clock.now(), caller.name, reason))
        await run.commits.wait()
        if run.broker.outcome is not None:
            raise RunFinishedError("The run has ended", run_id=run_id)
        return run.record

    async def resume(self, caller: Principal, run_id: str) -> RunRecord:
        """Resume a run, and return its record once that is durable. A run that is not paused stays as it is.

        Raises:
            RunFinishedError: It has ended.
            RunsError: As `RunPool.reach`.
        """
        run = await self._pool.live(caller, run_id)
        run.set_pause(None)
        await run.commits.wait()
        return run.record

    async def pause_workflow(self, caller: Principal, workflow: str, reason: str) -> WorkflowPause:
        """Pause a workflow in the caller's namespace. One that is paused stays as it is.

        Raises:
            WorkflowNotFoundError: The caller sees no such workflow.
        """
        refuse(check_length("reason", reason, MAX_REASON))
        self._check_seen(caller, workflow)
        try:
            pause = await self._pool.pauses.begin(caller.namespace, workflow, caller.name, reason)
        except StoreError as error:
            raise as_runs_error(error) from error
        self._pool.hold(caller.namespace, workflow)
        return pause

    async def resume_workflow(self, caller: Principal, workflow: str) -> None:
        """Resume a workflow in the caller's namespace. Raises WorkflowNotFoundError."""
        self._check_seen(caller, workflow)
        try:
            await self._pool.pauses.end(caller.namespace, workflow)
        except StoreError as error:
            raise as_runs_error(error) from error
        self._pool.hold(caller.namespace, workflow)
        self._keeper.wake_resumed()

    def _check_seen(self, caller: Principal, workflow: str) -> None:
        if self._pool.registry.get(workflow) is None or not caller.scopes.sees(workflow):
            raise WorkflowNotFoundError(workflow, known=filter(caller.scopes.sees, self._pool.registry.names()))
