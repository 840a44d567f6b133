"""End runs that cannot be loaded, without their code."""

from __future__ import annotations

import asyncio
from dataclasses import replace
from typing import Any

from stepwire.server.runs.errors import RunNotFoundError, as_runs_error
from stepwire.server.runs.hosting.commits.delta import children_in, encode_delta, fold
from stepwire.server.runs.hosting.commits.run_terms import undone
from stepwire.server.runs.hosting.pool import RunPool
from stepwire.server.runs.log.chunks import chunks_of
from stepwire.server.runs.record_changes import amend
from stepwire.server.store import (
    TERMINAL,
    Claim,
    Commit,
    RunKey,
    RunRecord,
    Status,
    StoreCorruptError,
    StoreError,
)
from stepwire.workflow.hosting import (
    ABANDON,
    CANCEL,
    LogEntry,
    WorkflowCancelledEvent,
    event_to_json,
    role_of,
    start_task,
)
from stepwire.workflow.hosting import TERMINAL as ENDING

__all__ = ["BlockedRuns"]


class BlockedRuns:
    """Cancel the blocked runs of a pool. Raises `RunsError`s."""

    def __init__(self, pool: RunPool) -> None:
        self._pool = pool
        self._ending: dict[RunKey, asyncio.Future[RunRecord]] = {}
        """Runs that are being cancelled."""

    async def cancel(self, key: RunKey, reason: str) -> RunRecord:
        """End a run that cannot be loaded, without its code, once however many callers ask."""
        ending = self._ending.get(key)
        if ending is None:
            ending = self._ending[key] = start_task(self._end(key, reason))
            ending.add_done_callback(lambda _: self._ending.pop(key, None))
        return await asyncio.shield(ending)

    async def _end(self, key: RunKey, reason: str) -> RunRecord:
        before = ""

        async def change(record: RunRecord, claim: Claim) -> Commit | None:
            nonlocal before
            before = record.status
            if before in TERMINAL:
                return None
            return self._cancelling(record, claim, reason, await self._unbegun(record))

        try:
            record, commit = await amend(self._pool.store, key, change)
        except StoreError as error:
            raise as_runs_error(error) from error
        if record is None:
            raise RunNotFoundError(key.run_id)
        if commit is not None:
            self._pool.metrics.workflow(record.workflow).moved(before, Status.CANCELLED, ended=True)
            self._pool.committed(commit)
        return record

    async def _unbegun(self, record: RunRecord) -> dict[str, Any]:
        """Return what the record of a blocked run says of its living children, once it has ended."""
        living = record.info.get("children", {}).get("living")
        if not living:
            return {}
        try:
            stored = await self._pool.store.load(record.key)
            parts = {} if stored is None else fold(stored)
        except StoreCorruptError:
            parts = {}
        except StoreError as error:
            raise as_runs_error(error) from error
        starting = [(part["r"], part["w"]) for part in children_in(parts, CANCEL, "starting")]
        to_start = len(children_in(parts, ABANDON, "queued", "starting"))
        return {"to_close": living, "starting": starting, "to_start": to_start}

    def _cancelling(self, record: RunRecord, claim: Claim, reason: str, unbegun: dict[str, Any]) -> Commit:
        """Return the commit that ends a run as cancelled; `unbegun` is told of its children."""
        event = WorkflowCancelledEvent(reason=reason)
        name = type(event).__name__
        outcome = {"status": Status.CANCELLED, "event_type": name, "reason": reason}
        info = {name: value for name, value in record.info.items() if name != "pending"} | {"outcome": outcome}
        if unbegun:
            info["children"] = {**info["children"], **unbegun}
        at = self._pool.clock.now()
        sequence = record.last_sequence + 1
        entry = LogEntry(sequence, at, ENDING, name, event_to_json(event), "", 0, role_of(type(event)).number)
        ended = replace(
            record,
            status=Status.CANCELLED,
            updated_at=at,
            ended_at=at,
            wake_at=None,
            last_sequence=sequence,
            info=info,
            pending={},
            terms=tuple(sorted({*record.terms, *undone(info)})),
        )
        return Commit(ended, claim, encode_delta({}), False, chunks_of([entry], self._pool.codec))
