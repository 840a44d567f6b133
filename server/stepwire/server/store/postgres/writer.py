"""Write commits in groups, and again after a lost connection, until their outcome is known.

While a group is under way the next one gathers: a transaction costs PostgreSQL as much as several commits in it. Lanes
write the groups, each on a connection of its own. When a connection is lost while a group is under way, nobody knows
whether it was written. The lane opens another one, looks at each run's version, resolves what is there and sends the
rest again.
"""

from __future__ import annotations

import asyncio
import logging
import random
from collections import deque
from collections.abc import Callable, Sequence
from time import perf_counter
from typing import Any, Final, NamedTuple

import asyncpg

from stepwire.server import failpoints
from stepwire.server.store.completion import notify, resolve
from stepwire.server.store.encoding import encode_commit
from stepwire.server.store.errors import StaleClaimError, StoreError, StoreUnavailableError
from stepwire.server.store.port import CommitListener
from stepwire.server.store.postgres.commit_statements import Row, statement_for
from stepwire.server.store.postgres.connections import (
    LOST,
    Patience,
    WriteConnection,
    connect_for_writes,
    refused,
    unavailable,
)
from stepwire.server.store.postgres.reach import Reach, Source
from stepwire.server.store.records import Claim, Commit
from stepwire.server.telemetry.metrics import StoreMetrics
from stepwire.workflow.hosting import start_task

log = logging.getLogger(__name__)

LANES: Final = 2
"""Groups under way at most. The second one goes only when it is full, or when the first one takes long."""
SLOW_SECONDS: Final = 0.05
"""Seconds after which a group takes long: it waits for a lock, a standby or a lost connection, or is large."""
MAX_ITEMS: Final = 64
MAX_BYTES: Final = 8 << 20
"""A group takes no further commits once it has so many bytes: the first one waits for all of them."""
ENDED_KEPT: Final = 4096
"""Ended runs whose versions are kept: the answer to a request may be committed after the end."""
_PAUSE: Final = (0.05, 0.25)
"""Seconds between tries to connect, at random: many processes reconnect at the same moment."""

_PROBE: Final = "UPDATE probe SET written = written + 1"

Refusal = Callable[[WriteConnection, Row], Any]


class Known(NamedTuple):
    """What is known of a run that was claimed here.

    Attributes:
        token: The claim's token.
        version: How many commits the run has.
        sequence: The last sequence of its last commit.
        asked: Whether it may have rows of questions.
    """

    token: int
    version: int
    sequence: int
    asked: bool


_UNKNOWN: Final = Known(0, 0, 0, True)


class Item:
    """A commit on its way: what is written, who waits, since when."""

    __slots__ = ("at", "future", "row", "size")

    def __init__(self, row: Row, future: asyncio.Future[Claim], size: int) -> None:
        self.row = row
        self.future = future
        self.size = size
        self.at = perf_counter()


