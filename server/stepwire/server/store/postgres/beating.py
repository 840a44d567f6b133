"""Beat: show the other replicas that this one lives, and look which of them do.

Beats come from a thread with an event loop and a connection of its own: a step that blocks the server's event loop must
not look like a dead process. Nobody compares clocks. A replica looks at the counters of the others, and takes one for
dead whose counter stood still for the lease by its own clock *while it kept looking*: its own pause begins the
observation anew. The session of a beat also holds an advisory lock. Where that lock is free, the process or its
connection has ended, and a third of the lease is enough. That holds only for a lock that was seen held in the same
session: a database that was away has lost them all.

No promise rests on this: a commit shows the token of its claim, whoever is taken for dead.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import logging
import threading
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial
from typing import Any, Final, NamedTuple

import asyncpg

from stepwire.server.store.cluster import Peer
from stepwire.server.store.errors import AddressTakenError, StoreError
from stepwire.server.store.postgres.connections import LOST, answered, refused, unavailable
from stepwire.server.store.postgres.joining import HOLD, SESSION, join
from stepwire.server.store.postgres.schema import CHANNEL, LOCK
from stepwire.workflow.hosting import start_task

__all__ = ["Beats", "Reports", "Sight", "boot_time"]

log = logging.getLogger(__name__)

_MOST_SECONDS: Final = 1.0
"""Seconds between two beats at most, however long the lease: health goes by them."""
_QUIET_SECONDS: Final = 2.5
"""How late a beat may be until the database counts as lost. Health waits for 5 seconds in all."""

_MEET_SECONDS: Final = 2.0
"""How long a replica is looked at more often that has a session and was not seen to beat yet."""
_MEET_PAUSE: Final = 0.05
"""Seconds between two such looks."""

_CLOCK: Final = getattr(time, "CLOCK_BOOTTIME", None)

_BEAT: Final = f"""WITH mine AS (UPDATE replicas SET beat = beat + 1, beat_at = clock_timestamp()
        WHERE id = $1 RETURNING id)
    SELECT id, address, beat, versions::text, draining,
        {SESSION}, id IN (SELECT id FROM mine), extract(epoch FROM clock_timestamp())::float8, lease
    FROM replicas ORDER BY id"""


def boot_time() -> float:
    """Return seconds of a clock that also runs while the machine is suspended."""
    return time.monotonic() if _CLOCK is None else time.clock_gettime(_CLOCK)


class Sight(NamedTuple):
    """What a beat found: the id of this replica, the living ones with this one, and the database's clock."""

    me: int
    replicas: tuple[Peer, ...]
    now: float


class Reports(NamedTuple):
    """What is told to the server, each on its event loop.

    Attributes:
        seen: Called with what a beat found, when replicas came or went, and now and then for the clock.
        refused: Called when this replica cannot join, because another one has its address; it beats no more.
        died: Called when the others have taken this replica for dead.
        heard: Called with what another replica told; with None when news may have been lost.
        beaten: Called after a beat for which `Beats.wanted` asked.
        opened: Called with the number of a session in the database, before its first beat: the database may be another
            one than before.
        lost: Called with the reason when beats begin to fail, and when the reason is another one.
        found: Called when they succeed again.
    """

    seen: Callable[[Sight], None]
    refused: Callable[[AddressTakenError], None]
    died: Callable[[], None]
    heard: Callable[[str | None], None]
    beaten: Callable[[], None]
    opened: Callable[[int], None]
    lost: Callable[[StoreError], None]
    found: Callable[[], None]


@dataclass(slots=True)
class _Seen:
    beat: int
    since: float
    held: bool = False
    """Whether its lock was seen held since this session began: after a restart of the database all locks are free."""
    unlocked: float | None = None


