"""Find runs in the SQLite store: by the request that started them, in pages, and those that may be pruned."""

from __future__ import annotations

import logging
import sqlite3
from typing import Any

from stepwire.server.store.encoding import STORED_COLUMNS, read_record
from stepwire.server.store.errors import StoreCorruptError
from stepwire.server.store.records import TERMINAL, RunQuery, RunRecord, Status

log = logging.getLogger(__name__)

STATUSES = (Status.QUEUED, Status.RUNNING, Status.WAITING, Status.BLOCKED, *sorted(TERMINAL))


def find_start(connection: sqlite3.Connection, namespace: str, request_id: str) -> RunRecord | None:
    """Return the run that was started with this request_id."""
    row = connection.execute(
        f"SELECT {STORED_COLUMNS} FROM runs WHERE namespace = ? AND start_request_id = ? AND start_request_id != ''",
        (namespace, request_id),
    ).fetchone()
    return read_record(row) if row else None


def list_runs(connection: sqlite3.Connection, query: RunQuery) -> list[RunRecord]:
    """Return a page of runs, newest first.

    A damaged record is left out and logged: it must not hide the other runs.
    """
    where = "namespace = ? AND status = ?"
    values: list[Any] = []
    if query.workflow:
        where += " AND workflow = ?"
        values.append(query.workflow)
    if query.workflows is not None:
        where += f" AND workflow IN ({', '.join('?' * len(query.workflows))})"
        values += query.workflows
    if query.created_after is not None:
        where += " AND created_at > ?"
        values.append(query.created_after)
    if query.created_before is not None:
        where += " AND created_at < ?"
        values.append(query.created_before)
    if query.before is not None:
        where += " AND (created_at, run_id) < (?, ?)"
        values += query.before
    for label, value in query.labels.items():
        where += " AND EXISTS (SELECT 1 FROM json_each(labels) WHERE key = ? AND value = ?)"
        values += (label, value)
    statement = f"SELECT {STORED_COLUMNS} FROM runs WHERE {where} ORDER BY created_at DESC, run_id DESC LIMIT ?"
    # One query for each status: each walks an index in order, however few runs match.
    records: list[RunRecord] = []
    for status in dict.fromkeys(query.statuses or STATUSES):
        for row in connection.execute(statement, (query.namespace, status, *values, query.limit)):
            try:
                records.append(read_record(row))
            except StoreCorruptError as error:
                log.error("a damaged run is left out of a list: %s", error)
    records.sort(key=lambda record: (record.created_at, record.key.run_id), reverse=True)
    return records[: query.limit]


def prunable(
    connection: sqlite3.Connection,
    workflow: str | None,
    ended_before: float | None,
    keep_last: int | None,
    limit: int,
) -> list[int]:
    """Return the pks of ended runs that may go, in the order in which they ended."""
    values: dict[str, Any] = {"limit": limit}
    runs, where = "runs", "ended_at IS NOT NULL"
    if workflow is not None:
        where += " AND workflow = :workflow"
        values["workflow"] = workflow
    if keep_last is not None:
        runs = (
            "(SELECT pk, ended_at, row_number() OVER (PARTITION BY namespace, workflow"
            f" ORDER BY ended_at DESC, pk DESC) AS place FROM runs WHERE {where})"
        )
        where = "place > :keep_last"
        values["keep_last"] = keep_last
    if ended_before is not None:
        where += " AND ended_at < :ended_before"
        values["ended_before"] = ended_before
    rows = connection.execute(f"SELECT pk FROM {runs} WHERE {where} ORDER BY ended_at, pk LIMIT :limit", values)
    return [pk for (pk,) in rows]