class Writer:
    """The lanes of a store. `explain` finds out why a first commit was not written, `reach` hears how commits go."""

    def __init__(self, dsn: str, explain: Refusal, reach: Reach, metrics: StoreMetrics | None = None) -> None:
        self.listeners: list[CommitListener] = []
        self._reach = reach
        self._dsn = dsn
        self._explain = explain
        self._metrics = metrics or StoreMetrics()
        self._queue: list[Item] = []
        self._ready = asyncio.Event()
        self._lanes: list[asyncio.Task[None]] = []
        self.owner: Callable[[], int | None] = lambda: None
        """Returns the replica that new runs belong to."""
        self._known: dict[int, Known] = {}
        """The runs that were claimed here, by handle."""
        self._ended: deque[int] = deque()
        self._brisk: set[int] = set()
        """Lanes with a group under way that does not take long."""
        self._stopping = False

    def start(self) -> None:
        """Begin to write."""
        self._stopping = False
        self._lanes = [start_task(self._lane(n), name=f"stepwire-store-lane-{n}") for n in range(LANES)]

    async def stop(self) -> None:
        """Write what was given until now, then end the lanes."""
        self._stopping = True
        self._ready.set()
        if self._lanes:
            await asyncio.wait(self._lanes)
        self._lanes = []

    async def probe(self) -> None:
        """Write something that changes nothing, as durably as a commit. StoreError when that fails.

        Its connection is its own: those of the lanes may hang, and a lane without commits has none.
        """
        connection: WriteConnection | None = None
        try:
            connection = WriteConnection(await connect_for_writes(self._dsn))
            await connection.fetch(_PROBE)
        except LOST as error:
            raise unavailable(error) from error
        except asyncpg.PostgresError as error:
            raise refused(error) from error
        finally:
            if connection is not None:
                connection.drop()
        self._reach.found(Source.COMMIT)

    def claimed(self, claim: Claim, version: int, sequence: int) -> None:
        """Take in that a run was claimed: its commits go on from this version and this sequence."""
        self._known[claim.handle] = Known(claim.token, version, sequence, True)

    def version_of(self, claim: Claim) -> int:
        """Return how many commits of a run were acknowledged under its claim; 0 if that is not known."""
        known = self._known.get(claim.handle, _UNKNOWN)
        return known.version if known.token == claim.token else 0

    def forget(self, handles: Sequence[int]) -> None:
        """Forget runs that were deleted or released."""
        for handle in handles:
            self._known.pop(handle, None)

    def commit(self, commit: Commit) -> asyncio.Future[Claim]:
        """Have a commit written. Its record is copied here, so the caller may change it at once."""
        future: asyncio.Future[Claim] = asyncio.get_running_loop().create_future()
        if not self._lanes or self._stopping:
            future.set_exception(StoreUnavailableError("the store is not open"))
            return future
        try:
            row, pending, size = encode_commit(commit)
        except StoreError as refused:
            future.set_exception(refused)
            return future
        asks = any(question is not None for question in pending.values())
        if commit.claim is None:
            new = Row(commit, row, pending, 1, random.getrandbits(62), self.owner(), asked=asks, quota=commit.quota)
        else:
            known = self._known.get(commit.claim.handle, _UNKNOWN)
            if known.token != commit.claim.token:
                future.set_exception(_stale(commit))
                return future
            again = row.last_sequence == known.sequence
            new = Row(commit, row, pending, known.version + 1, again=again, asked=known.asked or asks)
        self._queue.append(Item(new, future, size))
        self._metrics.queued += 1
        if self._may_take():
            self._ready.set()
        return future

    async def _lane(self, number: int) -> None:
        connection: WriteConnection | None = None
        loop = asyncio.get_running_loop()
        try:
            while True:
                while not self._may_take():
                    if self._stopping and not self._queue:
                        return
                    self._ready.clear()
                    await self._ready.wait()
                await asyncio.sleep(0)  # take along what else this turn of the loop brings
                if not self._may_take():
                    continue
                group = self._take()
                self._brisk.add(number)
                slow = loop.call_later(SLOW_SECONDS, self._not_brisk, number)
                connection = await self._write_whatever_comes(connection, group)
                slow.cancel()
                self._not_brisk(number)
        finally:
            if connection is not None:
                connection.drop()

    def _may_take(self) -> bool:
        """Say whether a lane should write now, and not have the next group gather."""
        return bool(self._queue) and (not self._brisk or len(self._queue) >= MAX_ITEMS)

    def _not_brisk(self, number: int) -> None:
        """Note that a lane has written its group, or that this takes long."""
        self._brisk.discard(number)
        if self._queue or self._stopping:
            self._ready.set()

    def _take(self) -> list[Item]:
        """Take the first commits."""
        size = count = 0
        for item in self._queue[:MAX_ITEMS]:
            if size >= MAX_BYTES:
                break
            count += 1
            size += item.size
        group, self._queue = self._queue[:count], self._queue[count:]
        return group

    async def _write_whatever_comes(
        self, connection: WriteConnection | None, group: list[Item]
    ) -> WriteConnection | None:
        """Write a group. Whatever is raised fails the group: a lane that died would leave its runs hanging."""
        self._metrics.items.observe(len(group))
        try:
            return await self._write(connection, group)
        except Exception as error:  # see above
            log.exception("a group of commits failed")
            for item in group:
                resolve(item.future, StoreUnavailableError(f"a group of commits failed: {type(error).__name__}"))
            if connection is not None:
                connection.drop()
            return None
        finally:
            self._metrics.queued -= len(group)

    async def _write(self, connection: WriteConnection | None, group: list[Item]) -> WriteConnection | None:
        patience = Patience()
        unknown = False
        while True:
            try:
                if connection is None or connection.closed:
                    connection = WriteConnection(await connect_for_writes(self._dsn, patience.left()))
                connection.seconds = patience.left()
                if unknown:
                    if failpoints.ACTIVE:
                        failpoints.hit("resend.before")
                    group = await self._confirm(connection, group)
                    if not group:
                        return connection
                statement, arrays = statement_for([item.row for item in group])
                found = await connection.fetch(statement, *arrays)
            except LOST as error:
                unknown = True
                self._metrics.resends += 1
                if connection is not None:
                    connection.drop()
                    connection = None
                failure = unavailable(error)
                self._reach.lost(Source.COMMIT, failure)
                if patience.is_over():
                    self._metrics.failures += 1
                    for item in group:
                        resolve(item.future, failure)
                    return None
                await asyncio.sleep(random.uniform(*_PAUSE))
            except asyncpg.PostgresError as error:
                if len(group) > 1:  # the one that is refused must not take the others along
                    half = len(group) // 2
                    connection = await self._write(connection, group[:half])
                    return await self._write(connection, group[half:])
                new = group[0].row.commit.claim is None
                if new and connection is not None and isinstance(error, asyncpg.UniqueViolationError):
                    # It may be this very run: sent before, and written after it was looked for.
                    for item in await self._confirm(connection, group):
                        await self._missing(connection, item)
                    return connection
                self._metrics.failures += 1
                refusal = refused(error)
                if isinstance(refusal, StoreUnavailableError):  # it has no room: the next commit finds none either
                    self._reach.lost(Source.COMMIT, refusal)
                self._refuse(group[0], refusal)
                return connection
            else:
                self._reach.found(Source.COMMIT)
                written: dict[int, int] = dict(map(tuple, found))
                uncounted = []
                for n, item in enumerate(group):
                    if n in written:
                        self._done(item, written[n])
                    elif _without_allowance(item):
                        uncounted.append(item)
                    else:
                        await self._missing(connection, item)
                return await self._write(connection, uncounted) if uncounted else connection

    async def _confirm(self, connection: WriteConnection, group: list[Item]) -> list[Item]:
        """Resolve what was written although its answer was lost; return the rest.

        First comes a write: what it is told to be durable, at a standby too, implies all that was written before.
        """
        await connection.fetch(_PROBE)
        new = [item for item in group if item.row.commit.claim is None]
        there: dict[int, int] = {}
        if new:
            query = """SELECT nonce, pk FROM runs
                WHERE nonce = ANY($1::int8[]) AND namespace = ANY($2::text[]) AND run_id = ANY($3::text[])"""
            rows = [(item.row.nonce, item.row.row.namespace, item.row.row.run_id) for item in new]
            arrays = (list(column) for column in zip(*rows, strict=True))
            there = dict(map(tuple, await connection.fetch(query, *arrays)))
        handles = [item.row.commit.claim.handle for item in group if item.row.commit.claim]
        versions: dict[int, tuple[int, int]] = {}
        if handles:
            query = "SELECT pk, token, version FROM runs WHERE pk = ANY($1::int8[])"
            versions = {pk: (token, version) for pk, token, version in await connection.fetch(query, handles)}
        rest = []
        for item in group:
            claim = item.row.commit.claim
            if claim is None and item.row.nonce in there:
                self._done(item, there[item.row.nonce])
            elif claim is not None and versions.get(claim.handle) == (claim.token, item.row.version):
                self._done(item, claim.handle)
            else:
                rest.append(item)
        return rest

    async def _missing(self, connection: WriteConnection, item: Item) -> None:
        """Tell a commit that was not written why."""
        if item.row.commit.claim is None:
            try:
                self._refuse(item, await self._explain(connection, item.row))
            except LOST as error:
                self._refuse(item, unavailable(error))
        else:
            self._refuse(item, _stale(item.row.commit))

    def _refuse(self, item: Item, error: StoreError) -> None:
        resolve(item.future, error)

    def _done(self, item: Item, pk: int) -> None:
        commit = item.row.commit
        claim = commit.claim or Claim(commit.record.key, 1, pk)
        # The next commit of a run may be made by a listener of this one. Meanwhile the run may have been claimed anew.
        known = Known(claim.token, item.row.version, item.row.row.last_sequence, item.row.asked)
        self._known[claim.handle] = max(known, self._known.get(claim.handle, _UNKNOWN))
        if commit.record.ended_at is not None:
            self._ended.append(claim.handle)
            if len(self._ended) > ENDED_KEPT:
                self._known.pop(self._ended.popleft(), None)
        self._metrics.seconds.observe(perf_counter() - item.at)
        notify(asyncio.get_running_loop(), self.listeners, commit)
        resolve(item.future, claim)


def _without_allowance(item: Item) -> bool:
    """Have a new run counted whose allowance was taken back; return False if it had none."""
    quota = item.row.quota
    if quota is None or quota.allowance is None:
        return False
    quota.allowance.revoked = True
    item.row = item.row._replace(quota=quota._replace(allowance=None))
    return True


def _stale(commit: Commit) -> StaleClaimError:
    return StaleClaimError(f"run {commit.record.key.run_id} was claimed by another or deleted")
