"""Limits of the runs, and the runs that each principal has unfinished."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

from stepwire.server.principal import Principal
from stepwire.server.runs.errors import LimitError
from stepwire.server.store import TERMINAL, Commit, RunKey, RunQuery, RunRecord, RunStore, Status

_UNFINISHED = (Status.QUEUED, Status.RUNNING, Status.WAITING, Status.BLOCKED)
_PAGE = 10_000


@dataclass(frozen=True, kw_only=True)
class RunLimits:
    """What one run may hold before it takes nothing more from outside."""

    queued_events: int = 10_000
    log_entries: int = 1_000_000
    state_bytes: int = 8 << 20


class RunQuota:
    """Count the unfinished runs of each principal; `limit` 0 counts nothing.

    Listens to the store's commits, so that it counts what is durable; starts under way count too.
    """

    def __init__(self, limit: int) -> None:
        self._limit = limit
        self._runs: defaultdict[tuple[str, str], set[RunKey]] = defaultdict(set)
        self._starting: defaultdict[tuple[str, str], int] = defaultdict(int)

    async def open(self, store: RunStore) -> None:
        """Count the runs that are there, and listen."""
        if not self._limit:
            return
        store.listen(self._committed)
        for namespace in await store.namespaces():
            query = RunQuery(namespace=namespace, statuses=_UNFINISHED, limit=_PAGE)
            while records := await store.list(query):
                for record in records:
                    self._runs[_owner(record)].add(record.key)
                query.before = (records[-1].created_at, records[-1].key.run_id)

    @contextmanager
    def starting(self, caller: Principal) -> Iterator[None]:
        """Hold a place for a run that is being started. LimitError when the caller has no more."""
        if not self._limit:
            yield
            return
        owner = (caller.namespace, caller.name)
        if len(self._runs.get(owner, ())) + self._starting[owner] >= self._limit:
            raise LimitError(f"At most {self._limit} runs of a caller may be unfinished", limit="runs")
        self._starting[owner] += 1
        try:
            yield
        finally:
            self._starting[owner] -= 1
            if not self._starting[owner]:
                del self._starting[owner]

    def _committed(self, commit: Commit) -> None:
        owner = _owner(commit.record)
        if commit.record.status in TERMINAL:
            runs = self._runs.get(owner)
            if runs is not None:
                runs.discard(commit.record.key)
                if not runs:
                    del self._runs[owner]
        elif commit.claim is None:
            self._runs[owner].add(commit.record.key)


def _owner(record: RunRecord) -> tuple[str, str]:
    return record.key.namespace, str(record.info.get("principal", ""))
