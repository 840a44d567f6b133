"""Slots of workflows that limit their concurrent runs: which runs hold one, and which are queued for one."""

from __future__ import annotations

from collections import deque

from stepwire.server.registry import Registry, Served
from stepwire.server.runs.hosting.live_run import LiveRun
from stepwire.server.store import RunKey, RunQuery, RunStore, Status

_PAGE = 1000
"""Records that one look into the store reads."""


class RunSlots:
    """Give the slots of each workflow with `num_concurrent_runs` to its runs, the oldest first.

    A run keeps its slot until it has ended or is blocked, also while it is not in memory.
    """

    def __init__(self) -> None:
        self._holders: dict[str, set[RunKey]] = {}
        self._queued: dict[str, deque[LiveRun]] = {}

    async def open(self, store: RunStore, registry: Registry) -> None:
        """Find out which runs hold a slot already."""
        for served in registry:
            if served.concurrent_runs is None:
                continue
            holders = self._holders.setdefault(served.name, set())
            for namespace in await store.namespaces():
                statuses = (Status.RUNNING, Status.WAITING)
                query = RunQuery(namespace=namespace, workflow=served.name, statuses=statuses, limit=_PAGE)
                while records := await store.list(query):
                    holders.update(record.key for record in records)
                    query.before = (records[-1].created_at, records[-1].key.run_id)

    def admit(self, run: LiveRun) -> None:
        """Let a run go, or queue it."""
        limit = run.served.concurrent_runs
        if limit is not None and run.broker.outcome is None:
            name = run.served.name
            holders = self._holders.setdefault(name, set())
            if run.key not in holders and len(holders) >= limit:
                run.paused = True
                queue = self._queued.setdefault(name, deque())
                queue.append(run)
                if len(queue) > 1 and queue[-2].record.created_at > run.record.created_at:
                    # After a restart the loads finish in any order; the oldest run goes first all the same.
                    self._queued[name] = deque(sorted(queue, key=lambda each: each.record.created_at))
                run.changed()
                return
            run.took_slot = run.key not in holders
            holders.add(run.key)
        run.go()

    def free(self, served: Served, key: RunKey) -> None:
        """Free the slot of a run, if it holds one, and let the next runs go."""
        holders = self._holders.get(served.name)
        limit = served.concurrent_runs
        if holders is None or limit is None:
            return
        holders.discard(key)
        queue = self._queued.get(served.name)
        while queue and len(holders) < limit:
            following = queue.popleft()
            if not following.gone and following.broker.outcome is None:
                holders.add(following.key)
                following.go()
                following.changed()
