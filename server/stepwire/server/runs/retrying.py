"""Retry ended runs: start another run that goes on with what the first one left in progress."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from uuid import UUID, uuid5

from stepwire.server.principal import Principal
from stepwire.server.runs.errors import RunNotRetryableError, as_runs_error
from stepwire.server.runs.hosting.commits.delta import encode_delta
from stepwire.server.runs.hosting.pool import RunPool
from stepwire.server.runs.lifecycle import RunLifecycle
from stepwire.server.runs.record_changes import amend
from stepwire.server.runs.requests import StartRequest
from stepwire.server.runs.snapshots import RunSnapshots
from stepwire.server.store import Claim, Commit, RunKey, RunRecord, Status, StoreError
from stepwire.workflow.hosting import can_retry, parts

__all__ = ["RETRIED_AS", "RunRetries", "RunRetry"]

RETRIED_AS = "retried_as"
"""In the record of a run: the ids of the runs that retry it."""

_RETRYABLE = frozenset({Status.FAILED, Status.TIMED_OUT, Status.CANCELLED})
_NAMESPACE = UUID("6f0f5a4e-3a53-5f0e-9d53-7374657077b2")
"""Makes ids of runs from what they retry, so that all calls that retry the same start the same run."""


@dataclass(frozen=True, slots=True, kw_only=True)
class RunRetry:
    """Retry a run.

    Attributes:
        run_id: The run that ended.
        at: The sequence to go on from; 0 for the end.
        request_id: Repeats under this id return the run that the first request started.
        labels: Labels of the new run, added to those of the first.
        trace: The trace context of the caller.
    """

    run_id: str
    at: int = 0
    request_id: str = ""
    labels: dict[str, str] = field(default_factory=dict)
    trace: dict[str, str] = field(default_factory=dict)


class RunRetries:
    """Retry runs for callers. Raises `RunsError`s."""

    def __init__(self, pool: RunPool, snapshots: RunSnapshots, lifecycle: RunLifecycle) -> None:
        self._pool = pool
        self._snapshots = snapshots
        self._lifecycle = lifecycle

    async def retry(self, caller: Principal, request: RunRetry) -> RunRecord:
        """Start a run that goes on from what failed; return its record once that is durable.

        The id of the new run is made from the first run and the sequence. So whatever calls come, at the same time or
        after a crash, they start one run.

        Raises:
            RunNotFoundError: The caller sees no such run.
            RunNotRetryableError: The run has not ended, has completed, or left nothing to go on with.
            RunsError: As `RunSnapshots.of` and `RunLifecycle.start`.
        """
        key = caller.key(request.run_id)
        record = await self._pool.records.get(caller, request.run_id)
        if record.status not in _RETRYABLE:
            now = "has completed" if record.status == Status.COMPLETED else "has not ended"
            message = f"Only a run that failed, timed out or was cancelled can be retried; this one {now}"
            raise RunNotRetryableError(message, run_id=request.run_id, status=record.status)
        if (run := self._pool.in_memory(key)) is not None and not run.gone:
            await run.commits.wait()  # the link must not fence off a commit of the run itself
        sequence = request.at or record.last_sequence
        retry_id = uuid5(_NAMESPACE, f"{key.namespace}/{key.run_id}/{record.created_at!r}/{sequence}").hex
        retried = None if request.request_id else await self._pool.records.find(caller.key(retry_id))
        if retried is None:
            snapshot = await self._snapshots.of(record, sequence)
            if not can_retry(snapshot.parts[parts.HEAD]):
                raise RunNotRetryableError(
                    await self._nothing_left(record), run_id=request.run_id, status=record.status
                )
            start = StartRequest(
                workflow=record.workflow,
                run_id=retry_id,
                use_existing=True,
                request_id=request.request_id,
                labels={**record.labels, **request.labels},
                snapshot=snapshot,
                retry=True,
                trace=request.trace,
            )
            retried = await self._lifecycle.start(caller, start)
        if retry_id not in record.info.get(RETRIED_AS, ()):
            await self._link(key, record.created_at, retry_id)
        return retried

    async def _nothing_left(self, record: RunRecord) -> str:
        """Say from where a run can be retried whose last snapshot has nothing to go on with."""
        try:
            found = await self._pool.store.snapshots(record.key, record.last_sequence, 1)
        except StoreError as error:
            raise as_runs_error(error) from error
        why = "The run left nothing in progress: a limit of the server ended it, or a state that cannot be saved"
        if not found:
            return f"{why}. No snapshot of before its end is kept: start a new run"
        return (
            f"{why}. Retry it at sequence {found[0].sequence} (at_sequence, --at), the newest snapshot of before its"
            " end; steps that it has finished since then run again"
        )

    async def _link(self, key: RunKey, created_at: float, retry_id: str) -> None:
        """Note in the record of the first run which run retries it. A repeat mends a link that a crash prevented."""

        async def change(record: RunRecord, claim: Claim) -> Commit | None:
            links = record.info.get(RETRIED_AS, [])
            if record.created_at != created_at or retry_id in links:
                return None  # it was deleted, and another run has its id; or another call has linked them
            linked = replace(record, info={**record.info, RETRIED_AS: [*links, retry_id]})
            return Commit(linked, claim, encode_delta({}), False)

        try:
            _, commit = await amend(self._pool.store, key, change)
        except StoreError as error:
            raise as_runs_error(error) from error
        if commit is not None:
            self._pool.records.amended(commit)
