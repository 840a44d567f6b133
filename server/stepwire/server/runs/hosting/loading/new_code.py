"""Find the waiting runs that the served code cannot go on with, before someone answers one of them."""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections import Counter
from collections.abc import Collection, Iterator
from typing import Final

from stepwire.server.registry import Served
from stepwire.server.runs.errors import RunElsewhereError, RunsError
from stepwire.server.runs.fitness import UNFINISHED, unfinished
from stepwire.server.runs.hosting.loading.load_crashes import LoadCrashes
from stepwire.server.runs.hosting.pool import RunPool
from stepwire.server.store import RunRecord, Status, StoreCorruptError, StoredSnapshot, StoreError, code_of, level_of
from stepwire.workflow.hosting import Context, ContextSerdeError, run_of

__all__ = ["Misfits", "blocked_lines"]

logger = logging.getLogger("stepwire.runs")

SETTLE_SECONDS: Final = 20.0
"""How long no living replica must have served some code before its runs are tried: a replica that crashed may start
again, and would go on with them."""
_NAMED: Final = 3
"""Reasons that the log tells of each workflow: the most frequent ones."""

Code = tuple[str, str]
"""A workflow, and what tells its code from any other; see `code_of`."""


class Misfits:
    """Try the unfinished runs that other code wrote and that are not in memory; block those that do not fit.

    What a run that does not fit would do at its next event, it does now: its status is BLOCKED, and lists, health
    details and metrics show it. Runs that fit are neither claimed nor written. While another replica serves the code
    that wrote a run, the run is that one's: it is tried again when no such replica is left.

    After a crash over the loading of a run nothing is tried: many runs that do the same would each crash the process.
    """

    def __init__(self, pool: RunPool) -> None:
        """Try nothing yet."""
        self._pool = pool
        self._changed = asyncio.Event()

    async def keep(self) -> None:
        """Try the runs now, and those of code that other replicas serve when none of them does so any more."""
        pool = self._pool
        if pool.notes.last.loading is not None:
            logger.warning("waiting runs of other code are not tried: loading a run crashed the last process")
            return
        time = asyncio.get_running_loop().time
        pool.cluster.on_change(self._changed.set)
        served, gone = self._served_elsewhere(), dict[Code, float]()
        await self._look(list(pool.registry))
        while pool.cluster.shared:
            self._changed.clear()
            now, serving = time(), self._served_elsewhere()
            gone = {**dict.fromkeys(served - serving, now), **gone}
            gone = {code: at for code, at in gone.items() if code not in serving}
            served = serving
            due = {workflow for (workflow, _), at in gone.items() if now - at >= SETTLE_SECONDS}
            if due and await self._look([each for each in pool.registry if each.name in due]):
                gone = {code: at for code, at in gone.items() if code[0] not in due or now - at < SETTLE_SECONDS}
            elif due:
                gone = dict.fromkeys(gone, now)  # the store cannot be read now
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout_at(min(gone.values()) + SETTLE_SECONDS if gone else None):
                    await self._changed.wait()

    def _served_elsewhere(self) -> set[Code]:
        """Return the code of the served workflows that other replicas have and this one has not."""
        registry = self._pool.registry
        return {
            (workflow, code)
            for peer in self._pool.cluster.peers
            for workflow, code in peer.versions.items()
            if (served := registry.get(workflow)) is not None and served.told != code
        }

    async def _look(self, workflows: Collection[Served]) -> bool:
        """Try the runs of workflows, and log what came of it. Return False if the store cannot be read."""
        pool, tried, whole = self._pool, 0, True
        left: Counter[tuple[str, str]] = Counter()
        for served in workflows:
            waiting = [each for each in UNFINISHED if each != Status.BLOCKED]
            try:
                async for record in unfinished(pool.store, served, waiting):
                    if pool.draining:
                        return True
                    if code_of(record.info) != served.told:
                        tried += 1
                        if reason := await self._try(served, record):
                            left[served.name, reason] += 1
            except StoreError as error:
                logger.log(level_of(error), "cannot look for runs of %s that do not fit: %s", served.name, error)
                whole = False
        try:
            await self._report(workflows, tried, left)
        except StoreError as error:
            logger.log(level_of(error), "cannot count the blocked runs: %s", error)
        return whole

    async def _try(self, served: Served, record: RunRecord) -> str:
        """Block a run if it does not fit. Return why it does not if it is left to a replica that serves its code."""
        pool = self._pool
        if pool.in_memory(record.key) is not None:
            return ""
        try:
            if LoadCrashes.of(record).guilty(served, pool.clock.now()):
                raise StoreCorruptError("trying it would crash this process, too")
            stored = await pool.store.load(record.key)
            if stored is None or pool.in_memory(record.key) is not None:
                return ""
            reason = await self._misfit(served, record, stored)
        except StoreCorruptError as error:
            reason = str(error)
        await asyncio.sleep(0)  # callers get their turn between
        if not reason or (served.name, code_of(record.info)) in self._served_elsewhere():
            return reason
        try:
            await pool.loads.load(record.key)  # it has the one path to BLOCKED
        except RunElsewhereError:
            return reason
        except RunsError:
            pass  # blocked, or gone meanwhile
        return ""

    async def _misfit(self, served: Served, record: RunRecord, stored: StoredSnapshot) -> str:
        """Do what `fitness.misfit` does, a large run in slices. StoreCorruptError if the snapshot is damaged."""
        pool = self._pool
        parts, version = await pool.restorer.fold(stored), record.info.get("version", "")
        broker = run_of(Context(served.workflow)).broker
        try:
            await pool.restorer.fill(record.key, served, broker, parts, stored.at, version, fork=True)
        except ContextSerdeError as error:
            return str(error)
        except Exception as error:  # noqa: BLE001 - validators and `__init__` of the author's types may raise anything
            return f"reading it raises {type(error).__name__}"
        return ""

    async def _report(self, workflows: Collection[Served], tried: int, left: Counter[tuple[str, str]]) -> None:
        """Log how many runs do not fit, and why."""
        blocked = False
        for served in workflows:
            reasons: Counter[str] = Counter()
            async for record in unfinished(self._pool.store, served, [Status.BLOCKED]):
                reasons[str(record.info.get("blocked_reason", ""))] += 1
            for reason, count in reasons.most_common(_NAMED):
                blocked = True
                logger.warning("%s of %s %s blocked: %s", _runs(count), served.name, _are(count), reason)
        for (workflow, reason), count in left.most_common(_NAMED):
            logger.warning(
                "%s of %s of other code would not go on here: %s. Replicas that serve that code go on with them; %g"
                " seconds after the last one has ended, this one blocks what does not fit",
                *(_runs(count), workflow, reason, SETTLE_SECONDS),
            )
        if tried and not blocked and not left:
            logger.info("%d waiting run%s of other code: all would go on", tried, "" if tried == 1 else "s")


def _runs(count: int) -> str:
    return f"{count} run{'' if count == 1 else 's'}"


def _are(count: int) -> str:
    return "is" if count == 1 else "are"


def blocked_lines(pool: RunPool) -> Iterator[str]:
    """Yield how many runs of each workflow are blocked, as lines for health details. From any thread."""
    for workflow, metrics in sorted(pool.metrics.workflows.items()):
        if (count := metrics.unfinished[Status.BLOCKED]) > 0:
            yield f"blocked: {_runs(count)} of {workflow}"
