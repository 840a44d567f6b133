"""The places of workflows that limit their concurrent runs: who has one, who is queued for one."""

from __future__ import annotations

from collections import deque

from stepwire.server.registry import Served
from stepwire.server.runs.hosting.live_run import LiveRun
from stepwire.server.store import RunKey, RunQuery, RunStore, Status

_PAGE = 1000


class Places:
    """Give the places of each workflow with `num_concurrent_runs` to its runs, the oldest first.

    A run keeps its place until it has ended or is blocked, also while it is not in memory.
    """

    def __init__(self) -> None:
        self._at_work: dict[str, set[RunKey]] = {}
        self._queued: dict[str, deque[LiveRun]] = {}

    async def open(self, store: RunStore, served: Served) -> None:
        """Take in which runs of a workflow have a place already."""
        if served.workflow._num_concurrent_runs is None:
            return
        at_work = self._at_work.setdefault(served.name, set())
        for namespace in await store.namespaces():
            statuses = (Status.RUNNING, Status.WAITING)
            query = RunQuery(namespace=namespace, workflow=served.name, statuses=statuses, limit=_PAGE)
            while records := await store.list(query):
                at_work.update(record.key for record in records)
                query.before = (records[-1].created_at, records[-1].key.run_id)

    def admit(self, run: LiveRun) -> None:
        """Let a run go, or queue it."""
        limit = run.served.workflow._num_concurrent_runs
        if limit is not None and run.context._broker.outcome is None:
            name = run.served.name
            at_work = self._at_work.setdefault(name, set())
            if run.key not in at_work and len(at_work) >= limit:
                run.paused = True
                queue = self._queued.setdefault(name, deque())
                queue.append(run)
                if len(queue) > 1 and queue[-2].record.created_at > run.record.created_at:
                    # Loaded after a restart, in whatever order the loads were done: the oldest goes first.
                    self._queued[name] = deque(sorted(queue, key=lambda each: each.record.created_at))
                run.changed()
                return
            run.took_place = run.key not in at_work
            at_work.add(run.key)
        run.go()

    def free(self, served: Served, key: RunKey) -> None:
        """Take the place of a run, if it has one; let those go that are next."""
        at_work = self._at_work.get(served.name)
        limit = served.workflow._num_concurrent_runs
        if at_work is None or limit is None:
            return
        at_work.discard(key)
        queue = self._queued.get(served.name)
        while queue and len(at_work) < limit:
            following = queue.popleft()
            if not following.gone and following.context._broker.outcome is None:
                at_work.add(following.key)
                following.go()
                following.changed()
