"""Look at a database beside its replicas, for `stepwire doctor` and `stepwire replicas`: nothing is changed."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Final

import asyncpg

from stepwire.server.store.postgres.connections import LOST, not_accepted, unreachable
from stepwire.server.store.postgres.promises import SYNCHRONOUS
from stepwire.server.store.postgres.schema import MIGRATIONS

__all__ = ["DatabaseInspection", "ReplicaInspection", "inspect_database"]

_CONNECT_SECONDS: Final = 5.0
_REPLICAS: Final = """SELECT id, address, versions::text, draining, extract(epoch FROM joined_at)::float8,
    extract(epoch FROM clock_timestamp() - beat_at)::float8, (SELECT count(*) FROM runs WHERE owner = replicas.id)
    FROM replicas ORDER BY id"""


@dataclass(frozen=True, slots=True, kw_only=True)
class ReplicaInspection:
    """A replica, as the database knows it.

    Attributes:
        id: Its id.
        address: Where the other replicas reach it.
        versions: What tells the code of each workflow that it serves from any other, by name.
        draining: Whether it is stopping.
        joined_at: When it joined, in seconds since the epoch.
        beat_age: Seconds since its last beat.
        runs: How many runs it has in memory.
    """

    id: int
    address: str
    versions: Mapping[str, str]
    draining: bool
    joined_at: float
    beat_age: float
    runs: int


@dataclass(frozen=True, slots=True, kw_only=True)
class DatabaseInspection:
    """What was found in a database.

    Attributes:
        server: The version of PostgreSQL.
        encoding: The encoding of the database.
        version: The version of the schema; 0 when there are no tables yet.
        known: The version that this program makes.
        synchronous: Whether a commit waits for a standby.
        standbys: The standbys that are connected: their names with `sync`, `quorum`, `potential` or `async`. Empty if
            this user may not see them.
        in_recovery: Whether this is a standby itself.
        now: The database's clock, in seconds since the epoch.
        runs: How many runs there are by (workflow, status).
        last_change: When a run last changed, in seconds since the epoch; None without runs.
        replicas: The living replicas, the oldest first.
        cluster_key: The key of the replicas that the database keeps; None if there is none.
    """

    server: str
    encoding: str
    version: int
    known: int
    synchronous: bool
    standbys: Sequence[tuple[str, str]]
    in_recovery: bool
    now: float
    runs: Mapping[tuple[str, str], int]
    last_change: float | None
    replicas: Sequence[ReplicaInspection]
    cluster_key: bytes | None = field(repr=False)


async def inspect_database(dsn: str) -> DatabaseInspection:
    """Look at a database.

    Raises:
        StoreError: It cannot be reached, or refuses.
    """
    try:
        connection = await asyncpg.connect(
            dsn, timeout=_CONNECT_SECONDS, server_settings={"default_transaction_read_only": "on"}
        )
        try:
            return await _inspect(connection)
        finally:
            await connection.close()
    except LOST as error:
        raise unreachable(error, dsn) from error
    except asyncpg.PostgresError as error:
        raise not_accepted(error) from error


async def _inspect(connection: asyncpg.Connection[Any]) -> DatabaseInspection:
    row = await connection.fetchrow(
        f"""SELECT current_setting('server_version'), getdatabaseencoding(), pg_is_in_recovery(), {SYNCHRONOUS},
        extract(epoch FROM clock_timestamp())::float8,
        to_regclass('schema_version') IS NOT NULL"""
    )
    assert row is not None
    server, encoding, in_recovery, synchronous, now, there = row
    version = (await connection.fetchval("SELECT max(version) FROM schema_version") or 0) if there else 0
    standbys = await connection.fetch("SELECT application_name, sync_state FROM pg_stat_replication ORDER BY 1")
    runs: dict[tuple[str, str], int] = {}
    last_change, replicas, cluster_key = None, [], None
    if version:
        for workflow, status, count in await connection.fetch(
            "SELECT workflow, status, count(*) FROM runs GROUP BY 1, 2"
        ):
            runs[workflow, status] = count
        last_change = await connection.fetchval("SELECT max(updated_at) FROM runs")
        if await connection.fetchval("SELECT to_regclass('replicas') IS NOT NULL"):
            replicas = [
                ReplicaInspection(
                    id=id_,
                    address=address,
                    versions=json.loads(versions),
                    draining=draining,
                    joined_at=joined_at,
                    beat_age=beat_age,
                    runs=count,
                )
                for id_, address, versions, draining, joined_at, beat_age, count in await connection.fetch(_REPLICAS)
            ]
        if await connection.fetchval("SELECT to_regclass('secrets') IS NOT NULL"):
            cluster_key = await connection.fetchval("SELECT value FROM secrets WHERE name = 'cluster key'")
    return DatabaseInspection(
        server=server,
        encoding=encoding,
        version=version,
        known=len(MIGRATIONS),
        synchronous=synchronous,
        standbys=[(name, state) for name, state in standbys if state is not None],
        in_recovery=in_recovery,
        now=now,
        runs=runs,
        last_change=last_change,
        replicas=replicas,
        cluster_key=cluster_key,
    )