class Beats(threading.Thread):
    """Beat until `stop`."""

    def __init__(
        self,
        dsn: str,
        address: str,
        versions: Mapping[str, str],
        lease: float,
        reports: Reports,
        loop: asyncio.AbstractEventLoop,
    ) -> None:
        """Make a thread that is not started.

        Args:
            dsn: The database.
            address: Where other replicas reach this one.
            versions: The version of each served workflow.
            lease: Seconds for which the counter must stand still before this replica is taken for dead.
            reports: Called on `loop`.
            loop: The server's event loop.
        """
        super().__init__(name="stepwire-beats", daemon=True)
        self.acknowledged = 0.0
        """When the last acknowledged beat was sent, by `boot_time`; 0.0 while the session is lost."""
        self.last = 0.0
        """When the last acknowledged beat was sent, by `boot_time`; 0.0 before the first."""
        self.session = 0
        """The number of the session in the database."""
        self.interval = min(lease / 6, _MOST_SECONDS)
        self.me = 0
        self._dsn = dsn
        self._address = address
        self._versions = json.dumps(dict(versions))
        self._lease = lease
        self._reports = reports
        self._server_loop = loop
        self._own_loop: asyncio.AbstractEventLoop | None = None
        self._kicked: asyncio.Event | None = None
        self._stopping = False
        self._asked = False
        self._draining = False
        self._seen: dict[int, _Seen] = {}
        self._met: set[int] = set()
        """Replicas whose counter was seen to change. What is in the table alone does not live: the database may be a
        copy of the one that they beat in."""
        self._strangers: dict[int, float] = {}
        """Since when the other ones are there, by `boot_time`."""
        self._meeting_now = False
        self._looked = 0.0
        self._told: tuple[Any, ...] = ()
        self._told_at = 0.0
        self._lost = ""
        self._alarm: asyncio.TimerHandle | None = None
        self._joined = False
        self._rival = 0
        """The replica that has the address of this one, since this one was taken for dead."""

    # -- from the server's thread -----------------------------------------------------------------------------------

    def wanted(self) -> None:
        """Have a beat at once, and `Reports.beaten` called."""
        self._asked = True
        self._kick()

    def drain(self) -> None:
        """Say with the next beat, at once, that this replica takes no more runs."""
        self._draining = True
        self._kick()

    def stop(self) -> None:
        """Sign off and end, soon."""
        self._stopping = True
        self._kick()

    def _kick(self) -> None:
        loop, kicked = self._own_loop, self._kicked
        if loop is not None and kicked is not None:
            with contextlib.suppress(RuntimeError):  # it has ended
                loop.call_soon_threadsafe(kicked.set)

    # -- in the thread ----------------------------------------------------------------------------------------------

    def run(self) -> None:
        """Beat."""
        asyncio.run(self._run())

    async def _run(self) -> None:
        self._own_loop = asyncio.get_running_loop()
        self._kicked = asyncio.Event()
        while not self._stopping:
            connection: asyncpg.Connection[Any] | None = None
            try:
                connection = await asyncpg.connect(self._dsn, timeout=max(1.0, self._lease), statement_cache_size=8)
                connection.add_termination_listener(self._ended)
                await self._session(connection)
                return
            except AddressTakenError as error:
                if not self._joined:
                    self._tell(self._reports.refused, error)
                    return
                if self._rival != error.replica:
                    self._rival = error.replica
                    log.error("this replica was taken for dead, and cannot begin anew: %s", error)
                self._lose(error)
            except LOST as error:
                self._lose(unavailable(error))
            except asyncpg.PostgresError as error:
                self._lose(refused(error))
            except Exception as error:  # without beats the others take this replica for dead
                if not self._lost:
                    log.exception("beating failed")
                self._lose(StoreError(f"beating failed: {type(error).__name__}"))
            finally:
                if connection is not None:
                    connection.terminate()
            await self._pause(min(self.interval, 0.2))

    async def _session(self, connection: asyncpg.Connection[Any]) -> None:
        # A beat must not wait for a standby: replicas would take each other for dead while commits only wait.
        await self._fetch(connection, "SET synchronous_commit = off")
        await connection.add_listener(CHANNEL, self._listener)
        self._seen.clear()  # if the database was away, the others get as long as this one to come back
        self.session += 1
        self._tell(self._reports.opened, self.session)
        self._tell(self._reports.heard, None)
        if not self.me:
            await self._join(connection)
            if not self.me:
                return
        locked = drained = False
        while True:
            if not locked:
                locked = (await self._fetch(connection, HOLD, LOCK, self.me))[0][0]
            if self._draining and not drained:
                drained = True
                await self._fetch(connection, "UPDATE replicas SET draining = true WHERE id = $1", self.me)
                await self._fetch(connection, f"""NOTIFY {CHANNEL}, '["changed"]'""")
            if self._stopping:
                await self._fetch(connection, "DELETE FROM replicas WHERE id = $1", self.me)
                await self._fetch(connection, f"""NOTIFY {CHANNEL}, '["changed"]'""")
                return
            if not await self._beat(connection):
                self.acknowledged = 0.0
                log.error("the other replicas took this one for dead: it begins anew")
                self._tell(self._reports.died)
                self.me, locked, drained = 0, False, False
                self._seen.clear()
                await self._fetch(connection, "SELECT pg_advisory_unlock_all()")
                await self._join(connection)
                if not self.me:
                    return
                continue
            await self._pause(_MEET_PAUSE if self._meeting_now else self.interval)

    async def _join(self, connection: asyncpg.Connection[Any]) -> None:
        fetch = partial(self._fetch, connection)
        self.me = await join(fetch, self._pause, self._address, self._versions, self._lease)
        self._joined, self._rival = True, 0

    async def _beat(self, connection: asyncpg.Connection[Any]) -> bool:
        """Beat once and look at the others; return False if this replica was taken for dead."""
        sent = boot_time()
        rows = await self._fetch(connection, _BEAT, self.me)
        if not any(row[6] for row in rows):
            return False
        self.acknowledged = self.last = sent
        self._succeed()
        if self._asked:
            self._asked = False
            self._tell(self._reports.beaten)
        dead = await self._observe(connection, rows)
        self._meeting_now = self._meeting(rows)
        if self._meeting_now and not self._told:
            return True  # the first that is told of this replica includes the others
        replicas = tuple(
            Peer(row[0], row[1], json.loads(row[3]), row[4] or (row[0] == self.me and self._draining))
            for row in rows
            if row[0] == self.me or (row[0] in self._met and row[0] not in dead)
        )
        told = (self.me, *((each.id, each.draining) for each in replicas))
        if told != self._told or sent - self._told_at > 10 * self._lease:
            self._told, self._told_at = told, sent
            self._tell(self._reports.seen, Sight(self.me, replicas, rows[0][7] if rows else 0.0))
        return True

    def _meeting(self, rows: Any) -> bool:
        """Tell whether there are replicas that are likely to live and were not seen to beat yet."""
        now = boot_time()
        strangers = {row[0]: self._strangers.get(row[0], now) for row in rows if row[0] not in (self.me, *self._met)}
        self._strangers = strangers
        return any(row[5] and now - strangers[row[0]] < _MEET_SECONDS for row in rows if row[0] in strangers)

    def _succeed(self) -> None:
        """Take in that a beat was acknowledged."""
        if self._lost:
            self._lost = ""
            self._tell(self._reports.found)
        if self._alarm is not None:
            self._alarm.cancel()
        loop = asyncio.get_running_loop()
        due = loop.time() + self.interval + _QUIET_SECONDS
        self._alarm = loop.call_at(due, self._late, due)

    def _late(self, due: float) -> None:
        """Tell that no beat is acknowledged: the database hangs. Its connection is given more time."""
        loop = asyncio.get_running_loop()
        if loop.time() < due + 1.0:
            self._lose(unavailable(TimeoutError()), session=True)
        else:  # this process was paused
            due = loop.time() + _QUIET_SECONDS
            self._alarm = loop.call_at(due, self._late, due)

    def _lose(self, failure: StoreError, *, session: bool = False) -> None:
        """Tell that beats fail, or that they now do for another reason. `session`: the connection may still live."""
        if not session:
            self.acknowledged = 0.0
        if self._lost != str(failure):
            self._lost = str(failure)
            self._tell(self._reports.lost, failure)

    async def _observe(self, connection: asyncpg.Connection[Any], rows: Any) -> set[int]:
        """Remove the replicas that are dead; return their ids."""
        now = boot_time()
        if now - self._looked > self._lease / 3 + 0.25:
            self._seen.clear()  # it was this process that paused
        self._looked = now
        dead = set()
        present = {row[0] for row in rows}
        self._seen = {id_: seen for id_, seen in self._seen.items() if id_ in present}
        self._met &= present
        for id_, address, beat, _, _, locked, _, _, lease in rows:
            if id_ == self.me:
                continue
            seen = self._seen.get(id_)
            if seen is not None and seen.beat != beat:
                self._met.add(id_)
            if seen is None or seen.beat != beat:
                seen = self._seen[id_] = _Seen(beat, now, seen is not None and seen.held)
            if locked:
                seen.held, seen.unlocked = True, None
            elif seen.held and seen.unlocked is None:
                seen.unlocked = now
            silent = now - seen.since
            soon = lease / 3
            unlocked = seen.unlocked is not None and now - seen.unlocked >= soon and silent >= soon
            if silent >= lease or unlocked:
                query = "DELETE FROM replicas WHERE id = $1 AND beat = $2 RETURNING id"
                if await self._fetch(connection, query, id_, beat):
                    dead.add(id_)
                    why = f"no beat for {silent:.1f} s, its lease is {lease:g} s"
                    if silent < lease:
                        why = f"its session in the database has ended, and no beat came for {silent:.1f} s"
                    log.warning("replica %d at %s is dead: %s", id_, address, why)
                    await self._fetch(connection, f"""NOTIFY {CHANNEL}, '["changed"]'""")
        return dead

    async def _fetch(self, connection: asyncpg.Connection[Any], query: str, *values: Any) -> Any:
        """Execute a statement. Its connection is dropped when no answer comes in a third of the lease and a second."""
        task = start_task(connection.fetch(query, *values))
        if not await answered(task, self._lease / 3 + 1.0):
            connection.terminate()
            await asyncio.wait({task})
            if not task.cancelled():
                task.exception()  # seen: the connection was dropped
            raise TimeoutError
        return task.result()

    async def _pause(self, seconds: float) -> bool:
        """Wait, but not on when this thread is kicked; return whether it is to stop."""
        assert self._kicked is not None
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(self._kicked.wait(), seconds)
        self._kicked.clear()
        return self._stopping

    def _ended(self, _: Any) -> None:
        self.acknowledged = 0.0  # the lock is free: others may act soon

    def _listener(self, _: Any, __: int, ___: str, payload: object) -> None:
        if payload == '["changed"]':
            self._kick()
        self._tell(self._reports.heard, str(payload))

    def _tell(self, report: Callable[..., None], *values: Any) -> None:
        with contextlib.suppress(RuntimeError):  # the server's loop was closed
            self._server_loop.call_soon_threadsafe(report, *values)
