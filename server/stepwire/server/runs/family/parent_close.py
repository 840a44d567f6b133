"""Close runs that have ended: cancel the children that end with them, start those that go on and were not started.

Of those that go on, as many are under way at a time as their parent's `max_children` says, like before its end. The
record of the parent says how many were started, in the order of their starts, so none is started a second time even if
it was deleted meanwhile: its end counts as told only once that is durable.
"""

from __future__ import annotations

import asyncio
import math
from collections.abc import Awaitable, Callable, Collection, Mapping
from dataclasses import replace
from typing import Any, Final

from stepwire.server.principal import Principal
from stepwire.server.runs.errors import as_runs_error
from stepwire.server.runs.family.abandoned import Abandoned
from stepwire.server.runs.family.audit_events import ChildAudit, ChildAuditEvent
from stepwire.server.runs.family.outstanding import BEGUN, LaterError, closed
from stepwire.server.runs.family.start_fence import fence
from stepwire.server.runs.hosting.commits.delta import encode_delta
from stepwire.server.runs.hosting.pool import RunPool
from stepwire.server.runs.record_changes import amend
from stepwire.server.store import TERMINAL, Claim, Commit, RunKey, RunQuery, RunRecord, StoreError
from stepwire.server.store.terms import CLOSE, PARENT, term
from stepwire.workflow.hosting import CANCEL

__all__ = ["ParentClose", "to_start"]

_PAGE: Final = 200
_UNFINISHED: Final = ("QUEUED", "RUNNING", "WAITING", "PAUSED", "BLOCKED")

Cancel = Callable[[RunKey, str, Principal, str, str], Awaitable[bool]]
"""Cancel a child, as `ChildEnds.cancel`; return whether nothing is left to do about it."""


class ParentClose:
    """Close the ended runs of a pool."""

    def __init__(
        self,
        pool: RunPool,
        abandoned: Abandoned,
        cancel: Cancel,
        audit: ChildAudit,
        starting: Callable[[RunKey], Collection[asyncio.Task[None]]],
        at_once: Callable[[RunRecord], int],
    ) -> None:
        """Close runs.

        Args:
            pool: The runs.
            abandoned: Starts the children that go on.
            cancel: Cancels the others.
            audit: Told of those that are cancelled before they begin.
            starting: Gives the starts of children of a run that are under way in this process.
            at_once: Says how many children of a run may be under way at a time.
        """
        self._pool = pool
        self._abandoned = abandoned
        self._cancel = cancel
        self._audit = audit
        self._starting = starting
        self._at_once = at_once

    async def close(self, caller: Principal, record: RunRecord) -> int | None:
        """Cancel the children of a run that has ended; start those that are to go on and were not started.

        Args:
            caller: The caller that the run acts for.
            record: Its record.

        Returns:
            How many children go on; None if something could not be done yet.

        Raises:
            LaterError: Some are to be started when others have ended.
            StoreError: The store does not say which there are.
        """
        key = record.key
        while starting := self._starting(key):
            await asyncio.wait(list(starting))
        if self._pool.cluster.shared:
            if math.isinf(await self._begun_elsewhere(key)):
                return 0  # another replica has closed it
            for run_id, workflow in record.info["children"].get("starting", ()):
                if await fence(self._pool, record, run_id, workflow):
                    self._audit.tell(ChildAuditEvent("cancel", caller, key.run_id, run_id, workflow))
        todo = await self._abandoned.children(record)
        living = await self._cancel_children(caller, record)
        if living is None or self._pool.draining:
            return None
        children = record.info["children"]
        kept = children["living"] if BEGUN in children else len(living | todo.keys())
        begun, parts = children.get(BEGUN, 0), list(todo.values())
        while begun < len(parts):
            batch = parts[begun : begun + max(0, self._at_once(record) - len(living))]
            if not await self._abandoned.start(caller, record, dict(enumerate(batch, begun)), self._begun_elsewhere):
                return None
            begun += len(batch)
            if begun < len(parts):
                if batch or BEGUN not in children:
                    children = await self._note(key, kept, begun)
                if not batch:
                    raise LaterError
                living = await self._living(key)
        self._abandoned.forget(key)
        return kept

    async def _cancel_children(self, caller: Principal, record: RunRecord) -> set[str] | None:
        """Cancel those that end with their parent; return the others that live, None if some cannot be cancelled."""
        living: set[str] = set()
        settled = True
        parent = record.key.run_id
        query = _unfinished(record.key)
        while records := await self._pool.store.list(query):
            query.before = (records[-1].created_at, records[-1].key.run_id)
            todo = [each for each in records if each.info["parent"]["close"] == CANCEL]
            cancels = (self._cancel(each.key, each.workflow, caller, parent, "has ended") for each in todo)
            settled &= all(await asyncio.gather(*cancels))
            living.update(each.key.run_id for each in records if each.info["parent"]["close"] != CANCEL)
        return living if settled else None

    async def _living(self, key: RunKey) -> set[str]:
        living: set[str] = set()
        query = _unfinished(key)
        while records := await self._pool.store.list(query):
            query.before = (records[-1].created_at, records[-1].key.run_id)
            living.update(each.key.run_id for each in records)
        return living

    async def _note(self, key: RunKey, kept: int, begun: int) -> Mapping[str, Any]:
        """Have the record of a run say how many of its children go on, and how many of them were started."""

        async def change(record: RunRecord, claim: Claim) -> Commit | None:
            before = record.info["children"]
            if CLOSE not in record.terms or before.get(BEGUN, -1) >= begun:
                return None
            queued = before["to_start"] - begun
            children = {**closed(before, kept), "to_start": before["to_start"], BEGUN: begun, "queued": queued}
            return Commit(replace(record, info={**record.info, "children": children}), claim, encode_delta({}), False)

        record, commit = await amend(self._pool.store, key, change)
        if commit is not None:
            self._pool.records.amended(commit)
        return {} if record is None else dict(record.info["children"])

    async def _begun_elsewhere(self, key: RunKey) -> float:
        """Tell how many of the children that go on another replica has started, which closes the same run.

        They may have ended and been deleted since: a start would make them anew.

        Raises:
            RunsError: That is not known.
        """
        if not self._pool.cluster.shared:
            return 0
        try:
            now = await self._pool.store.get(key)
        except StoreError as error:
            raise as_runs_error(error) from error
        return math.inf if now is None or CLOSE not in now.terms else int(now.info["children"].get(BEGUN, 0))

    async def has_started(self, parent: RunRecord, child: str) -> bool:
        """Tell whether it is durable that an ended run has started a child, or the child was started before its end.

        Raises:
            StoreError: The store does not say.
        """
        begun = parent.info["children"].get(BEGUN, 0)
        return child not in list(await self._abandoned.children(parent))[begun:]


def to_start(record: RunRecord) -> int:
    """Return how many children a run that has ended is yet to start."""
    if record.status not in TERMINAL or CLOSE not in record.terms:
        return 0
    children = record.info["children"]
    return max(0, int(children.get("to_start", 0)) - int(children.get(BEGUN, 0)))


def _unfinished(key: RunKey) -> RunQuery:
    return RunQuery(namespace=key.namespace, statuses=_UNFINISHED, terms=(term(PARENT, key.run_id),), limit=_PAGE)
