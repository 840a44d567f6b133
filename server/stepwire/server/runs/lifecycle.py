"""Start, wait for, list, cancel and delete runs."""

from __future__ import annotations

import asyncio
import contextlib
import math
import os
from functools import partial

from stepwire.server.principal import Principal
from stepwire.server.registry import Served
from stepwire.server.runs.blocked import BlockedRuns
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
    SnapshotMismatchError,
    Violation,
    WorkflowNotFoundError,
    as_runs_error,
)
from stepwire.server.runs.hosting.live_run import LiveRun
from stepwire.server.runs.hosting.pool import RunPool
from stepwire.server.runs.idempotency import Fingerprint, Repeats
from stepwire.server.runs.limits import MAX_REASON, RunQuota, check_label_count, check_label_texts, check_length, refuse
from stepwire.server.runs.origin import ORIGIN
from stepwire.server.runs.payloads import parse_input, unsaved
from stepwire.server.runs.renamed import merged, under_other_names
from stepwire.server.runs.requests import StartRequest, WaitResult
from stepwire.server.runs.snapshots import RunSnapshots
from stepwire.server.store import TERMINAL, Quota, RunKey, RunQuery, RunRecord, Status, StoreError, code_of
from stepwire.workflow.hosting import SerializationError, SnapshotError, parts


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
        self._blocked = BlockedRuns(pool)

    async def start(self, caller: Principal, request: StartRequest, wait: float = 0.0) -> RunRecord:
        """Start a run, and return its record once it is durable.

        A repeat of a request_id returns the run that the first one started.

        Args:
            caller: Who starts it.
            request: What to start.
            wait: Seconds in which the end of a new run may be waited for.

        Raises:
            WorkflowNotFoundError: The caller sees no such workflow.
            RunIdTakenError: A run with this run_id exists.
            RequestIdReusedError: The request_id came before with another request.
            InvalidError: The input or the snapshot is not valid.
            DrainingError: The server is stopping.
        """
        request.check()
        served = self._pool.served(request.workflow)
        if served is not None and served.own != (request.state is not None):
            served = None
        if served is None or not caller.scopes.sees(request.workflow):
            if served is None and caller.scopes.sees(request.workflow):
                await self._pool.routes.for_start_anywhere(request.workflow, request.run_id or request.request_id)
            raise WorkflowNotFoundError(request.workflow, known=filter(caller.scopes.sees, self._pool.registry.names()))
        fingerprint = Fingerprint.of_start(request) if request.request_id else None
        if (known := await self._repeated(caller, served, request, fingerprint)) is not None:
            return known
        if request.run_id and (existing := await self._existing(caller, request.run_id)) is not None:
            return await self._taken(caller, served, request, fingerprint, existing)
        while True:
            try:
                quota = await self._admit(caller) if self._quota.shared else None
                with self._quota.starting(caller):
                    run = await self._new(caller, served, request, fingerprint, quota)
                    if not wait or self._quota.counts_starts:
                        await run.commits.wait()
                if wait:
                    await run.ended(wait)
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

    async def _admit(self, caller: Principal) -> Quota:
        try:
            return await self._quota.admit(caller)
        except StoreError as error:
            raise as_runs_error(error) from error

    async def _existing(self, caller: Principal, run_id: str) -> RunRecord | None:
        """Return the run that has this id. Raise RunIdTakenError if the caller may not see it."""
        key = caller.key(run_id)
        run = self._pool.in_memory(key)
        if run is not None and not run.commits.created:
            with contextlib.suppress(RunsError):  # another start of it is under way, and may fail
                await run.commits.wait()
        existing = await self._pool.records.find(key)
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
        run = None if known is None or self._pool.cluster.shared else self._pool.in_memory(known.key)
        return run.record if run is not None and run.commits.created else known

    async def _new(
        self,
        caller: Principal,
        served: Served,
        request: StartRequest,
        fingerprint: Fingerprint | None,
        quota: Quota | None,
    ) -> LiveRun:
        snapshot = request.snapshot
        if request.from_run is not None:
            snapshot = await self._snapshots.get(caller, *request.from_run)
        received = None
        if snapshot is not None:
            if snapshot.workflow != served.name:
                message = f"The snapshot is of workflow {snapshot.workflow[:128]}, not of {served.name}"
                raise SnapshotMismatchError(message, workflow=served.name, snapshot_workflow=snapshot.workflow[:128])
            ended = "outcome" in snapshot.parts.get(parts.HEAD, {}) and not request.retry
            if ended != (request.input is not None):
                message = (
                    "is missing: the run of this snapshot had ended, so another one starts anew"
                    if ended
                    else "must be empty: the run of this snapshot had not ended, so another one goes on from there"
                )
                raise InvalidError("INVALID_REQUEST", "The request is not valid", [Violation("input", message)])
        if snapshot is None or request.input is not None:
            received = await parse_input(served, request.input or b"")
        self._check_new(key := caller.key(request.run_id or os.urandom(16).hex()), served.name)
        at = self._pool.clock.now()
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
        if request.origin is not None:
            record.info[ORIGIN] = list(request.origin)
        if request.parent is not None:
            record.info["parent"] = request.parent.saved()
        run = self._pool.host(served, record, None)
        if snapshot is not None:
            link = "retried_from" if request.retry else "forked_from"
            record.info[link] = {"run_id": snapshot.run_id, "sequence": snapshot.sequence}
            try:
                await self._pool.restorer.fill(
                    None,
                    served,
                    run.broker,
                    snapshot.parts,
                    snapshot.at,
                    snapshot.version,
                    fork=True,
                    fresh=request.fresh,
                    retry_of=snapshot.run_id if request.retry else "",
                )
            except SnapshotError as error:
                raise InvalidError("INVALID_SNAPSHOT", str(error)) from error
            self._check_new(key, served.name)
        run.make_durable()
        if request.state is not None:
            run.store.apply(list(request.state.items()))
        timeout = request.timeout if request.timeout is not None else served.timeout
        if timeout == math.inf:
            timeout = None
        if received is None and request.fresh and request.timeout is not None:
            run.broker.limit.set(timeout)
        if received is not None:
            try:
                run.encode_start(received)
            except SerializationError as error:
                raise unsaved(error, "INVALID_INPUT", "The input") from error
        self._pool.add(run, quota)
        if received is not None:
            if run.broker.outcome is not None:
                run.broker.prepare()
            run.broker.begin(received.event, timeout)
        else:
            # The log of a fork begins anew: a reader of its stream must see the questions that are open.
            for waiter in list(run.broker.waits):
                if waiter.prompt is not None:
                    run.broker.write(waiter.prompt)
        run.commits.changed()
        self._pool.slots.admit(run)
        return run

    async def wait(self, caller: Principal, run_id: str, timeout: float | None) -> WaitResult:
        """Wait until a run has ended, but at most `timeout` seconds; None waits for as long as it takes."""
        await self._pool.records.check_seen(caller, run_id)
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
        refuse(check_label_count(query.labels) + check_label_texts(query.labels))
        store, others = self._pool.store, under_other_names(query, self._pool.registry)
        try:
            if not others:
                return await store.list(query)
            return merged([await store.list(each) for each in (query, *others)], query.limit)
        except StoreError as error:
            raise as_runs_error(error) from error

    async def reload(self, caller: Principal, run_id: str) -> RunRecord:
        """Have a run written by the code that is served now, and return its record once that is durable.

        A run that is blocked is tried again, also one whose loading crashed the process before.

        Raises:
            RunFinishedError: The run has ended.
            RunBlockedError: This code cannot go on with it; the message says why.
        """
        record = await self._pool.records.get(caller, run_id)
        if record.status in TERMINAL:
            raise RunFinishedError("The run has ended", run_id=run_id)
        self._pool.loads.forgiven.add(record.key)
        try:
            run = await self._pool.reach(caller, run_id)
        finally:
            self._pool.loads.forgiven.discard(record.key)
        if isinstance(run, RunRecord):
            return run  # it went on, and has come to its end meanwhile
        if code_of(run.record.info) != run.served.told:
            run.broker.touch_head()
            run.commits.changed()
        await run.commits.wait()
        return run.record

    async def cancel(self, caller: Principal, run_id: str, reason: str) -> RunRecord:
        """Cancel a run, and return its record once that is durable. A run that has ended stays as it is."""
        refuse(check_length("reason", reason, MAX_REASON))
        try:
            run = await self._pool.reach(caller, run_id)
        except RunBlockedError:
            return await self._blocked.cancel(caller.key(run_id), reason)
        if isinstance(run, RunRecord):
            return run
        run.cancel(reason)
        if run.queued:
            run.go()
        await run.commits.wait()
        return run.record

    def _check_new(self, key: RunKey, workflow: str) -> None:
        """Raise RunIdTakenError if a run of this key is in memory.

        While the server stops raise DrainingError, or RunElsewhereError if another replica can start the run.
        """
        if self._pool.draining:
            self._pool.routes.for_start(workflow, key.run_id, own=True)
            raise DrainingError("The server is stopping and starts no runs")
        if self._pool.in_memory(key) is not None:
            raise RunIdTakenError("A run with this run_id exists", run_id=key.run_id)

    async def delete(self, caller: Principal, run_id: str) -> None:
        """Delete an ended run with its log and snapshots, once its parent was told and its children are cancelled.

        Raises:
            RunNotFoundError: The caller sees no such run.
            RunNotEndedError: The run has not ended.
            RunBlockedError: Its parent has not heard of its end, and is blocked.
            StoreDownError: Its parent or its children cannot be reached now.
        """
        record = await self._pool.records.get(caller, run_id)
        if record.status not in TERMINAL:
            raise RunNotEndedError("Only a run that has ended can be deleted: cancel it first", run_id=run_id)
        if self._pool.family is not None:
            await self._pool.family.settle(record)
        try:
            deleted = await self._pool.store.delete(record.key)
        except StoreError as error:
            raise as_runs_error(error) from error
        if not deleted:
            raise RunNotFoundError(run_id)
