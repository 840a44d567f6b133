"""One replica among those that share a PostgreSQL database; a `Cluster`."""

from __future__ import annotations

import asyncio
import json
import logging
from collections.abc import Awaitable, Callable, Collection, Mapping, Sequence
from typing import Any, Final

import asyncpg

from stepwire.server.store.cluster import ChangeListener, Check, Differences, News, NewsListener, Owner, Peer, Room
from stepwire.server.store.errors import (
    AddressTakenError,
    StoreError,
    StoreUnavailableError,
    StoreUnreadableError,
    level_of,
)
from stepwire.server.store.postgres import claiming
from stepwire.server.store.postgres.beating import Beats, Reports, Sight, boot_time
from stepwire.server.store.postgres.connections import LOST, PATIENCE, connect, refused, unavailable
from stepwire.server.store.postgres.meeting import Meeting
from stepwire.server.store.postgres.reach import Reach, Source
from stepwire.server.store.postgres.run_queries import Fetch
from stepwire.server.store.postgres.schema import CHANNEL
from stepwire.server.store.postgres.takeovers import Takeovers
from stepwire.server.store.records import Allowance, Claim, RunKey
from stepwire.workflow.hosting import start_task

__all__ = ["LEASE", "Membership"]

log = logging.getLogger(__name__)

LEASE: Final = 3.0
"""Seconds without a beat after which a replica is taken for dead."""
FENCE: Final = 0.3
"""The share of the lease for which an acknowledged beat proves that no other replica can have taken a run. A replica
whose session has ended is taken for dead after a third."""
LEAST_ALLOWED: Final = 32
"""The fewest runs of an allowance: below, the database counts in each group of new runs, which costs less."""
_JOIN_SECONDS: Final = 35.0
"""How long joining may take: a database that is not there is waited for."""
_LEAVE_SECONDS: Final = 2.0
_CHECK_PAUSE: Final = 0.2
_ANEW_SECONDS: Final = 10.0
"""How long a query over a connection of its own may take."""
_KEPT: Final = 256
"""Addresses to remember, also of replicas that are gone."""


