"""At the start, find the waiting runs that the served code cannot go on with, before someone answers one of them."""

from __future__ import annotations

import asyncio
import logging
from collections import Counter
from collections.abc import Iterator

from stepwire.server.registry import Served
from stepwire.server.runs.errors import RunsError
from stepwire.server.runs.fitness import UNFINISHED, unfinished
from stepwire.server.runs.hosting.loading.load_crashes import LoadCrashes
from stepwire.server.runs.hosting.pool import RunPool
from stepwire.server.store import RunRecord, Status, StoreCorruptError, StoredSnapshot, StoreError, code_of, level_of
from stepwire.workflow.hosting import Context, run_of

__all__ = ["blocked_lines", "find_misfits"]

logger = logging.getLogger("stepwire.runs")

_NAMED = 3
"""Reasons that the log tells of each workflow: the most frequent ones."""


async def find_misfits(pool: RunPool) -> None:
    """Try the unfinished runs that other code wrote and that are not in memory; block those that do not fit.

    What a run that does not fit would do at its next event, it does now: its status is BLOCKED, and lists, health
    details and metrics show it. Runs that fit are neither claimed nor written.

    After a crash over the loading of a run nothing is tried: many runs that do the same would each crash the process.
    """
    if pool.notes.last.loading is not None:
        logger.warning("waiting runs of other code are not tried: loading a run crashed the last process")
        return
    tried = 0
    for served in pool.registry:
        try:
            async for record in unfinished(pool.store, served, [each for each in UNFINISHED if each != Status.BLOCKED]):
                if pool.draining:
                    return
                if code_of(record.info) != served.told:
                    tried += 1
                    await _try(pool, served, record)
        except StoreError as error:
            logger.log(level_of(error), "cannot look for runs of %s that do not fit: %s", served.name, error)
    await _report(pool, tried)


async def _try(pool: RunPool, served: Served, record: RunRecord) -> None:
    if pool.in_memory(record.key) is not None:
        return
    try:
        if LoadCrashes.of(record).guilty(served, pool.clock.now()):
            raise StoreCorruptError("trying it would crash this process, too")
        stored = await pool.store.load(record.key)
        if stored is None or pool.in_memory(record.key) is not None:
            return
        # Trying a run whose loading crashes the process would crash it again, at each start.
        fits = not LoadCrashes.of(record).guilty(served, pool.clock.now()) and await _fits(pool, served, record, stored)
    except StoreCorruptError:
        fits = False
    if not fits:
        try:
            await pool.loads.load(record.key)  # it has the one path to BLOCKED
        except RunsError:
            return  # blocked, or gone meanwhile
    await asyncio.sleep(0)  # callers get their turn between


async def _fits(pool: RunPool, served: Served, record: RunRecord, stored: StoredSnapshot) -> bool:
    """Do what `fitness.misfit` does, a large run in slices. StoreCorruptError if the snapshot is damaged."""
    parts, version = await pool.restorer.fold(stored), record.info.get("version", "")
    broker = run_of(Context(served.workflow)).broker
    try:
        await pool.restorer.fill(record.key, served, broker, parts, stored.at, version, fork=True)
    except Exception:  # noqa: BLE001 - validators and `__init__` of the author's types may raise anything
        return False
    return True


async def _report(pool: RunPool, tried: int) -> None:
    """Log how many runs are blocked, and why."""
    told = list(blocked_lines(pool))
    if not told:
        if tried:
            logger.info("%d waiting run%s of other code: all would go on", tried, "" if tried == 1 else "s")
        return
    for served in pool.registry:
        reasons: Counter[str] = Counter()
        async for record in unfinished(pool.store, served, [Status.BLOCKED]):
            reasons[str(record.info.get("blocked_reason", ""))] += 1
        for reason, count in reasons.most_common(_NAMED):
            logger.warning(
                "%d run%s of %s %s blocked: %s", count, "" if count == 1 else "s", served.name,
                "is" if count == 1 else "are", reason,
            )  # fmt: skip


def blocked_lines(pool: RunPool) -> Iterator[str]:
    """Yield how many runs of each workflow are blocked, as lines for health details. From any thread."""
    for workflow, metrics in sorted(pool.metrics.workflows.items()):
        if (count := metrics.unfinished[Status.BLOCKED]) > 0:
            yield f"blocked: {count} run{'' if count == 1 else 's'} of {workflow}"
