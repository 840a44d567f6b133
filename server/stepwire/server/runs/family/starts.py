"""Start the children of the runs in memory, and find out about those that were started before."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Sequence
from typing import Final

from stepwire.server.principal import Principal
from stepwire.server.runs.errors import DrainingError, RunIdTakenError, RunsError
from stepwire.server.runs.family.audit_events import ChildAudit, ChildAuditEvent
from stepwire.server.runs.family.backoff import Backoff, is_damage, may_be_served, may_pass
from stepwire.server.runs.family.calls import FamilyCalls
from stepwire.server.runs.family.child_ends import ChildEnds, caller_of, parent_of
from stepwire.server.runs.family.outcomes import DAMAGED, GONE
from stepwire.server.runs.family.start_news import StartNews
from stepwire.server.runs.hosting.live_run import LiveRun
from stepwire.server.runs.hosting.pool import RunPool
from stepwire.server.runs.requests import Parent, StartRequest
from stepwire.server.store import TERMINAL, RunKey, RunRecord, StoreError
from stepwire.workflow.hosting import CANCEL, Child, ChildOutcome

__all__ = ["Starts"]

logger = logging.getLogger("stepwire.runs")

_PAGE: Final = 200


class Starts:
    """Start children, however long that takes.

    Attributes:
        calls: Does what concerns other runs, here or at the replica that has them.
    """

    def __init__(
        self,
        pool: RunPool,
        calls: FamilyCalls,
        ends: ChildEnds,
        slots: asyncio.Semaphore,
        start_news: StartNews,
        audit: ChildAudit,
        parent: Callable[[RunRecord, Child, str], Parent],
    ) -> None:
        """Start children of the runs of a pool.

        Args:
            pool: The runs.
            calls: Starts runs.
            ends: Cancels what is not to live.
            slots: Bounds what is under way at a time.
            start_news: Told of each start.
            audit: Told of each start, and of each that was refused.
            parent: Gives what the record of a child says of its parent, whose record and step are given.
        """
        self._pool = pool
        self.calls = calls
        self._ends = ends
        self._slots = slots
        self._start_news = start_news
        self._audit = audit
        self._parent_of = parent

    def _parent(self, key: RunKey) -> LiveRun | None:
        """Return a run that may have children: one in memory that has not ended."""
        run = self._pool.in_memory(key)
        return None if run is None or run.gone or run.broker.outcome is not None or run.broker.frozen else run

    async def start(self, key: RunKey, child: Child) -> None:
        """Start a child of a run; what prevents it for good is how the child ends."""
        backoff = Backoff(f"its child {child.run_id} cannot be started yet", key.run_id)
        while (run := self._parent(key)) is not None:
            try:
                await self._start_once(key, run, child)
                return
            except DrainingError:
                return
            except (StoreError, RunsError) as error:
                if may_pass(error) or may_be_served(error, self._pool.cluster):
                    await backoff.after(error)
                    continue
                said = getattr(error, "details", "stored data is damaged")
                reason = getattr(error, "code_reason", type(error).__name__)
                self._tell(run.record, child, error)
                await self._ended(key, child.run_id, ChildOutcome("failed", error=reason, message=said))
                return
            except Exception as error:
                logger.exception("run %s: its child %s cannot be started", key.run_id, child.run_id)
                self._tell(run.record, child, error)
                message = "it could not be started; the log of the server says why"
                await self._ended(
                    key, child.run_id, ChildOutcome("failed", error=type(error).__name__, message=message)
                )
                return

    async def _start_once(self, key: RunKey, run: LiveRun, child: Child) -> None:
        record, call = run.record, child.call
        delivery = run.broker.deliveries.get(child.delivery)
        caller = caller_of(record)
        request = StartRequest(
            workflow=call.workflow,
            input=call.data,
            run_id=child.run_id,
            from_run=(call.from_run, 0) if call.from_run else None,
            use_existing=True,
            labels=dict(call.labels),
            timeout=call.timeout,
            trace=dict(record.info.get("trace", {})),
            parent=self._parent_of(record, child, "" if delivery is None else delivery.step),
        )
        child_key = RunKey(key.namespace, child.run_id)
        async with self._slots:
            await self.calls.start(caller, request)
        existing = await self._pool.records.find(child_key)
        if existing is not None and not _is_of(existing, key.run_id, child):
            raise RunIdTakenError("A run with this run_id exists", run_id=child.run_id)
        parent = self._parent(key)
        if parent is not None or (existing is not None and existing.status not in TERMINAL):
            self._tell(record, child)
        if parent is not None:
            parent.child_started(child.run_id)
            if existing is not None and existing.status in TERMINAL:
                await self.look_at(key, [child])
        elif call.close == CANCEL and (ended := await self._pool.records.find(key)) and ended.status in TERMINAL:
            # It ended while this child was being started.
            await self._ends.cancel(child_key, call.workflow, caller, key.run_id, "has ended")
        self._start_news.tell(child_key)

    async def look_at(self, key: RunKey, children: Sequence[Child]) -> None:
        """Find out what became of children that were started before, and cancel those that are to be cancelled."""
        backoff = Backoff("its children cannot be looked at yet", key.run_id)
        left = list(children)
        while left and (run := self._parent(key)) is not None:
            try:
                page = left[:_PAGE]
                keys = [RunKey(key.namespace, child.run_id) for child in page]
                records = await self._pool.store.records(keys)
                caller = caller_of(run.record)
                for child, child_key in zip(page, keys, strict=True):
                    await self._look_at_one(key, caller, child, child_key, records.get(child_key))
                    del left[0]
            except (StoreError, RunsError) as error:
                await backoff.after(error)

    async def _look_at_one(
        self, key: RunKey, caller: Principal, child: Child, child_key: RunKey, record: RunRecord | None
    ) -> None:
        """Look at one child; `record` is None for one that is not there, or damaged."""
        if record is None:
            try:
                record = await self._pool.records.find(child_key)
            except RunsError as error:
                if not is_damage(error):
                    raise
                logger.error("run %s: its child %s is taken for failed: %s", key.run_id, child.run_id, error)
                await self._ended(key, child.run_id, DAMAGED)
                return
        if record is None or parent_of(record) != key.run_id:  # another run has its chosen id by now
            await self._ended(key, child.run_id, GONE)
        elif record.status in TERMINAL:
            await self._ended(key, child.run_id, await self._ends.outcome(record))
        elif child.cancelling:
            await self._ends.cancel(child_key, record.workflow, caller, key.run_id, "cancelled it")

    def _tell(self, parent: RunRecord, child: Child, error: Exception | None = None) -> None:
        event = ChildAuditEvent("start", caller_of(parent), parent.key.run_id, child.run_id, child.call.workflow, error)
        self._audit.tell(event)

    async def _ended(self, key: RunKey, child: str, outcome: ChildOutcome) -> None:
        """Tell a parent in memory, if it is there, that a child has ended."""
        if (run := self._parent(key)) is not None:
            run.child_ended(child, outcome)
        self._start_news.tell(RunKey(key.namespace, child))


def _is_of(record: RunRecord, parent: str, child: Child) -> bool:
    """Tell whether a run was started as this child of a run: not as the child of another of its deliveries."""
    if parent_of(record) != parent:
        return False
    delivery = record.info["parent"]["delivery"]
    return not child.call.run_id or delivery in (0, child.delivery)