class Membership:
    """Know the other replicas, and what they do to runs. Alone until `join`."""

    shared = True

    def __init__(
        self,
        dsn: str,
        read: Fetch,
        change: Fetch,
        freed: Callable[[], Awaitable[None]],
        version_of: Callable[[Claim], int],
        reach: Reach,
        lease: float,
        on_clock: Callable[[float], None],
    ) -> None:
        """Make a membership that has not joined.

        Args:
            dsn: The database.
            read: Executes queries.
            change: Executes statements that may be executed again.
            freed: Waits until the runs that were released are free.
            version_of: Returns how many commits of a run were acknowledged under its claim; 0 if that is not known.
            reach: Hears how beats go.
            lease: Seconds without a beat after which a replica is taken for dead.
            on_clock: Called with the database's time, in seconds since the epoch, now and then.
        """
        self.me = 0
        self.peers: Sequence[Peer] = ()
        self.rank = 0
        self.size = 1
        self.took_over = Takeovers(self._lives)
        self._anew = False
        """Whether this replica was taken for dead, and has no number yet."""
        self._addresses: dict[int, str] = {}
        """Where replicas are or were reached, the last ones by id."""
        self._dsn = dsn
        self._read = read
        self._change = change
        self._freed = freed
        self._version_of = version_of
        self._reach = reach
        self._fence = lease * FENCE
        self._lease = lease
        self._on_clock = on_clock
        self._beats: Beats | None = None
        self._joined: asyncio.Future[None] | None = None
        self._holders: list[asyncio.Future[None]] = []
        self._changes: list[ChangeListener] = []
        self._deaths: list[ChangeListener] = []
        self._checks: list[Check] = []
        self._checked = 0
        """The session of the beats for which what memory holds was compared with the database."""
        self._checking: asyncio.Task[None] | None = None
        self._news: list[NewsListener] = []

    @property
    def takeovers(self) -> int:
        """Return how many runs this replica took over from dead ones, or by force."""
        return self.took_over.count

    @property
    def beat_age(self) -> float:
        """Return how old the last acknowledged beat is, in seconds; 0.0 before the first. From any thread."""
        beats = self._beats
        return boot_time() - beats.last if beats is not None and beats.last else 0.0

    @property
    def fresh(self) -> bool:
        """Whether what memory holds is true.

        The last acknowledged beat is so young that no other replica can have taken a run, and memory was compared with
        the database since the session of the beats began.
        """
        beats = self._beats
        if beats is None:
            return True
        return self._checked == beats.session and boot_time() - beats.acknowledged < self._fence

    async def hold(self) -> None:
        """Wait until `fresh`. StoreUnreadableError after PATIENCE seconds."""
        loop = asyncio.get_running_loop()
        deadline = loop.time() + PATIENCE
        while not self.fresh and self._beats is not None:
            holder: asyncio.Future[None] = loop.create_future()
            self._holders.append(holder)
            if self._checked == self._beats.session:
                self._beats.wanted()
            try:
                async with asyncio.timeout_at(deadline):
                    await holder
            except TimeoutError:
                raise StoreUnreadableError("the database does not take this replica's beats") from None

    async def outwait(self) -> None:
        """Wait until the replica that a run was taken from by force has heard of it, or answers from memory no more.

        That one hears it with its next beat, and without one that is acknowledged it waits.
        """
        await asyncio.sleep(1.1 * self._fence)

    async def join(self, address: str, versions: Mapping[str, str]) -> None:
        """Become a replica, and begin to beat."""
        loop = asyncio.get_running_loop()
        reports = Reports(
            self._seen, self._refused, self._died, self._heard, self._beaten, self._opened, self._lost, self._found
        )
        self._joined = loop.create_future()
        self._beats = Beats(self._dsn, address, versions, self._lease, reports, loop)
        self._beats.start()
        try:
            async with asyncio.timeout(_JOIN_SECONDS):
                await self._joined
        except TimeoutError:
            raise StoreUnavailableError("the database does not take this replica's beats") from None
        log.info("replica %d at %s, beside %d other%s", self.me, address, len(self.peers), "s" * (len(self.peers) != 1))

    async def drain(self) -> None:
        """Tell the others that this replica takes no more runs, and that there may be some to take."""
        if self._beats is not None:
            self._beats.drain()
            self.rank = -1

    async def released(self) -> None:
        """Return once the runs that were released are free, and the others know that there are runs to take."""
        await self._freed()
        await self._change("SELECT pg_notify($1, '[\"changed\"]')", CHANNEL)

    def claimed(self, key: RunKey, owner: int | None) -> None:
        """Note that this replica claimed a run, and which other one had it."""
        if owner is not None:
            self.took_over.note(key, owner, self._addresses.get(owner, ""), lives=self._lives(owner))

    def _lives(self, replica: int) -> bool:
        return any(peer.id == replica for peer in self.peers)

    async def leave(self) -> None:
        """Sign off, and stop beating."""
        self.took_over.close()
        beats = self._beats
        if beats is None:
            return
        if self._checking is not None:
            self._checking.cancel()
        beats.stop()
        await asyncio.to_thread(beats.join, _LEAVE_SECONDS)
        self._beats = None
        self.me = 0
        self._beaten()  # no beat comes any more for which anybody could wait

    def on_change(self, listener: ChangeListener) -> None:
        """Have a listener called when replicas came or went, or when there may be runs to take."""
        self._changes.append(listener)

    def on_death(self, listener: ChangeListener) -> None:
        """Have a listener called when the others took this replica for dead."""
        self._deaths.append(listener)

    def on_return(self, check: Check) -> None:
        """Have something awaited when the database was found, or found again."""
        self._checks.append(check)

    def on_news(self, listener: NewsListener) -> None:
        """Have a listener called with what other replicas did to runs."""
        self._news.append(listener)

    async def owners(self, keys: Collection[RunKey]) -> Mapping[RunKey, Owner]:
        """Return the living owners of runs, other than this replica."""
        meeting = Meeting(self)
        while True:
            found = await claiming.owners(self._read, keys, self.me)
            if await meeting.over(owner.id for owner in found.values()):
                return {key: owner for key, owner in found.items() if self.knows(owner.id)}

    def knows(self, replica: int) -> bool:
        """Tell whether a replica was seen to beat, and lives."""
        return any(peer.id == replica for peer in self.peers)

    def look(self) -> None:
        """Have a look at the other replicas at once."""
        if self._beats is not None:
            self._beats.wanted()

    async def serving(self, workflow: str, code: str | None) -> Sequence[Owner]:
        """Return the other replicas that take runs and serve this very code of a workflow; None: any code."""
        meeting = Meeting(self)
        while True:
            rows = await self._read(
                "SELECT id, address FROM replicas WHERE NOT draining AND id <> $1"
                " AND versions ->> $2 = coalesce($3, versions ->> $2) ORDER BY id",
                self.me,
                workflow,
                code,
            )
            if await meeting.over(row[0] for row in rows):
                return [Owner(*row) for row in rows if self.knows(row[0])]

    async def compare(self, held: Collection[Claim], *, anew: bool = False) -> Differences:
        """Compare the runs that this replica holds with those that the database says are its own."""
        fetch = self._read_anew if anew else self._read
        return await claiming.compare(fetch, self.me, held, self._version_of)

    async def _read_anew(self, query: str, *values: Any) -> Sequence[Any]:
        """Execute a query over a connection of its own: others may still lead to the primary of before."""
        try:
            async with asyncio.timeout(_ANEW_SECONDS):
                connection = await connect(self._dsn)
                try:
                    return list(await connection.fetch(query, *values))
                finally:
                    connection.terminate()
        except LOST as error:
            raise unavailable(error) from error
        except asyncpg.PostgresError as error:
            raise refused(error) from error

    async def take_places(self, workflow: str, most: int, keys: Collection[RunKey]) -> Collection[RunKey]:
        """Give the free places of a workflow to its queued runs; return which of `keys` have one."""
        await self._change("SELECT take_places($1, $2)", workflow, most)
        rows = await self._change(
            """SELECT namespace, run_id FROM unnest($1::text[], $2::text[]) AS t (namespace, run_id)
            JOIN runs USING (namespace, run_id) JOIN places ON run = pk""",
            [key.namespace for key in keys],
            [key.run_id for key in keys],
        )
        return {RunKey(*row) for row in rows}

    async def adopt_places(self, workflow: str) -> None:
        """Give places to the runs of a workflow that are under way without one: it had no limit when they began."""
        await self._change(
            """INSERT INTO places (run, workflow) SELECT pk, $1 FROM runs
            WHERE workflow = $1
            AND (status IN ('RUNNING', 'WAITING') OR (status = 'PAUSED' AND info NOT LIKE '%"queued":true%'))
            ON CONFLICT DO NOTHING""",
            workflow,
        )

    async def room_for(self, namespace: str, principal: str, most: int) -> Room:
        """Return how many runs a caller may start, and take an allowance if these are many."""
        ((left, allowance, runs),) = await self._change(
            "SELECT room, allowance, runs FROM allow_runs($1, $2, $3, $4)", namespace, principal, most, LEAST_ALLOWED
        )
        return Room(left, None if allowance is None else Allowance(allowance, runs))

    async def announce(self, kind: str, keys: Sequence[RunKey], first: int = 0) -> None:
        """Tell the other replicas what was done to runs."""
        if self._beats is not None and self.peers:
            texts = [json.dumps([kind, self.me, *key, first]) for key in keys]
            await self._change("SELECT pg_notify($1, text) FROM unnest($2::text[]) AS t (text)", CHANNEL, texts)

    async def undone(self, ends: Mapping[RunKey, int]) -> None:
        """Tell the other replicas that logs end earlier than they did; -1 for a run that is gone."""
        texts = [json.dumps(["undone" if end >= 0 else "deleted", self.me, *key, end]) for key, end in ends.items()]
        await self._change("SELECT pg_notify($1, text) FROM unnest($2::text[]) AS t (text)", CHANNEL, texts)

    # -- what the thread reports --------------------------------------------------------------------------------------

    def _seen(self, sight: Sight) -> None:
        if self._anew and sight.me:
            self._anew = False
            log.info("this replica is replica %d now", sight.me)
        self.me = sight.me
        self.peers = tuple(each for each in sight.replicas if each.id != sight.me)
        self._addresses.update({each.id: each.address for each in self.peers})
        while len(self._addresses) > _KEPT:
            del self._addresses[min(self._addresses)]
        taking = [each.id for each in sight.replicas if not each.draining]
        self.rank = taking.index(sight.me) if sight.me in taking else -1
        self.size = max(1, len(taking))
        if sight.now:
            self._on_clock(sight.now)
        if self._joined is not None and not self._joined.done():
            self._joined.set_result(None)
        self._changed()

    def _changed(self) -> None:
        for listener in self._changes:
            listener()

    def _refused(self, error: AddressTakenError) -> None:
        if self._joined is not None and not self._joined.done():
            self._joined.set_exception(error)

    def _died(self) -> None:
        self.me, self._anew = 0, True
        for listener in self._deaths:
            listener()

    def _beaten(self) -> None:
        holders, self._holders = self._holders, []
        for holder in holders:
            if not holder.done():
                holder.set_result(None)

    def _opened(self, session: int) -> None:
        if self._checking is not None:
            self._checking.cancel()
        self._checking = start_task(self._check(session), name="stepwire-check")

    async def _check(self, session: int) -> None:
        """Have what memory holds compared with the database, whatever comes; then it may be answered from again."""
        while True:
            try:
                for check in self._checks:
                    await check()
                break
            except StoreError as error:
                log.log(level_of(error), "cannot compare the runs in memory with the database: %s", error)
                await asyncio.sleep(_CHECK_PAUSE)
        self._checked = session
        self._beaten()

    def _lost(self, failure: StoreError) -> None:
        self._reach.lost(Source.BEAT, failure)

    def _found(self) -> None:
        self._reach.found(Source.BEAT)

    def _heard(self, payload: str | None) -> None:
        if payload is None:
            self._tell(News("missed", RunKey("", "")))
            return
        try:
            kind, *about = json.loads(payload)
            if kind == "changed":
                self._changed()
            elif about[0] != self.me or not self.me:
                first = about[3] if len(about) > 3 else 0
                self._tell(News(kind, RunKey(about[1], about[2]), first))
        except (ValueError, TypeError, IndexError):
            log.warning("another replica told something that this one does not understand")

    def _tell(self, news: News) -> None:
        for listener in self._news:
            listener(news)
