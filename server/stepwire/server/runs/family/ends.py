"""Tell parents of the ends of their children, and cancel the children of runs that have ended."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Collection
from typing import Final

from stepwire.server.principal import Principal
from stepwire.server.runs.errors import (
    DrainingError,
    RunBlockedError,
    RunElsewhereError,
    RunNotFoundError,
    RunsError,
    StoreDownError,
    as_runs_error,
)
from stepwire.server.runs.family.abandoned import Abandoned
from stepwire.server.runs.family.beginnings import Beginnings
from stepwire.server.runs.family.calls import FamilyCalls
from stepwire.server.runs.family.fence import fence
from stepwire.server.runs.family.outcomes import DAMAGED, GONE, outcome_in_memory, outcome_of
from stepwire.server.runs.family.patience import Patience, is_damage, may_pass
from stepwire.server.runs.hosting.pool import RunPool
from stepwire.server.store import TERMINAL, RunKey, RunQuery, RunRecord, StoreError
from stepwire.server.store.terms import CLOSE, PARENT, TELL, term
from stepwire.workflow.hosting import CANCEL, ChildOutcome

__all__ = ["Ends", "caller_of", "parent_of"]

logger = logging.getLogger("stepwire.runs")

_PAGE: Final = 200
_SETTLE_SECONDS: Final = 10.0
"""How long a delete waits for those that are to be told first."""
_UNFINISHED: Final = ("QUEUED", "RUNNING", "WAITING", "PAUSED", "BLOCKED")


class Ends:
    """Tell and close, however long that takes.

    Attributes:
        calls: Does what concerns other runs, here or at the replica that has them.
    """

    def __init__(
        self,
        pool: RunPool,
        calls: FamilyCalls,
        slots: asyncio.Semaphore,
        beginnings: Beginnings,
        starting: Callable[[RunKey], Collection[asyncio.Task[None]]],
    ) -> None:
        """Tell and close the runs of a pool.

        Args:
            pool: The runs.
            calls: Tells and cancels runs.
            slots: Bounds what is under way at a time.
            beginnings: Told of each end.
            starting: Gives the starts of children of a run that are under way in this process.
        """
        self._pool = pool
        self.calls = calls
        self._slots = slots
        self._beginnings = beginnings
        self._starting = starting
        self.abandoned = Abandoned(pool, calls, slots)
        """Starts those that are to go on."""

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
        await run.committed()  # also if it knew before: that may not be durable yet

    async def tell(self, record: RunRecord, outcome: ChildOutcome | None = None) -> bool:
        """Tell the parent of a run that has ended; return whether there is nothing left to do about it.

        Args:
            record: The record of the run.
            outcome: How it ended, if that is known already.
        """
        parent = record.info["parent"]["run_id"]
        patience = Patience(f"its parent {parent} cannot be told of its end yet", record.key.run_id)
        while True:
            try:
                await self._tell_once(record, outcome)
                return True
            except (RunBlockedError, DrainingError):
                return False  # the parent finds out when it is loaded
            except RunsError as error:
                if not may_pass(error):
                    logger.warning("run %s: its parent cannot be told of its end: %s", record.key.run_id, error)
                    return False
                await patience.after(error)

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
            self._beginnings.tell(record.key)

    # -- down ---------------------------------------------------------------------------------------------------------

    async def cancel(self, key: RunKey, caller: Principal, reason: str) -> bool:
        """Cancel a run; return whether it has ended, is not there, or can never go on."""
        patience = Patience(f"it cannot be cancelled yet, though {reason}", key.run_id)
        while True:
            try:
                async with self._slots:
                    await self.calls.cancel(caller, key.run_id, reason)
                return True
            except RunNotFoundError:
                return True
            except DrainingError:
                return False
            except RunsError as error:
                if not may_pass(error):
                    logger.warning("run %s: cannot be cancelled, though %s: %s", key.run_id, reason, error)
                    return is_damage(error)
                await patience.after(error)

    async def close(self, record: RunRecord) -> int | None:
        """Cancel the children of a run that has ended; start those that are to go on and were not started.

        Returns:
            How many children go on; None if something could not be done yet.

        Raises:
            StoreError: The store does not say which there are.
        """
        key, caller = record.key, caller_of(record)
        while starting := self._starting(key):
            await asyncio.wait(list(starting))
        if self._pool.cluster.shared:
            for run_id, workflow in record.info["children"].get("starting", ()):
                await fence(self._pool, record, run_id, workflow)
        late = await self.abandoned.start(caller, record)
        if late is None:
            return None
        query = RunQuery(namespace=key.namespace, statuses=_UNFINISHED, terms=(term(PARENT, key.run_id),), limit=_PAGE)
        kept, settled = 0, True
        reason = f"its parent {key.run_id} has ended"
        while records := await self._pool.store.list(query):
            query.before = (records[-1].created_at, records[-1].key.run_id)
            todo = [each.key for each in records if each.info["parent"]["close"] == CANCEL]
            settled &= all(await asyncio.gather(*(self.cancel(each, caller, reason) for each in todo)))
            kept += len(records) - len(todo)
            late.difference_update(each.key.run_id for each in records)
        kept += len(late)  # they have ended since
        return kept if settled and not self._pool.draining else None

    # -- before a delete ----------------------------------------------------------------------------------------------

    async def settle(self, record: RunRecord) -> None:
        """Do what is to be done still about a run that has ended, and that is to be deleted.

        Raises:
            RunBlockedError: Its parent is blocked, so it cannot be told.
            StoreDownError: It cannot be done now.
            RunsError: The parent cannot be told.
        """
        try:
            async with asyncio.timeout(_SETTLE_SECONDS):
                if CLOSE in record.terms and await self._closed(record) is None:
                    raise StoreDownError("The children of the run are not cancelled yet: retry")
                if TELL in record.terms:
                    await self._tell_once(record)
        except TimeoutError:
            raise StoreDownError("The parent or the children of the run do not answer: retry") from None
        except RunBlockedError as error:
            parent = record.info["parent"]["run_id"]
            message = f"The parent {parent} has not heard of the end of the run, and is blocked: cancel it first"
            raise RunBlockedError(message, run_id=parent) from error

    async def _closed(self, record: RunRecord) -> int | None:
        try:
            return await self.close(record)
        except StoreError as error:
            raise as_runs_error(error) from error


def parent_of(record: RunRecord) -> str:
    """Return the run that has started a run; empty if no step has."""
    return str(record.info.get("parent", {}).get("run_id", ""))


def caller_of(record: RunRecord) -> Principal:
    """Return the caller that a run acts for: the one that has started it."""
    return Principal(str(record.info.get("principal", "")), record.key.namespace)
