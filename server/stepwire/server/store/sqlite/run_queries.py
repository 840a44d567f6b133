"""Read one run from the SQLite store: its record, snapshots, log and answered requests."""

from __future__ import annotations

import contextlib
import sqlite3
from collections.abc import Sequence

from stepwire.server.store.encoding import (
    CHECKED_COLUMNS,
    chunk_checksum,
    decode_requests,
    delta_checksum,
    read_record,
    request_checksum,
)
from stepwire.server.store.errors import StoreCorruptError
from stepwire.server.store.limits import ENTRIES_BYTES
from stepwire.server.store.records import (
    Chunk,
    RequestRecord,
    RunKey,
    RunRecord,
    SnapshotInfo,
    StoredSnapshot,
)
from stepwire.server.store.thinning import CommitPlace, kept_requests

_RUN = "(SELECT pk FROM runs WHERE namespace = ? AND run_id = ?)"
STORED = f"""{CHECKED_COLUMNS}, (SELECT group_concat(line, char(10)) FROM
    (SELECT number || ' ' || checksum || ' ' || question AS line FROM questions WHERE run = pk ORDER BY number))"""
"""The columns that `read_record` decodes, of a query on runs alone."""

_UNTRIMMED = (
    "sequence >= (SELECT CASE first_available WHEN 1 THEN 0 ELSE first_available END FROM runs WHERE pk = commits.run)"
)
"""Of commits: at a sequence that the log still has. What a fork began with is at 0."""


def get(connection: sqlite3.Connection, key: RunKey) -> RunRecord | None:
    """Return the record of a run."""
    row = connection.execute(f"SELECT {STORED} FROM runs WHERE pk = {_RUN}", key).fetchone()
    return read_record(row) if row else None


def records(connection: sqlite3.Connection, keys: Sequence[RunKey]) -> dict[RunKey, RunRecord]:
    """Return the records of those of these runs that there are, undamaged."""
    found = {}
    for key in keys:
        with contextlib.suppress(StoreCorruptError):
            if (record := get(connection, key)) is not None:
                found[key] = record
    return found


def load(connection: sqlite3.Connection, key: RunKey, sequence: int | None) -> StoredSnapshot | None:
    """Return the full commit and the deltas that make up a snapshot."""
    values: tuple[str | int, ...]
    if sequence is None:
        which, values = "ORDER BY sequence DESC, id DESC", key
    else:
        which, values = f"AND sequence = ? AND again = 0 AND {_UNTRIMMED} ORDER BY id", (*key, sequence)
    last = connection.execute(
        f"SELECT run, id, sequence, at FROM commits WHERE run = {_RUN} {which} LIMIT 1", values
    ).fetchone()
    if last is None:
        return None
    run, last_id, sequence, at = last
    rows = connection.execute(
        "SELECT sequence, full, checksum, delta FROM commits WHERE run = :run AND id <= :last"
        " AND id >= (SELECT id FROM commits WHERE run = :run AND full = 1 AND id <= :last"
        " ORDER BY sequence DESC, id DESC LIMIT 1) ORDER BY sequence, id",
        {"run": run, "last": last_id},
    ).fetchall()
    for number, full, checksum, delta in rows:
        if checksum != delta_checksum(run, number, full, delta):
            raise StoreCorruptError(f"run {key.run_id}: snapshot data at {number} is damaged")
    if not rows or not rows[0][1]:
        raise StoreCorruptError(f"run {key.run_id}: snapshot data before {sequence} is missing")
    deltas = [row[3] for row in rows]
    return StoredSnapshot(sequence, at, deltas[0], deltas[1:])


def entries(connection: sqlite3.Connection, key: RunKey, after: int, limit: int) -> list[Chunk]:
    """Return chunks of the log, in order, from the one that holds `after + 1`."""
    rows = connection.execute(
        f"WITH found (pk) AS {_RUN}"
        " SELECT run, first, last, public, internal, checksum FROM found JOIN log ON run = pk"
        " WHERE last > ?3 AND first >="
        " coalesce((SELECT max(first) FROM log WHERE run = pk AND first <= ?3 + 1), 0)"
        " ORDER BY first LIMIT ?4",
        (*key, after, limit),
    )
    chunks: list[Chunk] = []
    size = 0
    # An open cursor is a reader. Without this, the error of a damaged chunk would keep the write-ahead log from a cut.
    with contextlib.closing(rows):
        for run, *fields, checksum in rows:
            chunk = Chunk(*fields)
            if checksum != chunk_checksum(run, chunk):
                raise StoreCorruptError(f"run {key.run_id}: the log at {chunk.first} is damaged")
            if chunks and chunk.first != chunks[-1].last + 1:
                raise StoreCorruptError(f"run {key.run_id}: the log before {chunk.first} is missing")
            chunks.append(chunk)
            size += chunk.size
            if size >= ENTRIES_BYTES:
                break
    return chunks


def requests(connection: sqlite3.Connection, key: RunKey, oldest: float) -> list[RequestRecord]:
    """Return the answered requests of a run that are kept, oldest first; see `kept_requests`."""
    # One row instead of up to 10,000: sqlite3 takes the interpreter lock for each. JSON text holds no line break.
    run, texts, checksums = connection.execute(
        "SELECT run, group_concat(request, char(10)), group_concat(checksum) FROM"
        f" (SELECT run, request, checksum FROM requests WHERE run = {_RUN} ORDER BY id)",
        key,
    ).fetchone()
    if run is None:
        return []
    lines = texts.split("\n")
    if [request_checksum(run, line) for line in lines] != [int(number) for number in checksums.split(",")]:
        raise StoreCorruptError(f"run {key.run_id}: an answered request is damaged")
    return kept_requests(decode_requests(f"[{','.join(lines)}]"), oldest)


def snapshots(connection: sqlite3.Connection, key: RunKey, before: int | None, limit: int) -> list[SnapshotInfo]:
    """Return the first commit of each sequence, newest first."""
    below = "" if before is None else " AND sequence < ?"
    rows = connection.execute(
        "SELECT sequence, at, length(delta) FROM commits"
        f" WHERE run = {_RUN}{below} AND again = 0 AND {_UNTRIMMED} ORDER BY sequence DESC LIMIT ?",
        (*key, *(() if before is None else (before,)), limit),
    )
    return [SnapshotInfo(*row) for row in rows]


def commit_places(connection: sqlite3.Connection, key: RunKey) -> tuple[int, list[CommitPlace]]:
    """Return a run's pk and all its commits, in order, without what they hold."""
    rows = connection.execute(
        f"SELECT run, id, sequence, full, NOT again FROM commits WHERE run = {_RUN} ORDER BY sequence, id", key
    ).fetchall()
    return rows[0][0] if rows else 0, [CommitPlace(row[1], row[2], bool(row[3]), bool(row[4])) for row in rows]
