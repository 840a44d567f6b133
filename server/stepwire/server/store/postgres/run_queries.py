"""Read one run from PostgreSQL: its record, snapshots, log and answered requests."""

from __future__ import annotations

import contextlib
from collections.abc import Awaitable, Callable, Collection, Sequence
from typing import Any, Final

from stepwire.server.store.encoding import (
    RECORD_COLUMNS,
    chunk_checksum,
    decode_requests,
    delta_checksum,
    read_record,
    request_checksum,
)
from stepwire.server.store.errors import StoreCorruptError
from stepwire.server.store.limits import first_chunks
from stepwire.server.store.postgres.commit_statements import RUN
from stepwire.server.store.records import (
    Chunk,
    PrunedStart,
    RequestRecord,
    RunKey,
    RunRecord,
    SnapshotInfo,
    StoredSnapshot,
)
from stepwire.server.store.thinning import CommitPlace, kept_requests

Fetch = Callable[..., Awaitable[Sequence[Any]]]
"""Execute a statement and return its rows."""

COLUMNS: Final = f"""{RECORD_COLUMNS}, {RUN} AS pk, began, checksum,
    (SELECT string_agg(number || ' ' || q.checksum || ' ' || question, chr(10) ORDER BY number)
        FROM questions q WHERE q.run = runs.pk)"""
"""The columns that `read_record` decodes; checksums do not cover the pk here."""

_RUN = "(SELECT pk FROM runs WHERE namespace = $1 AND run_id = $2)"
_KEPT = "(SELECT CASE first_available WHEN 1 THEN 0 ELSE first_available END FROM runs WHERE pk = run)"
"""The first sequence at which snapshots are kept. What a fork began with is at 0."""


async def get(fetch: Fetch, key: RunKey) -> RunRecord | None:
    """Return the record of a run."""
    rows = await fetch(f"SELECT {COLUMNS} FROM runs WHERE namespace = $1 AND run_id = $2", *key)
    return read_record(rows[0]) if rows else None


async def exists(fetch: Fetch, key: RunKey) -> bool:
    """Tell whether there is a run."""
    return bool(await fetch("SELECT 1 FROM runs WHERE namespace = $1 AND run_id = $2", *key))


async def records(fetch: Fetch, keys: Collection[RunKey]) -> dict[RunKey, RunRecord]:
    """Return the records of those of these runs that there are, undamaged."""
    rows = await fetch(
        f"""SELECT {COLUMNS} FROM unnest($1::text[], $2::text[]) AS t (n, r)
        JOIN runs ON namespace = n AND run_id = r""",
        [key.namespace for key in keys],
        [key.run_id for key in keys],
    )
    found = {}
    for row in rows:
        with contextlib.suppress(StoreCorruptError):
            record = read_record(row)
            found[record.key] = record
    return found


async def find_start(fetch: Fetch, namespace: str, request_id: str) -> RunRecord | PrunedStart | None:
    """Return the run that was started with this request_id, or what is kept of it after it was pruned."""
    if not request_id:
        return None
    rows = await fetch(
        f"SELECT {COLUMNS} FROM runs WHERE namespace = $1 AND start_request_id = $2 AND start_request_id <> ''",
        namespace,
        request_id,
    )
    if rows:
        return read_record(rows[0])
    kept = await fetch(
        "SELECT run_id, digest, created_at FROM pruned_starts WHERE namespace = $1 AND request_id = $2",
        namespace,
        request_id,
    )
    return PrunedStart(RunKey(namespace, kept[0][0]), kept[0][1], kept[0][2]) if kept else None


async def load(fetch: Fetch, key: RunKey, sequence: int | None) -> StoredSnapshot | None:
    """Return the full commit and the deltas that make up a snapshot."""
    if sequence is None:
        which: str = "ORDER BY id DESC"
        at: tuple[int, ...] = ()
    else:
        which, at = f"AND sequence = $3 AND NOT again AND sequence >= {_KEPT} ORDER BY id", (sequence,)
    rows = await fetch(
        f"""WITH last AS (SELECT run, id FROM commits WHERE run = {_RUN} {which} LIMIT 1)
        SELECT c.sequence, c.at, c."full", c.checksum, c.delta FROM last JOIN commits c USING (run)
        WHERE c.id <= last.id AND c.id >= coalesce(
            (SELECT max(id) FROM commits f WHERE f.run = last.run AND f."full" AND f.id <= last.id), 0)
        ORDER BY c.id""",
        *key,
        *at,
    )
    if not rows:
        return None
    for number, _, full, checksum, delta in rows:
        if checksum != delta_checksum(RUN, number, full, delta):
            raise StoreCorruptError(f"run {key.run_id}: snapshot data at {number} is damaged")
    if not rows[0][2]:
        raise StoreCorruptError(f"run {key.run_id}: snapshot data before {rows[-1][0]} is missing")
    return StoredSnapshot(rows[-1][0], rows[-1][1], rows[0][4], [row[4] for row in rows[1:]])


async def entries(fetch: Fetch, key: RunKey, after: int, limit: int) -> list[Chunk]:
    """Return chunks of the log, in order, from the one that holds `after + 1`."""
    rows = await fetch(
        f"""WITH found AS (SELECT {_RUN} AS pk)
        SELECT first, last, public, internal, checksum FROM found JOIN log ON run = pk
        WHERE last > $3 AND first >=
            coalesce((SELECT max(first) FROM log WHERE run = found.pk AND first <= $3::int8 + 1), 0)
        ORDER BY first LIMIT $4""",
        *key,
        after,
        limit,
    )
    chunks: list[Chunk] = []
    for *fields, checksum in rows:
        chunk = Chunk(*fields)
        if checksum != chunk_checksum(RUN, chunk):
            raise StoreCorruptError(f"run {key.run_id}: the log at {chunk.first} is damaged")
        if chunks and chunk.first != chunks[-1].last + 1:
            raise StoreCorruptError(f"run {key.run_id}: the log before {chunk.first} is missing")
        chunks.append(chunk)
    return first_chunks(chunks)


async def requests(fetch: Fetch, key: RunKey, oldest: float) -> list[RequestRecord]:
    """Return the answered requests of a run that are kept, oldest first; see `kept_requests`."""
    rows = await fetch(f"SELECT request, checksum FROM requests WHERE run = {_RUN} ORDER BY id", *key)
    if any(checksum != request_checksum(RUN, text) for text, checksum in rows):
        raise StoreCorruptError(f"run {key.run_id}: an answered request is damaged")
    return kept_requests(decode_requests(f"[{','.join(row[0] for row in rows)}]"), oldest)


async def snapshots(fetch: Fetch, key: RunKey, before: int | None, limit: int) -> list[SnapshotInfo]:
    """Return the first commit of each sequence, newest first."""
    rows = await fetch(
        f"""SELECT sequence, at, length(delta) FROM commits WHERE run = {_RUN}
        AND ($3::int8 IS NULL OR sequence < $3) AND NOT again AND sequence >= {_KEPT}
        ORDER BY sequence DESC LIMIT $4""",
        *key,
        before,
        limit,
    )
    return [SnapshotInfo(*row) for row in rows]


async def commit_places(fetch: Fetch, key: RunKey) -> tuple[int, list[CommitPlace]]:
    """Return a run's pk and all its commits, in order, without what they hold."""
    rows = await fetch(f'SELECT run, id, sequence, "full", again FROM commits WHERE run = {_RUN} ORDER BY id', *key)
    return (rows[0][0] if rows else 0), [CommitPlace(row[1], row[2], row[3], not row[4]) for row in rows]
