"""The runs of a server, for callers: start them, wait for them, end them, look into them."""

from __future__ import annotations

import asyncio
import logging
from dataclasses import replace
from typing import Any
from uuid import uuid4

from stepwire.server.principal import Principal
from stepwire.server.registry import Served
from stepwire.server.runs.errors import (
    DrainingError,
    InvalidError,
    RequestIdReusedError,
    RunBlockedError,
    RunFinishedError,
    RunIdTakenError,
    RunNotEndedError,
    RunNotFoundError,
    RunsError,
    SequenceOutOfRangeError,
    SnapshotMismatchError,
    SnapshotNotFoundError,
    StoreDownError,
    Violation,
    WorkflowNotFoundError,
    as_runs_error,
)
from stepwire.server.runs.hosting.delta import Parts, encode_delta, fold
from stepwire.server.runs.hosting.live_run import LiveRun
from stepwire.server.runs.hosting.pool import LiveRuns, now
from stepwire.server.runs.log.chunks import chunks_of
from stepwire.server.runs.payloads import digest, parse_input, readable
from stepwire.server.runs.requests import MAX_LABELS, SnapshotData, StartRequest, WaitResult
from stepwire.server.store import (
    TERMINAL,
    Claim,
    Commit,
    RunKey,
    RunQuery,
    RunRecord,
    SnapshotInfo,
    StaleClaimError,
    Status,
    StoreError,
)
from stepwire.workflow.hosting import TERMINAL as ENDING
from stepwire.workflow.hosting import (
    Context,
    ContextSerdeError,
    LogEntry,
    SnapshotError,
    WorkflowCancelledEvent,
    event_to_json,
    part_keys,
    restore,
    role_of,
)

logger = logging.getLogger("stepwire.runs")

_CLAIMS = 16
"""How often a run that cannot be loaded is claimed to end it, while others claim it to load it."""


