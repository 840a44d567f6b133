"""Load runs, each once however many callers ask for it, and remember why this process dropped them before."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from functools import partial
from typing import Protocol

from stepwire.server.registry import Served
from stepwire.server.runs.errors import (
    DrainingError,
    RunBlockedError,
    RunElsewhereError,
    RunLeftError,
    RunNotFoundError,
    as_runs_error,
)
from stepwire.server.runs.hosting.commits.committed_records import CommittedRecords
from stepwire.server.runs.hosting.live_run import LiveRun
from stepwire.server.runs.hosting.loading.from_store import RunLoader
from stepwire.server.runs.hosting.loading.restoring import forget
from stepwire.server.runs.hosting.replicas.routes import Routes
from stepwire.server.runs.hosting.slots.concurrency import RunSlots
from stepwire.server.runs.hosting.slots.shared_slots import SharedSlots
from stepwire.server.runs.log.feed import Feeds
from stepwire.server.store import (
    TERMINAL,
    Cluster,
    CommitTooLargeError,
    RunKey,
    RunRecord,
    RunStore,
    Status,
    StoreError,
)
from stepwire.workflow.hosting import CountLost, one_more, start_task

__all__ = ["SingleLoads"]


class Pool(Protocol):
    """Where the runs go that are loaded."""

    store: RunStore
    cluster: Cluster
    records: CommittedRecords
    feeds: Feeds
    routes: Routes
    slots: RunSlots | SharedSlots
    draining: bool

    def served(self, workflow: str) -> Served | None:
        """Return a workflow that this server runs."""

    def add(self, run: LiveRun) -> None:
        """Hold a run from here on."""


def _everything(workflow: str) -> bool:
    """See every workflow."""
    return True


class SingleLoads:
    """Load the runs of one pool. Raises `RunsError`s."""

    def __init__(self, pool: Pool, loader: RunLoader) -> None:
        self._pool = pool
        self._loader = loader
        self._loading: dict[RunKey, asyncio.Future[LiveRun | RunRecord]] = {}
        self._too_large: dict[RunKey, str] = {}
        """Runs that this process dropped because a commit of theirs was too large: they fail when they are back."""
        self._dropped: dict[RunKey, CountLost] = {}
        """Runs that this process dropped after a failed commit, and how that counts: a store's failure does not."""
        self.forgiven: set[RunKey] = set()
        """Runs to load although loading them has crashed the process: someone asks for it by hand."""

    def dropped(self, key: RunKey, error: BaseException) -> None:
        """Note that a commit of a run failed, and with what: the run may be in the store all the same."""
        self._dropped[key] = forget if isinstance(error, StoreError) else one_more
        if isinstance(error, CommitTooLargeError):
            self._too_large[key] = str(error)

    def under_way(self, key: RunKey) -> asyncio.Future[LiveRun | RunRecord] | None:
        """Return the load of a run that has begun and has not ended."""
        return self._loading.get(key)

    async def load(self, key: RunKey, sees: Callable[[str], bool] = _everything) -> LiveRun | RunRecord:
        """Load a run, once however many callers ask; of a run that has ended, return the record.

        Args:
            key: The run.
            sees: Tells whether the caller may see a workflow. A run of another workflow is not loaded.

        Raises:
            RunsError: As `RunPool.reach`.
        """
        loading = self._loading.get(key)
        if loading is not None and _failed(loading):
            # It is forgotten on the next turn of the loop. Until then it would fail again and again, without a turn.
            loading = None
        joined = loading is not None
        if loading is None:
            loading = start_task(self._load(key, sees, self._pool.records.known(key)))
            self._loading[key] = loading
            loading.add_done_callback(partial(self._loaded, key))
        try:
            return await asyncio.shield(loading)
        except RunNotFoundError:
            if not joined:
                raise
            return await self.load(key, sees)  # the caller that began the load may see less
        finally:
            # A failure's traceback holds this frame: with the future in it that would be a circle.
            del loading

    def _loaded(self, key: RunKey, loading: asyncio.Future[LiveRun | RunRecord]) -> None:
        if self._loading.get(key) is loading:
            del self._loading[key]
        if not loading.cancelled():
            loading.exception()  # whoever waited for it may have left

    async def done(self, timeout: float) -> None:
        """Wait for the loads under way, at most `timeout` seconds. Once the server drains no other ones begin."""
        if self._loading:
            await asyncio.wait(list(self._loading.values()), timeout=timeout)

    async def _load(
        self, key: RunKey, sees: Callable[[str], bool], record: RunRecord | None = None
    ) -> LiveRun | RunRecord:
        """Load a run; `record` is its record if that was read in the turn of the event loop that began the load."""
        try:
            record = record or await self._pool.store.get(key)
        except StoreError as error:
            raise as_runs_error(error) from error
        if record is None:
            self._pool.slots.free(key)
        if record is None or not sees(record.workflow):
            raise RunNotFoundError(key.run_id)
        # A commit that failed may have been durable all the same, the run's last one too.
        self._pool.feeds.found(record)
        served = self._pool.served(record.workflow)
        if record.status in TERMINAL:
            self._pool.slots.free(key, record.workflow)
            return record
        if self._pool.cluster.shared:
            await self._pool.routes.check(record, served, draining=self._pool.draining)
        if served is None:
            raise RunBlockedError("The run's workflow is not served here", workflow=record.workflow)
        if self._pool.draining:
            raise DrainingError("The server is stopping")
        me = self._pool.cluster.me
        try:
            run = await self._loader.load(
                served,
                record,
                self._dropped.pop(key, None),
                force=self._pool.routes.forced(key),
                forgiving=key in self.forgiven,
            )
        except RunBlockedError:
            self._pool.slots.free(key, served.name)
            raise
        except RunElsewhereError as error:
            self._pool.routes.learn(key, error)
            raise
        if (
            self._pool.cluster.shared
            and run.commits.claim is not None
            and (self._pool.cluster.me != me or self._pool.draining)
        ):
            # Meanwhile the others took this replica for dead, or it began to hand its runs over.
            self._pool.store.release(run.commits.claim)
            raise RunLeftError
        self._pool.add(run)
        if (reason := self._too_large.pop(key, None)) is not None:
            run.broker.exceed(f"a commit of the run is too large: {reason}")
        self._pool.slots.admit(run)
        if record.status == Status.BLOCKED:
            await run.commits.wait()  # until then its record says that it is blocked
        return run


def _failed(loading: asyncio.Future[LiveRun | RunRecord]) -> bool:
    return loading.done() and (loading.cancelled() or loading.exception() is not None)
