"""Try whether saved runs fit the served code, without loading, claiming or writing any."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Callable, Iterable
from dataclasses import dataclass, field
from typing import Any, Final, NamedTuple

from stepwire.server.registry import OWN, Registry, Served
from stepwire.server.runs.hosting.commits.delta import Parts, fold
from stepwire.server.runs.hosting.loading.load_crashes import LoadCrashes
from stepwire.server.runs.hosting.loading.restoring import restore_parts
from stepwire.server.store import TERMINAL, RunQuery, RunReading, RunRecord, Status, StoreCorruptError
from stepwire.workflow.hosting import CLOCK, Context, ContextSerdeError, run_of

__all__ = ["UNFINISHED", "Findings", "Tried", "examine", "misfit", "tried_in", "unfinished"]

UNFINISHED: Final[tuple[str, ...]] = tuple(
    status for name, status in vars(Status).items() if name.isupper() and status not in TERMINAL
)
"""The statuses of runs that have not ended."""
_PAGE: Final = 500
"""Records that one look into the store reads."""


def misfit(served: Served, parts: Parts, at: float, version: str) -> str:
    """Say why this code cannot go on with a saved run; empty if it can.

    It does what loading the run would do, `migrate` included, with objects that belong to no run.

    Args:
        served: The workflow.
        parts: The parts of the run's snapshot.
        at: When it was committed.
        version: The version of the workflow that wrote it.
    """
    context: Context[Any] = Context(served.workflow)
    try:
        restore_parts(served, run_of(context).broker, parts, at, version)
    except ContextSerdeError as error:
        return str(error)
    except Exception as error:  # noqa: BLE001 - validators and `__init__` of the author's types may raise anything
        return f"reading it raises {type(error).__name__}"
    return ""


class Tried(NamedTuple):
    """A run that was tried: where it is, whether it is blocked now, and why it does not fit; empty if it does."""

    run_id: str
    workflow: str
    namespace: str
    blocked: bool
    reason: str


@dataclass
class Findings:
    """What trying the unfinished runs has shown.

    Attributes:
        total: The unfinished runs of the workflows that were tried, as counted at the beginning.
        tried: How many of them were tried.
        misfits: The runs that do not fit, by workflow and reason.
        freed: Runs that are blocked now and fit.
        unserved: The unfinished runs of other workflows, which were not tried, by workflow.
        complete: Whether all were tried in the time given.
        seconds: The time that it took.
    """

    total: int = 0
    tried: int = 0
    misfits: dict[tuple[str, str], list[Tried]] = field(default_factory=dict)
    freed: int = 0
    unserved: dict[str, int] = field(default_factory=dict)
    complete: bool = True
    seconds: float = 0.0

    @property
    def missed(self) -> bool:
        """Whether no run belongs to the workflows that were named, while others have unfinished runs."""
        return not self.total and bool(self.unserved)

    @property
    def blocked(self) -> int:
        """How many runs do not fit."""
        return sum(map(len, self.misfits.values()))

    def count(self, counts: Iterable[tuple[str, str, int]], registry: Registry) -> None:
        """Take the numbers of runs, given as (workflow, status, number)."""
        for workflow, status, number in counts:
            if status in TERMINAL or workflow.startswith(OWN):
                continue
            if registry.get(workflow) is None:
                self.unserved[workflow] = self.unserved.get(workflow, 0) + number
            else:
                self.total += number

    def add(self, tried: Tried) -> None:
        """Take a run that was tried."""
        self.tried += 1
        if tried.reason:
            self.misfits.setdefault((tried.workflow, tried.reason), []).append(tried)
        elif tried.blocked:
            self.freed += 1


async def examine(
    runs: AsyncIterator[Tried],
    findings: Findings,
    *,
    within: float | None = None,
    progress: Callable[[Findings], object] = lambda found: None,
) -> Findings:
    """Gather the findings about runs.

    Args:
        runs: The runs, tried one by one.
        findings: What is known of them before.
        within: Seconds after which to stop; None for no bound.
        progress: Called after each run.
    """
    began = time.monotonic()
    try:
        async with asyncio.timeout(within):
            async for tried in runs:
                findings.add(tried)
                progress(findings)
                if within is not None and time.monotonic() - began >= within:
                    raise TimeoutError
    except TimeoutError:
        findings.complete = findings.tried >= findings.total
    findings.seconds = time.monotonic() - began
    return findings


async def unfinished(
    store: RunReading, served: Served, statuses: Iterable[str] = UNFINISHED
) -> AsyncIterator[RunRecord]:
    """Yield the unfinished runs of a workflow in all namespaces, newest first in each."""
    for namespace in await store.namespaces():
        query = RunQuery(namespace=namespace, workflow=served.name, statuses=tuple(statuses), limit=_PAGE)
        while records := await store.list(query):
            for record in records:
                yield record
            query.before = (records[-1].created_at, records[-1].key.run_id)


async def tried_in(store: RunReading, registry: Registry) -> AsyncIterator[Tried]:
    """Try every unfinished run of the served workflows that a store has. StoreError."""
    for served in registry:
        async for record in unfinished(store, served):
            blocked = record.status == Status.BLOCKED
            try:
                crashed = LoadCrashes.of(record)
                if crashed.guilty(served, CLOCK.now()):  # trying it would crash this process, too
                    reason = crashed.reason
                    yield Tried(record.key.run_id, record.workflow, record.key.namespace, blocked, reason)
                    continue
                stored = await store.load(record.key)
                if stored is None:
                    continue  # it has been deleted since
                reason = misfit(served, fold(stored), stored.at, record.info.get("version", ""))
            except StoreCorruptError as error:
                reason = str(error)
            yield Tried(record.key.run_id, record.workflow, record.key.namespace, blocked, reason)
