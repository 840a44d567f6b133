"""Find runs in PostgreSQL: those that the server has work with, and pages of a list."""

from __future__ import annotations

import json
import logging
import math
from collections.abc import Sequence
from typing import Any

from stepwire.server.store.encoding import read_record
from stepwire.server.store.errors import StoreCorruptError
from stepwire.server.store.limits import LIST_BYTES
from stepwire.server.store.postgres.run_queries import COLUMNS, Fetch
from stepwire.server.store.postgres.schema import LONG, UNFINISHED
from stepwire.server.store.records import DueRun, EndedRun, LongRun, RunKey, RunQuery, RunRecord

log = logging.getLogger(__name__)


async def due(fetch: Fetch, now: float, limit: int, workflows: Sequence[str], after: tuple[float, int]) -> list[DueRun]:
    """Return the runs to wake, the most overdue first."""
    rows = await fetch(
        f"""SELECT namespace, run_id, wake_at, pk FROM runs WHERE wake_at IS NOT NULL AND {UNFINISHED}
        AND (wake_at, pk) > ($1, $2) AND wake_at <= $3 AND workflow = ANY($4::text[]) ORDER BY wake_at, pk LIMIT $5""",
        float(after[0]),
        after[1],
        float(now),
        list(workflows),
        limit,
    )
    return [DueRun(RunKey(row[0], row[1]), row[2], row[3]) for row in rows]


async def ended(
    fetch: Fetch, after: tuple[float, int], limit: int, before: float | None, longer_than: int
) -> list[EndedRun]:
    """Return ended runs, those that ended first first."""
    rows = await fetch(
        """SELECT namespace, run_id, ended_at, pk FROM runs WHERE ended_at IS NOT NULL AND (ended_at, pk) > ($1, $2)
        AND ended_at < $3 AND last_sequence > $4 ORDER BY ended_at, pk LIMIT $5""",
        float(after[0]),
        after[1],
        math.inf if before is None else float(before),
        longer_than,
        limit,
    )
    return [EndedRun(RunKey(row[0], row[1]), row[2], row[3]) for row in rows]


async def long_logs(fetch: Fetch, workflow: str, entries: int, limit: int, after: int) -> list[LongRun]:
    """Return runs with a long log, by pk."""
    rows = await fetch(
        f"""SELECT namespace, run_id, first_available, last_sequence, pk FROM runs WHERE {LONG} AND workflow = $1
        AND last_sequence - first_available >= $2 AND pk > $3 ORDER BY pk LIMIT $4""",
        workflow,
        entries,
        after,
        limit,
    )
    return [LongRun(RunKey(row[0], row[1]), *row[2:]) for row in map(tuple, rows)]


async def next_wake(fetch: Fetch, after: float, workflows: Sequence[str]) -> float | None:
    """Return the earliest time to wake a run."""
    rows = await fetch(
        f"""SELECT wake_at FROM runs WHERE wake_at IS NOT NULL AND {UNFINISHED} AND wake_at > $1
        AND workflow = ANY($2::text[]) ORDER BY wake_at LIMIT 1""",
        float(after),
        list(workflows),
    )
    return rows[0][0] if rows else None


async def list_runs(fetch: Fetch, query: RunQuery) -> list[RunRecord]:
    """Return a page of runs, newest first; see `RunStore.list`. A damaged record is left out and logged."""
    values: list[Any] = [query.namespace]

    def given(value: Any) -> str:
        values.append(value)
        return f"${len(values)}"

    where = ["namespace = $1"]
    if query.workflow:
        where.append(f"workflow = {given(query.workflow)}")
    if query.workflows is not None:
        where.append(f"workflow = ANY({given(list(query.workflows))}::text[])")
    if query.statuses:
        where.append(f"status = ANY({given(list(query.statuses))}::text[])")
    if query.labels:
        where.append(f"label_set @> {given(json.dumps(query.labels))}::jsonb AND label_set <> '{{}}'")
    if query.created_after is not None:
        where.append(f"created_at > {given(float(query.created_after))}")
    if query.created_before is not None:
        where.append(f"created_at < {given(float(query.created_before))}")
    if query.before is not None:
        at, run_id = query.before
        where.append(f"(created_at, run_id) < ({given(float(at))}, {given(run_id)})")
    rows = await fetch(
        f"""SELECT {COLUMNS} FROM
        (SELECT *, sum(length(info)) OVER (ORDER BY created_at DESC, run_id DESC) - length(info) AS bytes_before FROM
            (SELECT * FROM runs WHERE {" AND ".join(where)}
            ORDER BY created_at DESC, run_id DESC LIMIT {given(query.limit)}) AS page) AS runs
        WHERE bytes_before < {LIST_BYTES} ORDER BY created_at DESC, run_id DESC""",
        *values,
    )
    records = []
    for row in rows:
        try:
            records.append(read_record(row))
        except StoreCorruptError as error:
            log.error("a damaged run is left out of a list: %s", error)
    return records


async def prunable(
    fetch: Fetch, workflow: str | None, ended_before: float | None, keep_last: int | None, limit: int
) -> list[tuple[RunKey, int]]:
    """Return ended runs that may be pruned, with their pks, in the order in which they ended."""
    rows = await fetch(
        """SELECT namespace, run_id, pk FROM (
            SELECT namespace, run_id, pk, ended_at, CASE WHEN $3::int8 IS NULL THEN 0 ELSE
                row_number() OVER (PARTITION BY namespace, workflow ORDER BY ended_at DESC, pk DESC) END AS place
            FROM runs WHERE ended_at IS NOT NULL AND ($1::text IS NULL OR workflow = $1)) AS found
        WHERE ($2::float8 IS NULL OR ended_at < $2) AND ($3::int8 IS NULL OR place > $3)
        ORDER BY ended_at, pk LIMIT $4""",
        workflow,
        None if ended_before is None else float(ended_before),
        keep_last,
        limit,
    )
    return [(RunKey(row[0], row[1]), row[2]) for row in rows]
