"""Start the children that were to go on when their parent ended, and were not started by then."""

from __future__ import annotations

import asyncio
import logging
import math
from collections import OrderedDict
from collections.abc import Awaitable, Callable, Mapping
from typing import Any, Final

from pydantic_core import to_json

from stepwire.server.principal import Principal
from stepwire.server.runs.errors import DrainingError, RunsError
from stepwire.server.runs.family.audit_events import ChildAudit, ChildAuditEvent
from stepwire.server.runs.family.backoff import Backoff, may_be_served, may_pass
from stepwire.server.runs.family.calls import FamilyCalls
from stepwire.server.runs.hosting.commits.delta import children_in
from stepwire.server.runs.hosting.pool import RunPool
from stepwire.server.runs.requests import Parent, StartRequest
from stepwire.server.store import RunKey, RunRecord, StoreCorruptError
from stepwire.workflow.hosting import ABANDON

__all__ = ["Abandoned"]

logger = logging.getLogger("stepwire.runs")

_RESTART_SECONDS: Final = 60.0
"""For how long a workflow may be served by no replica before a child of it is given up."""
_KEPT: Final = 8
"""Ended runs whose children to start are kept in memory: each child that ends has the next one started."""

Part = Mapping[str, Any]
"""What a snapshot says of a child."""
Begun = Callable[[RunKey], Awaitable[float]]
"""Tells how many of such children of a run were started already, by what the store says now."""


class Abandoned:
    """Start what the snapshot of an ended run holds of such children: each once, as its id is known.

    Attributes:
        calls: Starts runs, here or at the replica that can.
    """

    def __init__(self, pool: RunPool, calls: FamilyCalls, slots: asyncio.Semaphore, audit: ChildAudit) -> None:
        self._pool = pool
        self.calls = calls
        self._slots = slots
        self._audit = audit
        self._known: OrderedDict[RunKey, dict[str, Part]] = OrderedDict()

    async def children(self, record: RunRecord) -> dict[str, Part]:
        """Return the children of an ended run that were to be started when it ended, by id, in their order.

        Raises:
            StoreError: The store does not say which there are.
        """
        if not record.info.get("children", {}).get("to_start"):
            return {}
        if (known := self._known.get(record.key)) is None:
            try:
                stored = await self._pool.store.load(record.key)
                parts = {} if stored is None else await self._pool.restorer.fold(stored)
            except StoreCorruptError as error:
                logger.error("run %s: children that were to go on cannot be started: %s", record.key.run_id, error)
                parts = {}
            known = {part["r"]: part for part in children_in(parts, ABANDON, "queued", "starting")}
            self._known[record.key] = known
            if len(self._known) > _KEPT:
                self._known.popitem(last=False)
        self._known.move_to_end(record.key)
        return known

    def forget(self, key: RunKey) -> None:
        """Forget the children of a run: there is nothing to start any more."""
        self._known.pop(key, None)

    async def start(self, caller: Principal, record: RunRecord, parts: Mapping[int, Part], begun: Begun) -> bool:
        """Start children of a run that has ended; return whether nothing is left to do about them.

        Args:
            caller: The caller that they act for.
            record: The record of the run.
            parts: What its snapshot says of them, by their place among those to start.
            begun: Tells how many another replica has started meanwhile.
        """
        return all(await asyncio.gather(*(self._start(caller, record, *part, begun) for part in parts.items())))

    async def _start(self, caller: Principal, record: RunRecord, place: int, part: Part, begun: Begun) -> bool:
        """Start one child; return whether nothing is left to do about it."""
        above, key = record.info.get("parent"), record.key
        chain = (*(above["chain"] if above else ()), record.workflow)
        timeout = part.get("t")
        request = StartRequest(
            workflow=part["w"],
            input=to_json(part.get("i", {})),
            run_id=part["r"],
            use_existing=True,
            labels=dict(part.get("l", {})),
            timeout=math.inf if timeout is not None and timeout < 0 else timeout,
            trace=dict(record.info.get("trace", {})),
            parent=Parent(key.run_id, part.get("s", ""), part["d"], ABANDON, chain),
        )
        event = ChildAuditEvent("start", caller, key.run_id, request.run_id, request.workflow)
        backoff = Backoff(f"its child {request.run_id}, which is to go on, cannot be started yet", key.run_id)
        while True:
            try:
                async with self._slots:
                    if place < await begun(key):
                        return True
                    await self.calls.start(caller, request)
                self._audit.tell(event)
                return True
            except DrainingError:
                return False
            except RunsError as error:
                restarting = may_be_served(error, self._pool.cluster) and backoff.waited < _RESTART_SECONDS
                if not may_pass(error) and not restarting:
                    logger.warning("run %s: its child %s is not started: %s", key.run_id, request.run_id, error.details)
                    self._audit.tell(event._replace(error=error))
                    return True
                await backoff.after(error)
