"""Tell parents of the ends of their children, and cancel the children of runs that have ended."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable, Collection
from typing import Final

from stepwire.server.principal import Principal
from stepwire.server.runs.errors import (
    DrainingError,
    RunBlockedError,
    RunElsewhereError,
    RunNotEndedError,
    RunNotFoundError,
    RunsError,
    StoreDownError,
    as_runs_error,
)
from stepwire.server.runs.family.abandoned import Abandoned
from stepwire.server.runs.family.audit_events import ChildAudit, ChildAuditEvent
from stepwire.server.runs.family.backoff import Backoff, is_damage, may_pass
from stepwire.server.runs.family.calls import FamilyCalls
from stepwire.server.runs.family.outcomes import DAMAGED, GONE, outcome_in_memory, outcome_of
from stepwire.server.runs.family.parent_close import ParentClose, to_start
from stepwire.server.runs.family.start_news import StartNews
from stepwire.server.runs.hosting.pool import RunPool
from stepwire.server.store import TERMINAL, RunKey, RunRecord, StoreError
from stepwire.server.store.terms import CLOSE, TELL
from stepwire.workflow.hosting import ABANDON, ChildOutcome

__all__ = ["ChildEnds", "caller_of", "parent_of"]

logger = logging.getLogger("stepwire.runs")

_SETTLE_SECONDS: Final = 10.0
"""How long a delete waits for those that are to be told first."""


class ChildEnds:
    """Tell and close, however long that takes.

    Attributes:
        calls: Does what concerns other runs, here or at the replica that has them.
        abandoned: Starts the children that are to go on.
        close_now: Closes a run that has ended, as far as that can be done now.
    """

    def __init__(
        self,
        pool: RunPool,
        calls: FamilyCalls,
        slots: asyncio.Semaphore,
        start_news: StartNews,
        audit: ChildAudit,
        starting: Callable[[RunKey], Collection[asyncio.Task[None]]],
        at_once: Callable[[RunRecord], int],
    ) -> None:
        """Tell and close the runs of a pool.

        Args:
            pool: The runs.
            calls: Tells and cancels runs.
            slots: Bounds what is under way at a time.
            start_news: Told of each end.
            audit: Told of each cancel, and of each start of a child that goes on alone.
            starting: Gives the starts of children of a run that are under way in this process.
            at_once: Says how many children of a run may be under way at a time.
        """
        self._pool = pool
        self.calls = calls
        self._slots = slots
        self._start_news = start_news
        self._audit = audit
        self.abandoned = Abandoned(pool, calls, slots, audit)
        self._parent_close = ParentClose(pool, self.abandoned, self.cancel, audit, starting, at_once)
        self.close_now: Callable[..., Awaitable[None]] | None = None

    async def outcome(self, record: RunRecord) -> ChildOutcome:
        """Return how a run has ended. Raises StoreError."""
        return outcome_in_memory(self._pool, record) or await outcome_of(self._pool, record)

    # -- up -----------------------------------------------------------------------------------------------------------

    async def take_end(self, parent: RunKey, child: str) -> None:
        """Have a parent take the end of a child; return once that is durable. Raises RunsError as `RunPool.reach`."""
        try:
            record = await self._pool.records.find(RunKey(parent.namespace, child))
            if record is not None and parent_of(record) != parent.run_id:
                record = None  # another run has its chosen id by now
            if record is not None and record.status not in TERMINAL:
                return
            outcome = GONE if record is None else await self.outcome(record)
        except (StoreError, RunsError) as error:
            if not is_damage(error):
                raise as_runs_error(error) from error
            record, outcome = None, DAMAGED
        await self._take(
            parent, Principal("", parent.namespace) if record is None else caller_of(record), child, outcome
        )

    async def _take(self, parent: RunKey, caller: Principal, child: str, outcome: ChildOutcome) -> None:
        run = await self._pool.reach(caller, parent.run_id)
        if isinstance(run, RunRecord):
            return
        # Nothing is awaited between `reach` and this: a run that has left memory takes no news.
        run.child_ended(child, outcome)
        await run.commits.wait()  # also if it knew before: that may not be durable yet

    async def tell(self, record: RunRecord, outcome: ChildOutcome | None = None) -> bool:
        """Tell the parent of a run that has ended; return whether there is nothing left to do about it.

        Args:
            record: The record of the run.
            outcome: How it ended, if that is known already.
        """
        parent = record.info["parent"]["run_id"]
        backoff = Backoff(f"its parent {parent} cannot be told of its end yet", record.key.run_id)
        while True:
            try:
                if not await self._is_counted(record):
                    return False
                await self._tell_once(record, outcome)
                return True
            except (RunBlockedError, DrainingError):
                return False  # the parent finds out when it is loaded
            except RunsError as error:
                if not may_pass(error):
                    logger.warning("run %s: its parent cannot be told of its end: %s", record.key.run_id, error)
                    return False
                await backoff.after(error)

    async def tell_of_damage(self, parent: RunKey, child: str) -> None:
        """Tell a parent that the record of its child is damaged: to it, that is the child's end.

        Raises:
            RunsError: It cannot be told; if it is blocked, it finds out when it is loaded.
        """
        backoff = Backoff(f"its parent {parent.run_id} cannot be told of the damage yet", child)
        logger.error("run %s: its child %s is taken for failed: its record is damaged", parent.run_id, child)
        while True:
            try:
                async with self._slots:
                    await self.calls.tell(parent, child)
                return
            except RunNotFoundError:
                return
            except RunsError as error:
                if not may_pass(error):
                    raise
                await backoff.after(error)

    async def _is_counted(self, record: RunRecord) -> bool:
        """Have the parent of a run that has ended, if it has ended, too, start further children in the run's place.

        Returns:
            Whether the parent will never start this run again, even if the run is deleted now.

        Raises:
            RunsError: That is not known.
        """
        above = record.info["parent"]
        if above["close"] != ABANDON:
            return True
        key = RunKey(record.key.namespace, above["run_id"])
        parent = await self._pool.records.find(key)
        if parent is None or not to_start(parent):
            return True
        assert self.close_now is not None
        await self.close_now(parent)
        parent = await self._pool.records.find(key)
        if parent is None or not to_start(parent):
            return True
        try:
            return await self._parent_close.has_started(parent, record.key.run_id)
        except StoreError as error:
            raise as_runs_error(error) from error

    async def _tell_once(self, record: RunRecord, outcome: ChildOutcome | None = None) -> None:
        """Tell the parent of a run that has ended, or that there is nobody to tell. Raises RunsError."""
        parent = RunKey(record.key.namespace, record.info["parent"]["run_id"])
        try:
            async with self._slots:
                if outcome is not None:
                    try:
                        await self._take(parent, caller_of(record), record.key.run_id, outcome)
                        return
                    except RunElsewhereError:
                        pass
                await self.calls.tell(parent, record.key.run_id)
        except RunNotFoundError:
            pass  # the parent was deleted
        finally:
            self._start_news.tell(record.key)

    # -- down ---------------------------------------------------------------------------------------------------------

    async def cancel(self, key: RunKey, workflow: str, caller: Principal, parent: str, why: str) -> bool:
        """Cancel a child; return whether it has ended, is not there, or can never go on.

        Args:
            key: The child.
            workflow: Its workflow.
            caller: The caller that its parent acts for.
            parent: Its parent.
            why: What its parent has done: `has ended`.
        """
        reason = f"its parent {parent} {why}"
        event = ChildAuditEvent("cancel", caller, parent, key.run_id, workflow)
        backoff = Backoff(f"it cannot be cancelled yet, though {reason}", key.run_id)
        while True:
            try:
                async with self._slots:
                    await self.calls.cancel(caller, key.run_id, reason)
                self._audit.tell(event)
                return True
            except RunNotFoundError:
                return True
            except DrainingError:
                return False
            except RunsError as error:
                if not may_pass(error):
                    logger.warning("run %s: cannot be cancelled, though %s: %s", key.run_id, reason, error)
                    self._audit.tell(event._replace(error=error))
                    return is_damage(error)
                await backoff.after(error)

    async def close(self, record: RunRecord) -> int | None:
        """Close a run that has ended; see `ParentClose.close`."""
        return await self._parent_close.close(caller_of(record), record)

    # -- before a delete ----------------------------------------------------------------------------------------------

    async def settle(self, record: RunRecord) -> None:
        """Do what is to be done still about a run that has ended, and that is to be deleted.

        Raises:
            RunNotEndedError: It is to start children yet, when others have ended.
            RunBlockedError: Its parent is blocked, so it cannot be told.
            StoreDownError: It cannot be done now.
            RunsError: The parent cannot be told.
        """
        try:
            async with asyncio.timeout(_SETTLE_SECONDS):
                if CLOSE in record.terms:
                    await self._settle_children(record)
                if TELL in record.terms:
                    if not await self._is_counted(record):
                        raise StoreDownError("The parent of the run does not know yet that it was started: retry")
                    await self._tell_once(record)
        except TimeoutError:
            raise StoreDownError("The parent or the children of the run do not answer: retry") from None
        except RunBlockedError as error:
            parent = record.info["parent"]["run_id"]
            message = f"The parent {parent} has not heard of the end of the run, and is blocked: cancel it first"
            raise RunBlockedError(message, run_id=parent) from error

    async def _settle_children(self, record: RunRecord) -> None:
        assert self.close_now is not None
        await self.close_now(record, in_a_hurry=True)
        now = await self._pool.records.find(record.key)
        if now is not None and (left := to_start(now)):
            message = (
                f"The run has ended, but is to start {left} more children, which go on without it, as others end"
                " (max_children): delete it when they are started"
            )
            raise RunNotEndedError(message, run_id=record.key.run_id)
        if now is not None and CLOSE in now.terms:
            raise StoreDownError("The children of the run are not cancelled yet: retry")


def parent_of(record: RunRecord) -> str:
    """Return the run that has started a run; empty if no step has."""
    return str(record.info.get("parent", {}).get("run_id", ""))


def caller_of(record: RunRecord) -> Principal:
    """Return the caller that a run acts for: the one that has started it."""
    return Principal(str(record.info.get("principal", "")), record.key.namespace)
