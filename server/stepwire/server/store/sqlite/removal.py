"""Remove what is no longer kept, a little at a time. Each function is one job of the writer.

A deleted run is gone at once. The space of its rows is freed by later jobs, so that no commit waits
long.
"""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Sequence

from stepwire.server.store.encoding import CHECKED_COLUMNS, RecordRow, began_checksum
from stepwire.server.store.errors import StoreCorruptError
from stepwire.server.store.limits import KEPT_OLD_REQUESTS, KEPT_REQUESTS
from stepwire.server.store.records import RunKey

SWEEP_ROWS = 200
"""Rows that one job removes: blobs can be large, and commits wait meanwhile."""


def delete(connection: sqlite3.Connection, key: RunKey) -> bool:
    """Delete a run; return False when there is none."""
    statement = "SELECT pk FROM runs WHERE namespace = ? AND run_id = ?"
    row = connection.execute(statement, key).fetchone()
    if row is None:
        return False
    _doom(connection, "pk IN (SELECT value FROM json_each(?))", row)
    return True


def prune(connection: sqlite3.Connection, runs: Sequence[int], oldest_start: float) -> int:
    """Delete those of these runs, by pk, that have ended; return how many were deleted.

    Their request_ids are kept, if the runs started after `oldest_start`.
    """
    ended = "pk IN (SELECT value FROM json_each(?)) AND ended_at IS NOT NULL"
    connection.execute(
        "INSERT INTO pruned_starts (namespace, request_id, run_id, digest, created_at)"
        " SELECT namespace, start_request_id, run_id, start_digest, created_at FROM runs"
        f" WHERE {ended} AND start_request_id != '' AND created_at > ?",
        (json.dumps(runs), oldest_start),
    )
    connection.execute("DELETE FROM pruned_starts WHERE created_at <= ?", (oldest_start,))
    return _doom(connection, ended, runs)


def _doom(connection: sqlite3.Connection, which: str, runs: Sequence[int]) -> int:
    pks = (json.dumps(runs),)
    connection.execute(f"INSERT INTO doomed SELECT pk FROM runs WHERE {which}", pks)
    return connection.execute(f"DELETE FROM runs WHERE {which}", pks).rowcount


def sweep(connection: sqlite3.Connection) -> bool:
    """Remove some rows of a deleted run; return whether more are left."""
    row = connection.execute("SELECT min(run) FROM doomed").fetchone()
    if row[0] is None:
        return False
    left = SWEEP_ROWS
    for table in ("commits", "log", "requests", "questions"):
        left -= connection.execute(
            f"DELETE FROM {table} WHERE id IN (SELECT id FROM {table} WHERE run = ? LIMIT ?)",
            (row[0], left),
        ).rowcount
        if not left:
            return True
    connection.execute("DELETE FROM doomed WHERE run = ?", row)
    return connection.execute("SELECT 1 FROM doomed LIMIT 1").fetchone() is not None


def drop_commits(connection: sqlite3.Connection, run: int, ids: Sequence[int]) -> int:
    """Delete some commits of a run; return how many."""
    return connection.execute(
        "DELETE FROM commits WHERE run = ? AND id IN (SELECT value FROM json_each(?))",
        (run, json.dumps(ids)),
    ).rowcount


def trim(connection: sqlite3.Connection, key: RunKey, first: int) -> tuple[int | None, bool] | StoreCorruptError:
    """Drop some of a run's chunks before sequence `first`; return where its log begins, and whether more must go.

    A StoreCorruptError is returned, not raised: raising would fail the whole transaction.
    """
    stored = connection.execute(
        f"SELECT {CHECKED_COLUMNS} FROM runs WHERE namespace = ? AND run_id = ?", key
    ).fetchone()
    if stored is None:
        return None, False
    *fields, run, began, _ = stored
    row = RecordRow(*fields)
    if began != began_checksum(run, row):
        return StoreCorruptError(f"the record of run {key.run_id} is damaged")
    chunks = connection.execute(
        "SELECT id, last FROM log WHERE run = :run AND last < :first"
        " AND first < (SELECT max(first) FROM log WHERE run = :run) ORDER BY first LIMIT :limit",
        {"run": run, "first": first, "limit": SWEEP_ROWS},
    ).fetchall()
    if chunks:
        row = row._replace(first_available=chunks[-1][1] + 1)
        connection.execute(
            "UPDATE runs SET first_available = ?, began = ? WHERE pk = ?",
            (row.first_available, began_checksum(run, row), run),
        )
        ids = json.dumps([chunk[0] for chunk in chunks])
        connection.execute("DELETE FROM log WHERE id IN (SELECT value FROM json_each(?))", (ids,))
    # The full commit that leads to the first snapshot that is kept stays; those before it go.
    dropped = connection.execute(
        "DELETE FROM commits WHERE id IN (SELECT id FROM commits WHERE run = :run AND id <"
        " (SELECT max(id) FROM commits WHERE run = :run AND full = 1 AND id <="
        " (SELECT id FROM commits WHERE run = :run AND sequence >= :first ORDER BY sequence, id LIMIT 1))"
        " ORDER BY sequence, id LIMIT :limit)",
        {"run": run, "first": row.first_available, "limit": SWEEP_ROWS},
    ).rowcount
    return row.first_available, len(chunks) == SWEEP_ROWS or dropped == SWEEP_ROWS


def prune_requests(connection: sqlite3.Connection, run: int, oldest: float) -> None:
    """Delete the answered requests of a run that are no longer kept; `oldest` is the time REQUEST_AGE ago."""
    newest = "(SELECT id FROM requests WHERE run = :run ORDER BY id DESC LIMIT 1 OFFSET :{})"
    connection.execute(
        "DELETE FROM requests WHERE run = :run AND"
        f" (id <= {newest.format('kept')} OR at < :oldest AND id <= {newest.format('kept_old')})",
        {
            "run": run,
            "kept": KEPT_REQUESTS,
            "kept_old": KEPT_OLD_REQUESTS,
            "oldest": oldest,
        },
    )
