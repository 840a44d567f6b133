"""Slots of workflows that limit their concurrent runs: which runs hold one, and which are queued for one."""

from __future__ import annotations

import heapq
from collections.abc import Callable

from stepwire.server.registry import Registry, Served
from stepwire.server.runs.hosting.commits.record import WAS_QUEUED
from stepwire.server.runs.hosting.live_run import LiveRun
from stepwire.server.store import RunKey, RunQuery, RunRecord, RunStore, Status
from stepwire.workflow.hosting import CANCEL

__all__ = ["RunSlots", "has_slot_above"]

_PAGE = 1000
"""Records that one look into the store reads."""


def has_slot_above(record: RunRecord) -> bool:
    """Tell whether a run above this one, of the same workflow, has a slot and may wait for it: it needs none then."""
    parent = record.info.get("parent")
    return parent is not None and parent["close"] == CANCEL and record.workflow in parent["chain"]


class RunSlots:
    """Give the slots of each workflow with `num_concurrent_runs` to its runs, first in, first out.

    A run keeps its slot until it has ended or is blocked, also while it is not in memory. The order is that of
    creation, over restarts too: a queued run that is not loaded yet holds its place, so no younger run gets its slot.
    """

    def __init__(self, start: Callable[[LiveRun], None]) -> None:
        """Call `start` with each run that may go."""
        self._start = start
        self._workflows: dict[str, _Slots] = {}

    async def open(self, store: RunStore, registry: Registry) -> None:
        """Find out which runs hold a slot already, and which are queued."""
        for served in registry:
            if served.concurrent_runs is None:
                continue
            slots = self._of(served, served.concurrent_runs)
            for namespace in await store.namespaces():
                statuses = (Status.RUNNING, Status.WAITING, Status.QUEUED, Status.PAUSED)
                query = RunQuery(namespace=namespace, workflow=served.name, statuses=statuses, limit=_PAGE)
                while records := await store.list(query):
                    for record in records:
                        if has_slot_above(record):
                            continue
                        if record.status == Status.QUEUED or WAS_QUEUED in record.info:
                            slots.queue(record)
                        else:
                            slots.holders.add(record.key)
                    query.before = (records[-1].created_at, records[-1].key.run_id)
            slots.fill()

    def admit(self, run: LiveRun) -> None:
        """Let a run go, or queue it."""
        limit = run.served.concurrent_runs
        if limit is None or run.broker.outcome is not None or has_slot_above(run.record):
            self._start(run)
            return
        slots = self._of(run.served, limit)
        if run.key in slots.holders:
            self._start(run)
            return
        run.queued = True
        run.took_slot = slots.queue(run.record, run)
        slots.fill()
        if run.queued:
            run.commits.changed()

    def free(self, key: RunKey, workflow: str | None = None) -> None:
        """Free the slot of a run, or its place in the queue, and let the next runs go. None: of any workflow."""
        for name in list(self._workflows) if workflow is None else [workflow]:
            if (slots := self._workflows.get(name)) is not None:
                slots.holders.discard(key)
                slots.queued.pop(key, None)
                slots.fill()

    def unload(self, run: LiveRun) -> None:
        """Note that a queued run left memory though it has not ended: it keeps its place."""
        if (slots := self._workflows.get(run.served.name)) is not None and slots.queued.get(run.key) is run:
            slots.queued[run.key] = None

    def _of(self, served: Served, limit: int) -> _Slots:
        slots = self._workflows.get(served.name)
        if slots is None:
            slots = self._workflows[served.name] = _Slots(limit, self._start)
        return slots


class _Slots:
    """The slots of one workflow."""

    def __init__(self, limit: int, start: Callable[[LiveRun], None]) -> None:
        self.limit = limit
        self._start = start
        self.holders: set[RunKey] = set()
        self.queued: dict[RunKey, LiveRun | None] = {}
        """The runs without a slot; None for those that are not in memory."""
        self._order: list[tuple[float, RunKey]] = []
        """A heap of the queued runs by creation. Those that left the queue stay in it until they come first."""

    def queue(self, record: RunRecord, run: LiveRun | None = None) -> bool:
        """Queue a run at its place; return whether it was not queued yet."""
        new = record.key not in self.queued
        if new:
            heapq.heappush(self._order, (record.created_at, record.key))
        self.queued[record.key] = run
        return new

    def fill(self) -> None:
        """Give free slots to the runs that are next. One that is not in memory goes when it is loaded."""
        while self._order and len(self.holders) < self.limit:
            _, key = heapq.heappop(self._order)
            if key not in self.queued:
                continue
            run = self.queued.pop(key)
            if run is None:
                self.holders.add(key)
            elif not run.gone and run.broker.outcome is None:
                self.holders.add(key)
                self._start(run)
                run.commits.changed()