class RunManager(LiveRuns):
    """Start runs and answer what callers ask of them.

    Every call carries the caller's principal; errors are `RunsError`s.
    """

    async def start(self, caller: Principal, request: StartRequest) -> RunRecord:
        """Start a run; a repeat of a request_id gives the run that the first one started."""
        request.check()
        served = self.registry.get(request.workflow)
        if served is None or not caller.scopes.sees(request.workflow):
            raise WorkflowNotFoundError("No workflow of this name is served", workflow=request.workflow[:128])
        fingerprint = _fingerprint(request) if request.request_id else ""
        if request.request_id and (known := await self._repeated(caller, request, fingerprint)) is not None:
            return known
        if request.run_id and (existing := await self._existing(caller, request.run_id)) is not None:
            return await self._taken(caller, request, fingerprint, existing)
        if self._draining:
            raise DrainingError("The server is stopping and starts no runs")
        try:
            with self._quota.starting(caller):
                run = await self._new(caller, served, request, fingerprint)
                await run.committed()
        except RunsError as error:
            if isinstance(error, RequestIdReusedError):
                known = await self._repeated(caller, request, fingerprint)
                if known is not None:
                    return known
            if isinstance(error, RunIdTakenError):
                existing = await self._existing(caller, request.run_id)
                if existing is not None:
                    return await self._taken(caller, request, fingerprint, existing)
            raise
        return run.record

    async def _existing(self, caller: Principal, run_id: str) -> RunRecord | None:
        """Return the run that has this id; RunIdTakenError when the caller may not see it."""
        key = caller.key(run_id)
        run = self._live.get(key)
        if run is not None and run._claim is None:
            await run.committed()  # someone else starts it at this moment
        existing = await self.find(key)
        if existing is not None and not caller.scopes.sees(existing.workflow):
            raise RunIdTakenError("A run with this run_id exists", run_id=run_id)
        return existing

    async def _taken(
        self, caller: Principal, request: StartRequest, fingerprint: str, existing: RunRecord
    ) -> RunRecord:
        """Return what a start gets whose run_id is taken. RunIdTakenError."""
        # The same request may have started it just now, while this repeat was on its way.
        if request.request_id and (known := await self._repeated(caller, request, fingerprint)) is not None:
            return known
        if request.use_existing:
            return existing
        raise RunIdTakenError("A run with this run_id exists", run_id=request.run_id)

    async def _repeated(self, caller: Principal, request: StartRequest, fingerprint: str) -> RunRecord | None:
        known = await self.store.find_start(caller.namespace, request.request_id)
        if known is None:
            return None
        if known.start_digest != fingerprint:
            raise RequestIdReusedError("This request_id came before with another request")
        return await self.find(known.key) or known

    async def _new(self, caller: Principal, served: Served, request: StartRequest, fingerprint: str) -> LiveRun:
        snapshot = request.snapshot
        if request.from_run is not None:
            snapshot = await self.snapshot(caller, request.from_run[0], request.from_run[1])
        event = None
        if snapshot is not None:
            if snapshot.workflow != served.name:
                raise SnapshotMismatchError("The snapshot is of another workflow", workflow=served.name)
            ended = "outcome" in snapshot.parts.get("h", {})
            if ended != (request.input is not None):
                message = (
                    "A run that had ended starts anew and needs an input"
                    if ended
                    else "A run goes on from this snapshot and takes no input"
                )
                raise InvalidError("INVALID_REQUEST", message, [Violation("input", message)])
        if snapshot is None or request.input is not None:
            event = parse_input(served, request.input or b"")
        at = now()
        key = caller.key(request.run_id or uuid4().hex)
        if key in self._live:
            raise RunIdTakenError("A run with this run_id exists", run_id=key.run_id)
        record = RunRecord(
            key=key,
            workflow=served.name,
            status=Status.RUNNING,
            created_at=at,
            updated_at=at,
            labels=dict(request.labels),
            start_request_id=request.request_id,
            start_digest=fingerprint,
            info={"version": served.version, "principal": caller.name},
        )
        if request.trace:
            record.info["trace"] = dict(request.trace)
        run = self._host(served, record, None)
        if snapshot is not None:
            record.info["forked_from"] = {"run_id": snapshot.run_id, "sequence": snapshot.sequence}
            try:
                self._restore(run, snapshot.parts, snapshot.at, snapshot.version, fork=True)
            except SnapshotError as error:
                raise InvalidError("INVALID_SNAPSHOT", str(error)) from error
        run.make_durable()
        broker = run.context._broker
        timeout = request.timeout if request.timeout is not None else served.workflow._timeout
        self._live[key] = run
        if event is not None:
            if broker.outcome is not None:
                broker.prepare()
            broker.begin(event, timeout)
        for part in broker.store.values():
            run.journal.touch(f"s/{part}")
        for part in part_keys(broker):
            run.journal.touch(part)
        self.places.admit(run)
        return run

    async def wait(self, caller: Principal, run_id: str, timeout: float | None) -> WaitResult:
        """Wait until a run has ended, or `timeout` seconds."""
        await self.check_seen(caller, run_id)
        key = caller.key(run_id)
        time = asyncio.get_running_loop().time
        end = None if timeout is None else time() + timeout
        feed = await self.feeds.open(key)
        try:
            while True:
                record = self.feeds.record(key, feed)
                if record.status in TERMINAL:
                    return WaitResult(record, False)
                left = None if end is None else end - time()
                if (left is not None and left <= 0) or not await self.feeds.news(feed, left):
                    return WaitResult(self.feeds.record(key, feed), True)
        finally:
            self.feeds.close(key, feed)

    async def list_runs(self, query: RunQuery) -> list[RunRecord]:
        """List runs, newest first. InvalidError for more labels than a run may have."""
        if len(query.labels) > MAX_LABELS:
            violation = Violation("labels", f"must be at most {MAX_LABELS}")
            raise InvalidError("INVALID_REQUEST", "The request is not valid", [violation])
        try:
            return await self.store.list(query)
        except StoreError as error:
            raise as_runs_error(error) from error

    async def cancel(self, caller: Principal, run_id: str, reason: str) -> RunRecord:
        """Cancel a run; one that has ended stays as it is."""
        try:
            run = await self.live(caller, run_id)
        except RunFinishedError:
            return await self.get(caller, run_id)
        except RunBlockedError:
            return await self._cancel_blocked(caller, run_id, reason)
        run.cancel(reason)
        if run.paused:
            run.go()
        await run.committed()
        return run.record

    async def _cancel_blocked(self, caller: Principal, run_id: str, reason: str) -> RunRecord:
        """End a run that cannot be loaded, without its code; once, however many ask."""
        key = (await self.get(caller, run_id)).key
        ending = self._ending.get(key)
        if ending is None:
            ending = self._ending[key] = asyncio.ensure_future(self._end_blocked(key, reason))
            ending.add_done_callback(lambda _: self._ending.pop(key, None))
        return await asyncio.shield(ending)

    async def _end_blocked(self, key: RunKey, reason: str) -> RunRecord:
        for _ in range(_CLAIMS):
            claim = await self.store.claim(key)
            record = await self.store.get(key)  # only now: another call may have ended it
            if claim is None or record is None:
                raise RunNotFoundError(key.run_id)
            if record.status in TERMINAL:
                return record
            commit = self._cancelling(record, claim, reason)
            try:
                await self.store.commit(commit)
            except StaleClaimError:  # of a call that looked whether the run can be loaded
                continue
            self.metrics.workflow(record.workflow).moved(record.status, Status.CANCELLED, ended=True)
            self.feeds.committed(commit)
            return commit.record
        raise StoreDownError("Others claim the run at the same time; retry")

    def _cancelling(self, record: RunRecord, claim: Claim, reason: str) -> Commit:
        """Return the commit that ends a run as cancelled."""
        event = WorkflowCancelledEvent(reason=reason)
        name = type(event).__name__
        outcome = {"status": Status.CANCELLED, "event_type": name, "reason": reason}
        at = now()
        sequence = record.last_sequence + 1
        entry = LogEntry(sequence, at, ENDING, name, event_to_json(event), "", 0, role_of(type(event)))
        ended = replace(
            record,
            status=Status.CANCELLED,
            updated_at=at,
            ended_at=at,
            wake_at=None,
            last_sequence=sequence,
            info={**record.info, "outcome": outcome, "pending": []},
        )
        return Commit(ended, claim, encode_delta({}), False, chunks_of([entry], self.codec))

    async def delete(self, caller: Principal, run_id: str) -> None:
        """Delete an ended run with its log and snapshots. RunNotFoundError, RunNotEndedError."""
        record = await self.get(caller, run_id)
        if record.status not in TERMINAL:
            raise RunNotEndedError("Only a run that has ended can be deleted: cancel it first", run_id=run_id)
        try:
            deleted = await self.store.delete(record.key)
        except StoreError as error:
            raise as_runs_error(error) from error
        if not deleted:
            raise RunNotFoundError(run_id)
        self._ended.pop(record.key, None)
        self.feeds.deleted(record.key)

    async def snapshots(self, caller: Principal, run_id: str, before: int | None, limit: int) -> list[SnapshotInfo]:
        """List the kept snapshots of a run, newest first, those below sequence `before`."""
        record = await self.get(caller, run_id)
        try:
            found = await self.store.snapshots(record.key, before, limit)
        except StoreError as error:
            raise as_runs_error(error) from error
        # What a fork began with is at 0, which asks for the latest; its origin has it.
        return [info for info in found if info.sequence > 0]

    async def snapshot(self, caller: Principal, run_id: str, sequence: int) -> SnapshotData:
        """Return the last committed snapshot of a run, or the one at `sequence`."""
        record = await self.get(caller, run_id)
        if not 0 <= sequence <= record.last_sequence or 0 < sequence < record.first_available:
            raise SequenceOutOfRangeError(
                "The run's log does not hold this sequence", record.first_available, record.last_sequence
            )
        try:
            stored = await self.store.load(record.key, sequence or None)
        except StoreError as error:
            raise as_runs_error(error) from error
        if stored is None:
            raise SnapshotNotFoundError("No snapshot is kept at this sequence", sequence=sequence)
        version = record.info.get("version", "")
        return SnapshotData(record.workflow, version, run_id, stored.sequence, stored.at, fold(stored))

    def context_of(self, served: Served, parts: Parts, at: float, version: str) -> Context[Any]:
        """Build a context that belongs to no run, to look into a snapshot. RunBlockedError when this code cannot."""
        context: Context[Any] = Context(served.workflow)
        try:
            restore(context._broker, parts, served.names, saved_at=at, fork=True, validate=version != served.version)
        except ContextSerdeError as error:
            raise RunBlockedError(f"The snapshot does not fit the code that is served: {error}") from error
        return context


def _fingerprint(request: StartRequest) -> str:
    snapshot = request.snapshot
    return digest(
        request.workflow,
        readable(request.input or b""),
        request.run_id,
        request.labels,
        request.from_run,
        snapshot.run_id if snapshot else None,
        snapshot.sequence if snapshot else None,
        request.timeout,
    )
