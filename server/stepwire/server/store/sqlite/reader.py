"""Reading the SQLite store: a small pool of threads, and what they ask."""

from __future__ import annotations

import asyncio
import json
import math
import sqlite3
import threading
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, TypeVar

from stepwire.server.store.port import (
    ENTRIES_BYTES,
    Chunk,
    DueRun,
    EndedRun,
    LongRun,
    RequestRecord,
    RunKey,
    RunRecord,
    SnapshotInfo,
    StoreCorruptError,
    StoredSnapshot,
    StoreUnavailableError,
)
from stepwire.server.store.retention import Step, kept_requests
from stepwire.server.store.rows import (
    STORED_COLUMNS,
    chunk_checksum,
    decode_requests,
    delta_checksum,
    read_record,
    request_checksum,
)
from stepwire.server.store.sqlite.errors import translate
from stepwire.server.store.sqlite.schema import LONG, UNFINISHED, connect_reader

T = TypeVar("T")

_RUN = "(SELECT pk FROM runs WHERE namespace = ? AND run_id = ?)"
_UNTRIMMED = (
    "sequence >= (SELECT CASE first_available WHEN 1 THEN 0 ELSE first_available END FROM runs WHERE pk = commits.run)"
)
"""Of commits: at a sequence that the log still has. What a fork began with is at 0."""


class Readers:
    """Run queries on up to two threads, each with a connection of its own.

    A query sees one state of the database throughout, the newest when it begins, and never waits
    for the writer.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        self._local = threading.local()
        self._connections: set[sqlite3.Connection] = set()
        self._pool: ThreadPoolExecutor | None = ThreadPoolExecutor(2, thread_name_prefix="stepwire-store-reader")

    async def run(self, query: Callable[..., T], *args: Any) -> T:
        """Give `query(connection, *args)`. Raises StoreUnavailableError, StoreCorruptError."""
        if self._pool is None:
            raise StoreUnavailableError("the store is not open")
        loop = asyncio.get_running_loop()
        return await loop.run_in_executor(self._pool, self._call, query, args)

    async def close(self) -> None:
        """Finish the queries under way and close the connections."""
        pool, self._pool = self._pool, None
        if pool is not None:
            await asyncio.get_running_loop().run_in_executor(None, pool.shutdown)
        while self._connections:
            self._connections.pop().close()

    def _call(self, query: Callable[..., T], args: tuple[Any, ...]) -> T:
        connection: sqlite3.Connection | None = getattr(self._local, "connection", None)
        try:
            if connection is None:
                connection = connect_reader(self._path)
                self._connections.add(connection)
                self._local.connection = connection
            connection.execute("BEGIN")
            try:
                return query(connection, *args)
            finally:
                connection.execute("ROLLBACK")
        except sqlite3.Error as error:
            if connection is not None:  # the next query starts afresh
                self._local.connection = None
                self._connections.discard(connection)
                connection.close()
            raise translate(error, "read") from error
        except json.JSONDecodeError as error:
            raise StoreCorruptError("a record or answered request is damaged") from error


def get(connection: sqlite3.Connection, key: RunKey) -> RunRecord | None:
    """Give the record of a run."""
    row = connection.execute(f"SELECT {STORED_COLUMNS} FROM runs WHERE pk = {_RUN}", key).fetchone()
    return read_record(row) if row else None


def load(connection: sqlite3.Connection, key: RunKey, sequence: int | None) -> StoredSnapshot | None:
    """Give the full commit and the deltas that make up a snapshot."""
    exactly = "" if sequence is None else f" AND sequence = ? AND {_UNTRIMMED}"
    last = connection.execute(
        f"SELECT run, id, sequence, at FROM commits WHERE run = {_RUN}{exactly}"
        " ORDER BY sequence DESC, id DESC LIMIT 1",
        key if sequence is None else (*key, sequence),
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
    """Give chunks of the log, in order, from the one that holds `after + 1`."""
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
    rows.close()
    return chunks


def requests(connection: sqlite3.Connection, key: RunKey) -> list[RequestRecord]:
    """Give the answered requests of a run, oldest first."""
    # As one row, not as up to 10,000: each would wait for the interpreter lock. JSON holds no line break.
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
    return kept_requests(decode_requests(f"[{','.join(lines)}]"), time.time())


def snapshots(connection: sqlite3.Connection, key: RunKey, before: int | None, limit: int) -> list[SnapshotInfo]:
    """Give the last commit of each sequence, newest first."""
    below = "" if before is None else " AND sequence < ?"
    rows = connection.execute(
        "SELECT c.sequence, c.at, length(c.delta) FROM (SELECT max(id) AS id FROM commits"
        f" WHERE run = {_RUN}{below} AND {_UNTRIMMED} GROUP BY sequence ORDER BY sequence DESC LIMIT ?) AS newest"
        " JOIN commits AS c USING (id)",
        (*key, *(() if before is None else (before,)), limit),
    )
    return sorted((SnapshotInfo(*row) for row in rows), reverse=True)


def steps(connection: sqlite3.Connection, key: RunKey) -> tuple[int, list[Step]]:
    """Give a run's pk and all its commits, in order, without what they hold."""
    rows = connection.execute(
        f"SELECT run, id, sequence, full FROM commits WHERE run = {_RUN} ORDER BY sequence, id", key
    ).fetchall()
    return rows[0][0] if rows else 0, [Step(row[1], row[2], bool(row[3])) for row in rows]


