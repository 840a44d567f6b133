"""Find runs in the SQLite store: by the request that started them, in pages, and those that may be pruned."""

from __future__ import annotations

import json
import logging
import sqlite3
from collections.abc import Iterator, Sequence
from typing import Any

from stepwire.server.store.encoding import CHECKED_COLUMNS, RecordRow, read_record
from stepwire.server.store.errors import StoreCorruptError
from stepwire.server.store.limits import LIST_BYTES
from stepwire.server.store.records import TERMINAL, PrunedStart, RunKey, RunQuery, RunRecord, Status
from stepwire.server.store.sqlite.run_queries import STORED

log = logging.getLogger(__name__)

COUNTED = 10_000
"""Rows of an index that are counted at most to find the shorter one: that takes about a millisecond."""

STATUSES = (Status.QUEUED, Status.RUNNING, Status.WAITING, Status.BLOCKED, *sorted(TERMINAL))


def find_start(connection: sqlite3.Connection, namespace: str, request_id: str) -> RunRecord | PrunedStart | None:
    """Return the run that was started with this request_id, or what is kept of it after it was pruned."""
    row = connection.execute(
        f"SELECT {STORED} FROM runs WHERE namespace = ? AND start_request_id = ? AND start_request_id != ''",
        (namespace, request_id),
    ).fetchone()
    if row:
        return read_record(row)
    kept = connection.execute(
        "SELECT run_id, digest, created_at FROM pruned_starts WHERE namespace = ? AND request_id = ?",
        (namespace, request_id),
    ).fetchone()
    return PrunedStart(RunKey(namespace, kept[0]), kept[1], kept[2]) if kept else None


def list_runs(connection: sqlite3.Connection, query: RunQuery) -> list[RunRecord]:
    """Return a page of runs, newest first; see `RunStore.list`.

    A damaged record is left out and logged: it must not hide the other runs.
    """
    labels = _rarest_first(connection, query)
    if labels and _label_is_rarer(connection, query, labels[0]):
        cursors = rows_by_label(connection, query, labels)
    else:
        cursors = rows_by_status(connection, query, labels)
    rows: list[Any] = []
    end: tuple[float, str] | None = None  # the oldest run of the page: what is behind it was not read everywhere
    for cursor in cursors:
        size = 0
        for row in cursor:
            rows.append(row)
            size += len(row[_INFO])
            if size >= LIST_BYTES:
                end = max(end or _place(row), _place(row))
                cursor.close()
                break
    rows.sort(key=_place, reverse=True)
    records: list[RunRecord] = []
    size = 0
    for row in rows[: query.limit]:
        if size >= LIST_BYTES or (end is not None and _place(row) < end):
            break
        size += len(row[_INFO])
        try:
            records.append(read_record(row))
        except StoreCorruptError as error:
            log.error("a damaged run is left out of a list: %s", error)
    return records


Label = tuple[str, str]

_INFO = RecordRow._fields.index("info")
_CREATED_AT = RecordRow._fields.index("created_at")
_RUN_ID = RecordRow._fields.index("run_id")


def _place(row: Any) -> tuple[float, str]:
    return row[_CREATED_AT], row[_RUN_ID]


_STORED = ", ".join(f"runs.{name}" for name in CHECKED_COLUMNS.split(", ")) + STORED.removeprefix(CHECKED_COLUMNS)


def rows_by_status(
    connection: sqlite3.Connection, query: RunQuery, labels: Sequence[Label]
) -> Iterator[sqlite3.Cursor]:
    """Walk an index of runs for each status: in order, however few runs have it."""
    where, values = _conditions(query, "runs", labels)
    statement = (
        f"SELECT {_STORED} FROM runs WHERE runs.namespace = ? AND runs.status = ?{where}"
        " ORDER BY runs.created_at DESC, runs.run_id DESC LIMIT ?"
    )
    for status in dict.fromkeys(query.statuses or STATUSES):
        yield connection.execute(statement, (query.namespace, status, *values, query.limit))


