"""Remove from PostgreSQL what is no longer kept, a little at a time.

A deleted run is gone at once. The space of its rows is freed by later statements. Each statement is a transaction.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Final

from stepwire.server.store.encoding import RECORD_COLUMNS, RecordRow, began_checksum
from stepwire.server.store.errors import StoreCorruptError
from stepwire.server.store.limits import KEPT_OLD_REQUESTS, KEPT_REQUESTS
from stepwire.server.store.postgres.commit_statements import RUN
from stepwire.server.store.postgres.run_queries import Fetch
from stepwire.server.store.records import RunKey

SWEEP_ROWS: Final = 500
"""Rows that one statement removes."""
DELETED_AT_ONCE: Final = 50
"""Runs, or commits of a run, that one statement deletes."""


async def delete(fetch: Fetch, key: RunKey) -> int | None:
    """Delete a run; return its pk, or None when there is none."""
    rows = await fetch(
        """WITH gone AS (DELETE FROM runs WHERE namespace = $1 AND run_id = $2 RETURNING pk)
        INSERT INTO doomed SELECT pk FROM gone RETURNING run""",
        *key,
    )
    return rows[0][0] if rows else None


async def prune(fetch: Fetch, runs: Sequence[int], oldest_start: float) -> list[int]:
    """Delete those of these runs that have ended; return their pks. Their request_ids are kept for a while."""
    rows = await fetch(
        """WITH old AS (DELETE FROM pruned_starts WHERE created_at <= $2),
        gone AS (DELETE FROM runs WHERE pk = ANY($1::int8[]) AND ended_at IS NOT NULL
            RETURNING pk, namespace, start_request_id, run_id, start_digest, created_at),
        kept AS (INSERT INTO pruned_starts (namespace, request_id, run_id, digest, created_at)
            SELECT namespace, start_request_id, run_id, start_digest, created_at FROM gone
            WHERE start_request_id <> '' AND created_at > $2)
        INSERT INTO doomed SELECT pk FROM gone RETURNING run""",
        list(runs),
        float(oldest_start),
    )
    return [row[0] for row in rows]


async def sweep(fetch: Fetch) -> bool:
    """Remove some rows of a deleted run; return whether more may be left."""
    found = await fetch("SELECT min(run) FROM doomed")
    run = found[0][0]
    if run is None:
        return False
    for table, column in (("commits", "id"), ("log", "first"), ("requests", "id"), ("questions", "number")):
        rows = await fetch(
            f"""DELETE FROM {table} WHERE run = $1 AND {column} IN
            (SELECT {column} FROM {table} WHERE run = $1 ORDER BY {column} LIMIT {SWEEP_ROWS}) RETURNING 1""",
            run,
        )
        if len(rows) == SWEEP_ROWS:
            return True
    await fetch("DELETE FROM doomed WHERE run = $1", run)
    return True


async def drop_commits(fetch: Fetch, run: int, ids: Sequence[int]) -> int:
    """Drop commits of a run."""
    return len(await fetch("DELETE FROM commits WHERE run = $1 AND id = ANY($2::int8[]) RETURNING 1", run, list(ids)))


async def trim(fetch: Fetch, key: RunKey, first: int) -> tuple[int | None, bool]:
    """Drop some of the log before the chunk that holds `first`; return where it begins, and whether more is left."""
    found = await fetch(f"SELECT {RECORD_COLUMNS}, pk, began FROM runs WHERE namespace = $1 AND run_id = $2", *key)
    if not found:
        return None, False
    *fields, run, began = found[0]
    row = RecordRow(*fields)
    if began != began_checksum(RUN, row):
        raise StoreCorruptError(f"the record of run {key.run_id} is damaged")
    chunks = await fetch(
        """SELECT first, last FROM log WHERE run = $1 AND last < $2
        AND first < (SELECT max(first) FROM log WHERE run = $1) ORDER BY first LIMIT $3""",
        run,
        first,
        SWEEP_ROWS,
    )
    if chunks:
        row = row._replace(first_available=chunks[-1][1] + 1)
        await fetch(
            """WITH moved AS (UPDATE runs SET first_available = $2, began = $3 WHERE pk = $1 AND first_available < $2)
            DELETE FROM log WHERE run = $1 AND first = ANY($4::int8[])""",
            run,
            row.first_available,
            began_checksum(RUN, row),
            [chunk[0] for chunk in chunks],
        )
    # The full commit that leads to the first snapshot that is kept stays; those before it go.
    dropped = await fetch(
        """DELETE FROM commits WHERE run = $1 AND id IN (SELECT id FROM commits WHERE run = $1 AND id <
        (SELECT max(id) FROM commits WHERE run = $1 AND "full" AND id <=
            (SELECT id FROM commits WHERE run = $1 AND sequence >= $2 ORDER BY id LIMIT 1))
        ORDER BY id LIMIT $3) RETURNING 1""",
        run,
        row.first_available,
        SWEEP_ROWS,
    )
    return row.first_available, len(chunks) == SWEEP_ROWS or len(dropped) == SWEEP_ROWS


async def prune_requests(fetch: Fetch, run: int, oldest: float) -> None:
    """Delete the answered requests of a run that are no longer kept; `oldest` is the time REQUEST_AGE ago."""
    newest = "(SELECT id FROM requests WHERE run = $1 ORDER BY id DESC LIMIT 1 OFFSET {})"
    await fetch(
        f"""DELETE FROM requests WHERE run = $1 AND (id <= {newest.format(KEPT_REQUESTS)}
        OR at < $2 AND id <= {newest.format(KEPT_OLD_REQUESTS)})""",
        run,
        float(oldest),
    )


async def thin(change: Fetch, run: int, unneeded: Iterable[list[int]]) -> int:
    """Drop commits of a run, those that are given together in one statement; return how many there were."""
    count = 0
    some: list[int] = []
    for ids in unneeded:
        some += ids
        if len(some) >= DELETED_AT_ONCE:
            count += await drop_commits(change, run, some)
            some = []
    return count + (await drop_commits(change, run, some) if some else 0)
