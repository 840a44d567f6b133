"""Find the runs that the server has work with: due, ended, with long logs; and count them."""

from __future__ import annotations

import json
import math
import sqlite3
from collections import Counter

from stepwire.server.store.records import DueRun, EndedRun, LongRun, RunKey, WorkflowPause
from stepwire.server.store.sqlite.schema import LONG, UNFINISHED


def due(
    connection: sqlite3.Connection, now: float, limit: int, workflows: list[str], after: tuple[float, int]
) -> list[DueRun]:
    """Return the runs to wake, the most overdue first."""
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
    """Return ended runs, those that ended first first."""
    rows = connection.execute(
        "SELECT namespace, run_id, ended_at, pk FROM runs WHERE ended_at IS NOT NULL AND (ended_at, pk) > (?, ?)"
        " AND ended_at < ? AND last_sequence > ? ORDER BY ended_at, pk LIMIT ?",
        (*after, math.inf if before is None else before, longer_than, limit),
    )
    return [EndedRun(RunKey(namespace, run_id), ended_at, pk) for namespace, run_id, ended_at, pk in rows]


def long_logs(connection: sqlite3.Connection, workflow: str, entries: int, limit: int, after: int) -> list[LongRun]:
    """Return runs with a long log, by pk."""
    rows = connection.execute(
        f"SELECT namespace, run_id, first_available, last_sequence, pk FROM runs WHERE {LONG} AND workflow = ?"
        " AND last_sequence - first_available >= ? AND pk > ? ORDER BY pk LIMIT ?",
        (workflow, entries, after, limit),
    )
    return [LongRun(RunKey(namespace, run_id), *rest) for namespace, run_id, *rest in rows]


def next_wake(connection: sqlite3.Connection, after: float, workflows: list[str]) -> float | None:
    """Return the earliest time to wake a run."""
    row = connection.execute(
        f"SELECT wake_at FROM runs WHERE wake_at IS NOT NULL AND {UNFINISHED} AND wake_at > ?"
        " AND workflow IN (SELECT value FROM json_each(?)) ORDER BY wake_at LIMIT 1",
        (after, json.dumps(workflows)),
    ).fetchone()
    return None if row is None else float(row[0])


def pauses(connection: sqlite3.Connection) -> list[WorkflowPause]:
    """Return the pauses of workflows."""
    rows = connection.execute("SELECT namespace, workflow, since, paused_by, reason, total, waking FROM pauses")
    return [WorkflowPause(*row)._replace(waking=bool(row[-1])) for row in rows]


def save_pause(connection: sqlite3.Connection, pause: WorkflowPause) -> None:
    """Keep the pauses of a workflow; a job of the writer."""
    connection.execute("INSERT OR REPLACE INTO pauses VALUES (?, ?, ?, ?, ?, ?, ?)", pause)


def namespaces(connection: sqlite3.Connection) -> list[str]:
    """Return the namespaces that have runs."""
    # One step of an index for each namespace; DISTINCT would read all of it.
    rows = connection.execute(
        "WITH RECURSIVE found (namespace) AS (SELECT min(namespace) FROM runs UNION ALL"
        " SELECT (SELECT min(namespace) FROM runs WHERE namespace > found.namespace) FROM found"
        " WHERE namespace IS NOT NULL) SELECT namespace FROM found WHERE namespace IS NOT NULL"
    )
    return [row[0] for row in rows]


def counts(connection: sqlite3.Connection) -> dict[tuple[str, str], int]:
    """Count runs by workflow and status."""
    found: Counter[tuple[str, str]] = Counter()
    # Grouped by namespace, too: so it goes through an index in order, without sorting.
    for workflow, status, count in connection.execute(
        "SELECT workflow, status, count(*) FROM runs GROUP BY namespace, workflow, status"
    ):
        found[workflow, status] += count
    return dict(found)
