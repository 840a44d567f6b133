"""Join as a replica: one at an address.

Calls go to the address of a replica. If two replicas had the same one, the calls for either would reach any of both, so
a replica joins only when no living one has its address. A dead one must not keep a restart from joining: where its
session has ended it is removed at once. Where the session is still there, its beats tell whether it lives.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable
from typing import Any, Final

from stepwire.server.store.errors import AddressTakenError
from stepwire.server.store.postgres.schema import CHANNEL, LOCK

__all__ = ["HOLD", "SESSION", "join"]

log = logging.getLogger(__name__)

Fetch = Callable[..., Awaitable[Any]]
"""Executes a statement in the session of the beats; returns the rows."""
Pause = Callable[[float], Awaitable[bool]]
"""Waits so many seconds; returns whether this process stops."""

SESSION: Final = f"""EXISTS (SELECT 1 FROM pg_locks WHERE locktype = 'advisory' AND classid = {LOCK}
    AND objid = (id % 2147483648)::oid AND objsubid = 2
    AND database = (SELECT oid FROM pg_database WHERE datname = current_database()))"""
"""Of a replica: whether the session of its beats is there. `pg_locks` shows those in other databases, too."""

HOLD: Final = "SELECT pg_try_advisory_lock($1, ($2::int8 % 2147483648)::int4)"
"""Have the session show that a replica lives."""
_ONE_AT_A_TIME: Final = "SELECT pg_advisory_lock($1, 0)"
"""Two that join at once would not see each other. No replica has the id 0."""
_NEXT: Final = "SELECT pg_advisory_unlock($1, 0)"
_ENDED: Final = f"DELETE FROM replicas WHERE address = $1 AND NOT {SESSION}"
_JOIN: Final = """INSERT INTO replicas (address, versions, lease) SELECT $1::text, $2::jsonb, $3::float8
    WHERE NOT EXISTS (SELECT 1 FROM replicas WHERE address = $1::text) RETURNING id"""
_THERE: Final = "SELECT id, beat, lease FROM replicas WHERE address = $1"
_DEAD: Final = "DELETE FROM replicas WHERE id = $1 AND beat = $2"
_BEATS: Final = 2
"""Beats that show that a replica lives. One may come of a process that was killed: the database had it already."""
_LOOK_SECONDS: Final = 0.05
"""Seconds between two looks: the database notices within milliseconds that a process was killed."""


async def join(fetch: Fetch, pause: Pause, address: str, versions: str, lease: float) -> int:
    """Become a replica; return the id, or 0 if a pause says that this process stops.

    Args:
        fetch: Executes statements, all in one session.
        pause: Waits between two looks.
        address: Where other replicas reach this one.
        versions: The version of each served workflow, as a JSON object.
        lease: Seconds without a beat after which this replica is taken for dead.

    Raises:
        AddressTakenError: Another living replica has the address.
    """
    time = asyncio.get_running_loop().time
    first: dict[int, int] = {}
    last: dict[int, tuple[int, float]] = {}
    while True:
        await fetch(_ONE_AT_A_TIME, LOCK)
        await fetch(_ENDED, address)
        joined = await fetch(_JOIN, address, versions, lease)
        if joined:  # before the next one looks: without it that would take this one for dead
            await fetch(HOLD, LOCK, joined[0][0])
        await fetch(_NEXT, LOCK)
        if joined:
            await fetch(f"""NOTIFY {CHANNEL}, '["changed"]'""")
            return int(joined[0][0])
        for id_, beat, its_lease in await fetch(_THERE, address):
            if beat >= first.setdefault(id_, beat) + _BEATS:
                raise AddressTakenError(address, id_)
            seen, since = last.get(id_, (-1, 0.0))
            if seen != beat:
                last[id_] = beat, time()
            elif time() - since >= its_lease:
                await fetch(_DEAD, id_, beat)
                log.warning("replica %d, which had %s before, is dead: no beat for %.1f s", id_, address, its_lease)
        if await pause(_LOOK_SECONDS):
            return 0
