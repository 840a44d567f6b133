"""Start, wait for, list, cancel and delete runs."""

from __future__ import annotations

import asyncio
import contextlib
from dataclasses import replace
from functools import partial
from uuid import uuid4

from stepwire.server.principal import Principal
from stepwire.server.registry import Served
from stepwire.server.runs.errors import (
    DrainingError,
    InvalidError,
    RequestIdReusedError,
    RunBlockedError,
    RunIdTakenError,
    RunNotEndedError,
    RunNotFoundError,
    RunsError,
    SnapshotMismatchError,
    StoreDownError,
    Violation,
    WorkflowNotFoundError,
    as_runs_error,
)
from stepwire.server.runs.hosting.delta import encode_delta
from stepwire.server.runs.hosting.live_run import LiveRun
from stepwire.server.runs.hosting.loading import restore_parts
from stepwire.server.runs.hosting.pool import RunPool
from stepwire.server.runs.idempotency import Fingerprint, Repeats
from stepwire.server.runs.limits import MAX_REASON, RunQuota, check_label_count, check_length, refuse
from stepwire.server.runs.log.chunks import chunks_of
from stepwire.server.runs.payloads import parse_input
from stepwire.server.runs.requests import StartRequest, WaitResult
from stepwire.server.runs.snapshots import RunSnapshots
from stepwire.server.store import (
    TERMINAL,
    Claim,
    Commit,
    RunKey,
    RunQuery,
    RunRecord,
    StaleClaimError,
    Status,
    StoreError,
)
from stepwire.workflow.hosting import (
    CLOCK,
    LogEntry,
    SnapshotError,
    WorkflowCancelledEvent,
    event_to_json,
    parts,
    role_of,
)
from stepwire.workflow.hosting import TERMINAL as ENDING

_CLAIMS = 16
"""How often a cancel claims a run that cannot be loaded, while other calls claim it to load it."""