def due(
    connection: sqlite3.Connection, now: float, limit: int, workflows: list[str], after: tuple[float, int]
) -> list[DueRun]:
    """Give the runs to wake, the most overdue first."""
    rows = connection.execute(
        f"SELECT namespace, run_id, wake_at, pk FROM runs WHERE wake_at IS NOT NULL AND {UNFINISHED}"
        " AND (wake_at, pk) > (?, ?) AND wake_at <= ?"
        " AND workflow IN (SELECT value FROM json_each(?)) ORDER BY wake_at, pk LIMIT ?",
        (*after, now, json.dumps(workflows), limit),
    )
    return [DueRun(RunKey(namespace, run_id), wake_at, pk) for namespace, run_id, wake_at, pk in rows]


def ended(
    connection: sqlite3.Connection, after: tuple[float, int], limit: int, before: float | None, longer_than: int
) -> list[EndedRun]:
    """Give ended runs, those that ended first first."""
    rows = connection.execute(
        "SELECT namespace, run_id, ended_at, pk FROM runs WHERE ended_at IS NOT NULL AND (ended_at, pk) > (?, ?)"
        " AND ended_at < ? AND last_sequence > ? ORDER BY ended_at, pk LIMIT ?",
        (*after, math.inf if before is None else before, longer_than, limit),
    )
    return [EndedRun(RunKey(namespace, run_id), ended_at, pk) for namespace, run_id, ended_at, pk in rows]


def long_logs(connection: sqlite3.Connection, workflow: str, entries: int, limit: int, after: int) -> list[LongRun]:
    """Give runs with a long log, by pk."""
    rows = connection.execute(
        f"SELECT namespace, run_id, first_available, last_sequence, pk FROM runs WHERE {LONG} AND workflow = ?"
        " AND last_sequence - first_available >= ? AND pk > ? ORDER BY pk LIMIT ?",
        (workflow, entries, after, limit),
    )
    return [LongRun(RunKey(namespace, run_id), *rest) for namespace, run_id, *rest in rows]


def next_wake(connection: sqlite3.Connection, after: float, workflows: list[str]) -> float | None:
    """Give the earliest time to wake a run."""
    row = connection.execute(
        f"SELECT wake_at FROM runs WHERE wake_at IS NOT NULL AND {UNFINISHED} AND wake_at > ?"
        " AND workflow IN (SELECT value FROM json_each(?)) ORDER BY wake_at LIMIT 1",
        (after, json.dumps(workflows)),
    ).fetchone()
    return None if row is None else float(row[0])


def namespaces(connection: sqlite3.Connection) -> list[str]:
    """Give the namespaces that have runs."""
    return [row[0] for row in connection.execute("SELECT DISTINCT namespace FROM runs ORDER BY 1")]


def counts(connection: sqlite3.Connection) -> dict[tuple[str, str], int]:
    """Count runs by workflow and status."""
    rows = connection.execute("SELECT workflow, status, count(*) FROM runs GROUP BY 1, 2")
    return {(workflow, status): count for workflow, status, count in rows}
