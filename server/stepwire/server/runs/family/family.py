"""What parents and children are to each other: start, tell, close, and make up for what a crash prevented."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator, Collection, Coroutine, Iterable
from functools import partial
from typing import Any, Final

from stepwire.server.runs.errors import RunsError
from stepwire.server.runs.family.audit_events import ChildAudit
from stepwire.server.runs.family.calls import FamilyCalls, LocalCalls
from stepwire.server.runs.family.child_ends import ChildEnds
from stepwire.server.runs.family.outcomes import outcome_in_memory
from stepwire.server.runs.family.outstanding import Outstanding
from stepwire.server.runs.family.questions import ChildQuestions
from stepwire.server.runs.family.run_children import ChildLimits, RunChildren
from stepwire.server.runs.family.sends import Sends
from stepwire.server.runs.family.start_news import StartNews
from stepwire.server.runs.family.starts import Starts
from stepwire.server.runs.family.streams import child_events
from stepwire.server.runs.hosting.pool import RunPool
from stepwire.server.runs.lifecycle import RunLifecycle
from stepwire.server.runs.requests import Parent
from stepwire.server.store import RunKey, RunRecord, StoreError
from stepwire.server.store.terms import CLOSE, PARENT, TELL
from stepwire.workflow.hosting import Child, ChildOutcome, ChildSend, Event, start_task

__all__ = ["Family"]

logger = logging.getLogger("stepwire.runs")

_AT_ONCE: Final = 64
"""Starts, tellings and cancels of a family that are under way at a time."""


class Family:
    """Keep parents and children in touch, for the runs of one pool.

    The record of a child says that its parent is to be told of its end, until the parent has taken the news in a
    commit. The record of a parent that has ended says that its children are to be cancelled, until they are. Both are
    terms, so a start of the server finds what is left to do, and neither is deleted before.

    Attributes:
        registry: The served workflows.
        limits: How many runs one run may start.
        local: Does what concerns runs of this process.
        audit: Told of what parents do to children.
        questions: Sends answers on to the descendants that ask.
        sends: Sends events to children.
        starts: Starts children.
        ends: Tells and closes.
    """

    def __init__(self, pool: RunPool, lifecycle: RunLifecycle, limits: ChildLimits) -> None:
        self.registry = pool.registry
        self.limits = limits
        self.local = LocalCalls(pool, lifecycle)
        self.audit = ChildAudit()
        self.questions = ChildQuestions(pool, self.local)
        self._pool = pool
        self._start_news = StartNews()
        self._tasks: set[asyncio.Task[None]] = set()
        self._starting: dict[RunKey, set[asyncio.Task[None]]] = {}
        """Starts under way, by parent."""
        slots = asyncio.Semaphore(_AT_ONCE)
        self.ends = ChildEnds(pool, self.local, slots, self._start_news, self.audit, self._starting_of, self._at_once)
        self.starts = Starts(pool, self.local, self.ends, slots, self._start_news, self.audit, self._parent_of)
        self.sends = Sends(pool, self.local)
        self.local.take_end = self.ends.take_end
        self._outstanding = Outstanding(pool, {TELL: self._tell, CLOSE: self.ends.close})
        self.ends.close_now = partial(self._outstanding.attempt, what=CLOSE)
        self._damaged: set[RunKey] = set()
        """Runs whose records were found damaged: their parents were told, or are being told."""
        self._stopped = False
        pool.store.damage.listener = self.damaged
        pool.family = self

    def reach(self, calls: FamilyCalls) -> None:
        """Reach runs of other replicas, too, from now on."""
        self.questions.calls = self.ends.calls = self.ends.abandoned.calls = calls
        self.starts.calls = self.sends.calls = calls

    @property
    def busy(self) -> bool:
        """Whether a start, a telling or a cancel is under way."""
        return bool(self._tasks)

    # -- for one run --------------------------------------------------------------------------------------------------

    def children_of(self, record: RunRecord) -> RunChildren:
        """Return what starts runs for the steps of the run of a record."""
        return RunChildren(self, record)

    def _at_once(self, record: RunRecord) -> int:
        return self.children_of(record).at_once

    def _parent_of(self, record: RunRecord, child: Child, step: str) -> Parent:
        return self.children_of(record).parent(child, step)

    def served_elsewhere(self, workflow: str) -> bool:
        """Tell whether another replica serves a workflow."""
        return self._pool.routes.serves(workflow)

    def carry_out(self, key: RunKey, children: Iterable[Child]) -> None:
        """Start or cancel children of a run, or find out about them."""
        starts: list[Child] = []
        others: list[Child] = []
        for child in children:
            (starts if child.state == "starting" else others).append(child)
        if self._stopped:
            return
        for child in starts:
            task = self._spawn(self.starts.start(key, child))
            self._starting.setdefault(key, set()).add(task)
            task.add_done_callback(lambda done: self._start_over(key, done))
        if others:
            self._spawn(self.starts.look_at(key, others))

    def send(self, key: RunKey, sends: Iterable[tuple[Child, ChildSend]]) -> None:
        """Send events to children of a run."""
        if not self._stopped:
            for child in self.sends.add(key, sends):
                self._spawn(self.sends.send(key, child))

    def _start_over(self, key: RunKey, task: asyncio.Task[None]) -> None:
        starting = self._starting.get(key)
        if starting is not None:
            starting.discard(task)
            if not starting:
                del self._starting[key]

    def _starting_of(self, key: RunKey) -> Collection[asyncio.Task[None]]:
        return self._starting.get(key, ())

    def events(self, key: RunKey, child: Child) -> AsyncIterator[Event]:
        """Give the public events of a child of a run, from its beginning to its end."""
        return child_events(self._pool, key, child, self._start_news)

    # -- ends ---------------------------------------------------------------------------------------------------------

    def ended(self, record: RunRecord) -> None:
        """Note that a run of this process has ended: its parent is told, its children are cancelled."""
        if self._stopped:
            return
        if TELL in record.terms:
            outcome = outcome_in_memory(self._pool, record)  # in a moment the run has left
            self._spawn(self._outstanding.attempt(record, TELL, partial(self._tell, outcome=outcome)))
        if CLOSE in record.terms:
            self._spawn(self._outstanding.attempt(record, CLOSE))

    async def _tell(self, record: RunRecord, outcome: ChildOutcome | None = None) -> int | None:
        return 0 if await self.ends.tell(record, outcome) else None

    def damaged(self, key: RunKey) -> None:
        """Note that the record of a run cannot be read: a parent of it would wait for its end for ever."""
        if not self._stopped and key not in self._damaged:
            self._damaged.add(key)
            self._spawn(self._tell_of_damage(key))

    async def _tell_of_damage(self, key: RunKey) -> None:
        try:
            for parent in await self._pool.store.terms_of(key, PARENT):
                await self.ends.tell_of_damage(RunKey(key.namespace, parent), key.run_id)
        except (StoreError, RunsError) as error:
            self._damaged.discard(key)  # whoever reads it next has it tried again
            logger.warning("run %s: its parent cannot be told that its record is damaged: %s", key.run_id, error)

    async def settle(self, record: RunRecord) -> None:
        """Do what is to be done still about a run that has ended, and that is to be deleted. Raises RunsError."""
        await self.ends.settle(record)

    # -- in the background --------------------------------------------------------------------------------------------

    async def keep(self) -> None:
        """Make up for what a crash prevented, again and again."""
        await self._outstanding.keep()

    def stop(self) -> None:
        """Start, tell and cancel nothing any more: the next start of the server makes up for it."""
        self._stopped = True
        self._outstanding.stop()
        for task in list(self._tasks):
            task.cancel()

    def _spawn(self, work: Coroutine[Any, Any, None]) -> asyncio.Task[None]:
        task = start_task(work, name="stepwire-family")
        self._tasks.add(task)
        task.add_done_callback(self._over)
        return task

    def _over(self, task: asyncio.Task[None]) -> None:
        self._tasks.discard(task)
        if not task.cancelled() and (error := task.exception()) is not None:
            logger.error("a parent or a child could not be told", exc_info=error)
            self._outstanding.again()
