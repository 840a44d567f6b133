"""Slots of workflows that limit their concurrent runs over all replicas: the store gives them, first in, first out."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable
from contextvars import Context

from stepwire.server.registry import Registry
from stepwire.server.runs.hosting.commits.record import WAS_QUEUED
from stepwire.server.runs.hosting.live_run import LiveRun
from stepwire.server.runs.hosting.slots.concurrency import has_slot_above
from stepwire.server.store import Cluster, RunKey, RunStore, Status, StoreError, level_of
from stepwire.workflow.hosting import start_task

__all__ = ["SharedSlots"]

logger = logging.getLogger("stepwire.runs")

_AGAIN_SECONDS = 1.0
"""How often the store is asked while runs are queued here: what freed a place may have died before it said so."""


class SharedSlots:
    """Let the runs of this replica go when the store gives them a place; what `RunSlots` is for one process."""

    def __init__(self, start: Callable[[LiveRun], None], cluster: Cluster) -> None:
        """Call `start` with each run that may go."""
        self._start = start
        self._cluster = cluster
        self._limits: dict[str, int] = {}
        self._queued: dict[str, dict[RunKey, LiveRun]] = {}
        self._looking: dict[str, asyncio.Task[None]] = {}
        self._again: set[str] = set()

    async def open(self, store: RunStore, registry: Registry) -> None:
        """Note the limits, and give places to runs that went on before there were limits."""
        for served in registry:
            if served.concurrent_runs is not None:
                self._limits[served.name] = served.concurrent_runs
                await self._cluster.adopt_places(served.name)

    def admit(self, run: LiveRun) -> None:
        """Let a run go, or queue it."""
        if run.served.concurrent_runs is None or run.broker.outcome is not None or has_slot_above(run.record):
            self._start(run)
            return
        status, info = run.record.status, run.record.info
        if run.commits.created and (
            status in (Status.RUNNING, Status.WAITING) or (status == Status.PAUSED and WAS_QUEUED not in info)
        ):
            self._start(run)  # it has a place since it went for the first time
            return
        run.queued = True
        workflow = run.served.name
        self._queued.setdefault(workflow, {})[run.key] = run
        # The store looks at what is committed.
        run.commits.after_commit(lambda: self._look(workflow))

    def free(self, key: RunKey, workflow: str | None = None) -> None:
        """Let the next runs go: a run has ended, is blocked, or was deleted."""
        for name in self._limits if workflow is None else [workflow]:
            if name in self._limits:
                self._queued.get(name, {}).pop(key, None)
                self._look(name)

    def unload(self, run: LiveRun) -> None:
        """Note that a queued run left memory though it has not ended: it keeps its place in the store's queue."""
        queued = self._queued.get(run.served.name, {})
        if queued.get(run.key) is run:
            del queued[run.key]

    def look(self, key: RunKey | None = None) -> None:
        """Look whether queued runs have a place now; None: any of them."""
        for workflow, queued in self._queued.items():
            if queued and (key is None or key in queued):
                self._look(workflow)

    def _look(self, workflow: str) -> None:
        if workflow in self._looking:
            self._again.add(workflow)
            return
        task = self._looking[workflow] = start_task(
            self._keep_looking(workflow), name="stepwire-places", context=Context()
        )
        task.add_done_callback(lambda _: self._looked(workflow))

    def _looked(self, workflow: str) -> None:
        del self._looking[workflow]
        if workflow in self._again:
            self._again.discard(workflow)
            self._look(workflow)
        elif self._queued.get(workflow):
            asyncio.get_running_loop().call_later(_AGAIN_SECONDS, self._look, workflow)

    async def _keep_looking(self, workflow: str) -> None:
        queued = self._queued.setdefault(workflow, {})
        try:
            placed = await self._cluster.take_places(workflow, self._limits[workflow], list(queued))
        except StoreError as error:
            logger.log(level_of(error), "cannot ask for places of workflow %s: %s", workflow, error)
            return
        for key in placed:
            run = queued.pop(key, None)
            if run is not None and not run.gone and run.broker.outcome is None and not run.broker.frozen:
                self._start(run)
                run.commits.changed()