def rows_by_label(connection: sqlite3.Connection, query: RunQuery, labels: Sequence[Label]) -> Iterator[sqlite3.Cursor]:
    """Walk the index of the first label."""
    where, values = _conditions(query, "labels", labels[1:])
    if query.statuses:
        where += f" AND runs.status IN ({', '.join('?' * len(query.statuses))})"
        values += query.statuses
    statement = (
        f"SELECT {_STORED} FROM labels CROSS JOIN runs ON runs.pk = labels.run"
        f" WHERE labels.namespace = ? AND labels.name = ? AND labels.value = ?{where}"
        " ORDER BY labels.created_at DESC, labels.run_id DESC LIMIT ?"
    )
    yield connection.execute(statement, (query.namespace, *labels[0], *values, query.limit))


def _conditions(query: RunQuery, walked: str, labels: Sequence[Label]) -> tuple[str, list[Any]]:
    """Return the conditions, with their values, that a run must meet, but for namespace and status.

    Args:
        query: What is looked for.
        walked: The table whose index is walked: conditions on its columns end the walk early.
        labels: The labels to look up.
    """
    where = ""
    values: list[Any] = []
    if query.workflow:
        where += " AND runs.workflow = ?"
        values.append(query.workflow)
    if query.workflows is not None:
        where += f" AND runs.workflow IN ({', '.join('?' * len(query.workflows))})"
        values += query.workflows
    if query.created_after is not None:
        where += f" AND {walked}.created_at > ?"
        values.append(query.created_after)
    if query.created_before is not None:
        where += f" AND {walked}.created_at < ?"
        values.append(query.created_before)
    if query.before is not None:
        where += f" AND ({walked}.created_at, {walked}.run_id) < (?, ?)"
        values += query.before
    for label in labels:
        where += (
            " AND EXISTS (SELECT 1 FROM labels AS other WHERE other.namespace = runs.namespace AND other.name = ?"
            " AND other.value = ? AND other.created_at = runs.created_at AND other.run_id = runs.run_id)"
        )
        values += label
    return where, values


def _rarest_first(connection: sqlite3.Connection, query: RunQuery) -> list[Label]:
    labels = list(query.labels.items())
    if len(labels) > 1:
        counts = {label: _count_label(connection, query.namespace, label) for label in labels}
        labels.sort(key=counts.__getitem__)
    return labels


def _label_is_rarer(connection: sqlite3.Connection, query: RunQuery, label: Label) -> bool:
    """Return whether fewer runs have the label than have one of the statuses."""
    if not query.statuses:
        return True
    where, values = "", [query.namespace, json.dumps(query.statuses)]
    if query.workflow:
        where = " AND workflow = ?"
        values.append(query.workflow)
    (of_status,) = connection.execute(
        "SELECT count(*) FROM (SELECT 1 FROM runs WHERE namespace = ? AND status IN (SELECT value FROM json_each(?))"
        f"{where} LIMIT ?)",
        (*values, COUNTED),
    ).fetchone()
    return _count_label(connection, query.namespace, label) <= int(of_status)


def _count_label(connection: sqlite3.Connection, namespace: str, label: Label) -> int:
    (count,) = connection.execute(
        "SELECT count(*) FROM (SELECT 1 FROM labels WHERE namespace = ? AND name = ? AND value = ? LIMIT ?)",
        (namespace, *label, COUNTED),
    ).fetchone()
    return int(count)


def prunable(
    connection: sqlite3.Connection,
    workflow: str | None,
    ended_before: float | None,
    keep_last: int | None,
    limit: int,
) -> list[tuple[RunKey, int]]:
    """Return ended runs that may be pruned, with their pks, in the order in which they ended.

    The conditions are those of `RunStore.prune`.
    """
    values: dict[str, Any] = {"limit": limit}
    runs, where = "runs", "ended_at IS NOT NULL"
    if workflow is not None:
        where += " AND workflow = :workflow"
        values["workflow"] = workflow
    if keep_last is not None:
        runs = (
            "(SELECT namespace, run_id, pk, ended_at, row_number() OVER (PARTITION BY namespace, workflow"
            f" ORDER BY ended_at DESC, pk DESC) AS place FROM runs WHERE {where})"
        )
        where = "place > :keep_last"
        values["keep_last"] = keep_last
    if ended_before is not None:
        where += " AND ended_at < :ended_before"
        values["ended_before"] = ended_before
    rows = connection.execute(
        f"SELECT namespace, run_id, pk FROM {runs} WHERE {where} ORDER BY ended_at, pk LIMIT :limit", values
    )
    return [(RunKey(namespace, run_id), pk) for namespace, run_id, pk in rows]