class RunLifecycle:
    """Begin and end runs for callers. Raises `RunsError`s."""

    def __init__(self, pool: RunPool, snapshots: RunSnapshots, repeats: Repeats, quota: RunQuota) -> None:
        """Work on the runs of a pool.

        Args:
            pool: The runs in memory.
            snapshots: What runs can start from.
            repeats: Finds the runs of requests that come again.
            quota: Counts the unfinished runs of each caller.
        """
        self._pool = pool
        self._snapshots = snapshots
        self._repeats = repeats
        self._quota = quota
        self._ending: dict[RunKey, asyncio.Future[RunRecord]] = {}
        """Blocked runs that are being cancelled."""

    async def start(self, caller: Principal, request: StartRequest) -> RunRecord:
        """Start a run, and return its record once it is durable.

        A repeat of a request_id returns the run that the first one started.

        Raises:
            WorkflowNotFoundError: The caller sees no such workflow.
            RunIdTakenError: A run with this run_id exists.
            RequestIdReusedError: The request_id came before with another request.
            InvalidError: The input or the snapshot is not valid.
            DrainingError: The server is stopping.
        """
        request.check()
        served = self._pool.registry.get(request.workflow)
        if served is None or not caller.scopes.sees(request.workflow):
            raise WorkflowNotFoundError("No workflow of this name is served", workflow=request.workflow[:128])
        fingerprint = Fingerprint.of_start(request) if request.request_id else None
        if (known := await self._repeated(caller, served, request, fingerprint)) is not None:
            return known
        if request.run_id and (existing := await self._existing(caller, request.run_id)) is not None:
            return await self._taken(caller, served, request, fingerprint, existing)
        while True:
            try:
                with self._quota.starting(caller):
                    run = await self._new(caller, served, request, fingerprint)
                    await run.committed()
                return run.record
            except RequestIdReusedError:
                known = await self._repeated(caller, served, request, fingerprint)
                if known is None:
                    raise
                return known
            except RunIdTakenError:
                existing = await self._existing(caller, request.run_id)
                if existing is not None:
                    return await self._taken(caller, served, request, fingerprint, existing)
                # The other start with this id failed before it was durable, so the id is free.

    async def _existing(self, caller: Principal, run_id: str) -> RunRecord | None:
        """Return the run that has this id. Raise RunIdTakenError if the caller may not see it."""
        key = caller.key(run_id)
        run = self._pool.in_memory(key)
        if run is not None and not run.created:
            with contextlib.suppress(RunsError):  # another start of it is under way, and may fail
                await run.committed()
        existing = await self._pool.find(key)
        if existing is not None and not caller.scopes.sees(existing.workflow):
            raise RunIdTakenError("A run with this run_id exists", run_id=run_id)
        return existing

    async def _taken(
        self,
        caller: Principal,
        served: Served,
        request: StartRequest,
        fingerprint: Fingerprint | None,
        existing: RunRecord,
    ) -> RunRecord:
        """Answer a start whose run_id is taken: with the run if that is what was asked for, else RunIdTakenError."""
        # The same request may have started it just now, while this repeat was on its way.
        if (known := await self._repeated(caller, served, request, fingerprint)) is not None:
            return known
        if request.use_existing:
            return existing
        raise RunIdTakenError("A run with this run_id exists", run_id=request.run_id)

    async def _repeated(
        self, caller: Principal, served: Served, request: StartRequest, fingerprint: Fingerprint | None
    ) -> RunRecord | None:
        """Return the run that the same request started before, if any.

        Raise RequestIdReusedError if another request came with this request_id.
        """
        if fingerprint is None:
            return None
        event = partial(parse_input, served, request.input or b"")
        known = await self._repeats.of_start(caller.namespace, request.request_id, fingerprint, event)
        # The live record may be ahead of the one that was read.
        run = None if known is None else self._pool.in_memory(known.key)
        return run.record if run is not None and run.created else known

    async def _new(
        self, caller: Principal, served: Served, request: StartRequest, fingerprint: Fingerprint | None
    ) -> LiveRun:
        snapshot = request.snapshot
        if request.from_run is not None:
            snapshot = await self._snapshots.get(caller, *request.from_run)
        received = None
        if snapshot is not None:
            if snapshot.workflow != served.name:
                raise SnapshotMismatchError("The snapshot is of another workflow", workflow=served.name)
            ended = "outcome" in snapshot.parts.get(parts.HEAD, {})
            if ended != (request.input is not None):
                message = (
                    "A run that had ended starts anew and needs an input"
                    if ended
                    else "A run goes on from this snapshot and takes no input"
                )
                raise InvalidError("INVALID_REQUEST", message, [Violation("input", message)])
        if snapshot is None or request.input is not None:
            received = await parse_input(served, request.input or b"")
        if self._pool.draining:
            raise DrainingError("The server is stopping and starts no runs")
        at = CLOCK.now()
        key = caller.key(request.run_id or uuid4().hex)
        if self._pool.in_memory(key) is not None:
            raise RunIdTakenError("A run with this run_id exists", run_id=key.run_id)
        record = RunRecord(
            key=key,
            workflow=served.name,
            status=Status.RUNNING,
            created_at=at,
            updated_at=at,
            labels=dict(request.labels),
            start_request_id=request.request_id,
            start_digest="" if fingerprint is None else fingerprint.text,
            info={"version": served.version, "principal": caller.name},
        )
        if request.trace:
            record.info["trace"] = dict(request.trace)
        run = self._pool.host(served, record, None)
        if snapshot is not None:
            record.info["forked_from"] = {"run_id": snapshot.run_id, "sequence": snapshot.sequence}
            try:
                restore_parts(served, run.broker, snapshot.parts, snapshot.at, snapshot.version, fork=True)
            except SnapshotError as error:
                raise InvalidError("INVALID_SNAPSHOT", str(error)) from error
        run.make_durable()
        timeout = request.timeout if request.timeout is not None else served.timeout
        self._pool.add(run)
        if received is not None:
            if run.broker.outcome is not None:
                run.broker.prepare()
            run.take_in(received)
            run.broker.begin(received.event, timeout)
        else:
            # The log of a fork begins anew: a reader of its stream must see the questions that are open.
            for waiter in list(run.broker.waits):
                if waiter.prompt is not None:
                    run.broker.write(waiter.prompt)
        run.changed()
        self._pool.slots.admit(run)
        return run

    async def wait(self, caller: Principal, run_id: str, timeout: float | None) -> WaitResult:
        """Wait until a run has ended, but at most `timeout` seconds; None waits for as long as it takes."""
        await self._pool.check_seen(caller, run_id)
        key = caller.key(run_id)
        time = asyncio.get_running_loop().time
        end = None if timeout is None else time() + timeout
        feed = await self._pool.feeds.open(key)
        try:
            while True:
                record = self._pool.feeds.record(key, feed)
                if record.status in TERMINAL:
                    return WaitResult(record, False)
                left = None if end is None else end - time()
                if (left is not None and left <= 0) or not await self._pool.feeds.news(feed, left):
                    return WaitResult(self._pool.feeds.record(key, feed), True)
        finally:
            self._pool.feeds.close(key, feed)

    async def list_runs(self, query: RunQuery) -> list[RunRecord]:
        """List runs, newest first. Raise InvalidError for more labels than a run may have."""
        refuse(check_label_count(query.labels))
        try:
            return await self._pool.store.list(query)
        except StoreError as error:
            raise as_runs_error(error) from error

    async def cancel(self, caller: Principal, run_id: str, reason: str) -> RunRecord:
        """Cancel a run, and return its record once that is durable. A run that has ended stays as it is."""
        refuse(check_length("reason", reason, MAX_REASON))
        try:
            run = await self._pool.reach(caller, run_id)
        except RunBlockedError:
            return await self._cancel_blocked(caller.key(run_id), reason)
        if isinstance(run, RunRecord):
            return run
        run.cancel(reason)
        if run.paused:
            run.go()
        await run.committed()
        return run.record

    async def _cancel_blocked(self, key: RunKey, reason: str) -> RunRecord:
        """End a run that cannot be loaded, without its code, once however many callers ask."""
        ending = self._ending.get(key)
        if ending is None:
            ending = self._ending[key] = asyncio.ensure_future(self._end_blocked(key, reason))
            ending.add_done_callback(lambda _: self._ending.pop(key, None))
        return await asyncio.shield(ending)

    async def _end_blocked(self, key: RunKey, reason: str) -> RunRecord:
        for _ in range(_CLAIMS):
            claim = await self._pool.store.claim(key)
            record = await self._pool.store.get(key)  # only now: another call may have ended it
            if claim is None or record is None:
                raise RunNotFoundError(key.run_id)
            if record.status in TERMINAL:
                return record
            commit = self._cancelling(record, claim, reason)
            try:
                await self._pool.store.commit(commit)
            except StaleClaimError:  # another call has claimed the run, to see whether it can be loaded
                continue
            self._pool.metrics.workflow(record.workflow).moved(record.status, Status.CANCELLED, ended=True)
            self._pool.feeds.committed(commit)
            return commit.record
        raise StoreDownError("Others claim the run at the same time; retry")

    def _cancelling(self, record: RunRecord, claim: Claim, reason: str) -> Commit:
        """Return the commit that ends a run as cancelled."""
        event = WorkflowCancelledEvent(reason=reason)
        name = type(event).__name__
        outcome = {"status": Status.CANCELLED, "event_type": name, "reason": reason}
        at = CLOCK.now()
        sequence = record.last_sequence + 1
        entry = LogEntry(sequence, at, ENDING, name, event_to_json(event), "", 0, role_of(type(event)).number)
        ended = replace(
            record,
            status=Status.CANCELLED,
            updated_at=at,
            ended_at=at,
            wake_at=None,
            last_sequence=sequence,
            info={name: value for name, value in record.info.items() if name != "pending"} | {"outcome": outcome},
            pending={},
        )
        return Commit(ended, claim, encode_delta({}), False, chunks_of([entry], self._pool.codec))

    async def delete(self, caller: Principal, run_id: str) -> None:
        """Delete an ended run with its log and snapshots.

        Raises:
            RunNotFoundError: The caller sees no such run.
            RunNotEndedError: The run has not ended.
        """
        record = await self._pool.get(caller, run_id)
        if record.status not in TERMINAL:
            raise RunNotEndedError("Only a run that has ended can be deleted: cancel it first", run_id=run_id)
        try:
            deleted = await self._pool.store.delete(record.key)
        except StoreError as error:
            raise as_runs_error(error) from error
        if not deleted:
            raise RunNotFoundError(run_id)
