"""Find runs in PostgreSQL: those that the server has work with, and pages of a list."""

from __future__ import annotations

import json
import logging
import math
from collections.abc import Sequence
from typing import Any

from stepwire.server.store.damage import Damage
from stepwire.server.store.encoding import read_record
from stepwire.server.store.errors import StoreCorruptError
from stepwire.server.store.limits import LIST_BYTES
from stepwire.server.store.postgres.claiming import DEAD
from stepwire.server.store.postgres.run_queries import COLUMNS, Fetch
from stepwire.server.store.postgres.schema import LONG, UNFINISHED
from stepwire.server.store.records import DueRun, EndedRun, LongRun, RunKey, RunQuery, RunRecord, WorkflowPause
from stepwire.server.store.terms import CLOSE, TELL, term_parts

log = logging.getLogger(__name__)


_FREE = f"(owner IS NULL OR {DEAD})"
_FITS = """NOT EXISTS (SELECT 1 FROM replicas p WHERE NOT p.draining AND p.versions ->> r.workflow = r.code
    AND NOT EXISTS (SELECT 1 FROM replicas m WHERE m.id = $6 AND m.versions ->> r.workflow = r.code))"""
"""Of a run: this replica serves its version, or no replica that takes runs does."""


async def due(
    fetch: Fetch,
    now: float,
    limit: int,
    workflows: Sequence[str],
    after: tuple[float, int],
    me: int,
    size: int,
    rank: int,
) -> list[DueRun]:
    """Return the runs to wake, the most overdue first: of `size` shares that of `rank`."""
    rows = await fetch(
        f"""SELECT namespace, run_id, wake_at, pk FROM runs r WHERE wake_at IS NOT NULL AND {UNFINISHED}
        AND (wake_at, pk) > ($1, $2) AND wake_at <= $3 AND workflow = ANY($4::text[])
        AND pk % $7 = $8 AND {_FREE} AND {_FITS} ORDER BY wake_at, pk LIMIT $5""",
        float(after[0]),
        after[1],
        float(now),
        list(workflows),
        limit,
        me,
        size,
        rank,
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
        f"""SELECT wake_at FROM runs r WHERE wake_at IS NOT NULL AND {UNFINISHED} AND wake_at > $1 AND {_FREE}
        AND workflow = ANY($2::text[]) ORDER BY wake_at LIMIT 1""",
        float(after),
        list(workflows),
    )
    return rows[0][0] if rows else None


async def list_runs(fetch: Fetch, query: RunQuery, damage: Damage) -> list[RunRecord]:
    """Return a page of runs, newest first; see `RunStore.list`.

    A damaged record is left out and logged, and told of.
    """
    values: list[Any] = [query.namespace]

    def given(value: Any) -> str:
        values.append(value)
        return f"${len(values)}"

    where = ["r.namespace = $1"]
    source, order = "runs r", "r"
    if query.terms:
        # The index of a term has its runs in order. That of the rarest one is walked, the others are looked up.
        rarest, *others = query.terms if len(query.terms) == 1 else await _rarest_first(fetch, query)
        source, order = "terms t JOIN runs r ON r.pk = t.run", "t"
        where.append(f"t.namespace = $1 AND t.term = {given(rarest)}")
        where += [
            f"EXISTS (SELECT 1 FROM terms o WHERE o.namespace = $1 AND o.term = {given(each)}"
            " AND o.created_at = t.created_at AND o.run_id = t.run_id)"
            for each in others
        ]
    if query.run_id_prefix:
        where.append(f"r.run_id >= {given(query.run_id_prefix)} AND r.run_id < {given(query.prefix_end)}")
    for bound, sign in ((query.ended_after, ">"), (query.ended_before, "<")):
        if bound is not None:
            where.append(f"r.ended_at IS NOT NULL AND r.ended_at {sign} {given(float(bound))}")
    if query.workflow:
        where.append(f"{order}.workflow = {given(query.workflow)}")
    if query.workflows is not None:
        where.append(f"{order}.workflow = ANY({given(list(query.workflows))}::text[])")
    if query.statuses:
        where.append(f"r.status = ANY({given(list(query.statuses))}::text[])")
    if query.labels:
        where.append(f"r.label_set @> {given(json.dumps(query.labels))}::jsonb AND r.label_set <> '{{}}'")
    if query.created_after is not None:
        where.append(f"{order}.created_at > {given(float(query.created_after))}")
    created_before = [bound for bound in (query.created_before, query.ended_before) if bound is not None]
    if created_before:  # a run ends after it was created
        where.append(f"{order}.created_at < {given(float(min(created_before)))}")
    if query.before is not None:
        at, run_id = query.before
        where.append(f"({order}.created_at, {order}.run_id) < ({given(float(at))}, {given(run_id)})")
    rows = await fetch(
        f"""SELECT {COLUMNS} FROM
        (SELECT *, sum(length(info)) OVER (ORDER BY created_at DESC, run_id DESC) - length(info) AS bytes_before FROM
            (SELECT r.* FROM {source} WHERE {" AND ".join(where)}
            ORDER BY {order}.created_at DESC, {order}.run_id DESC LIMIT {given(query.limit)}) AS page) AS runs
        WHERE bytes_before < {LIST_BYTES} ORDER BY created_at DESC, run_id DESC""",
        *values,
    )
    records = []
    for row in rows:
        try:
            records.append(read_record(row))
        except StoreCorruptError as error:
            log.error("a damaged run is left out of a list: %s", error)
            damage.found([RunKey(query.namespace, row["run_id"])])
    return records


async def terms_of(fetch: Fetch, key: RunKey, name: str) -> list[str]:
    """Return the values of the terms of a name of a run. It walks the index of that name: for damaged runs alone."""
    rows = await fetch(
        "SELECT term FROM terms WHERE namespace = $1 AND term >= $2 AND term < $3 AND run_id = $4",
        key.namespace,
        f"{name}=",
        f"{name}>",
        key.run_id,
    )
    return [term_parts(row[0])[1] for row in rows]


async def _rarest_first(fetch: Fetch, query: RunQuery) -> list[str]:
    rows = await fetch(
        """SELECT each FROM unnest($2::text[]) AS t (each) ORDER BY (SELECT count(*) FROM
        (SELECT 1 FROM terms WHERE namespace = $1 AND term = each LIMIT 10000) AS counted)""",
        query.namespace,
        list(query.terms),
    )
    return [row[0] for row in rows]


async def prunable(
    fetch: Fetch, workflow: str | None, ended_before: float | None, keep_last: int | None, limit: int
) -> list[tuple[RunKey, int]]:
    """Return ended runs that may be pruned, with their pks, in the order in which they ended."""
    rows = await fetch(
        f"""SELECT namespace, run_id, pk FROM (
            SELECT namespace, run_id, pk, created_at, ended_at, CASE WHEN $3::int8 IS NULL THEN 0 ELSE
                row_number() OVER (PARTITION BY namespace, workflow ORDER BY ended_at DESC, pk DESC) END AS place
            FROM runs WHERE ended_at IS NOT NULL AND ($1::text IS NULL OR workflow = $1)) AS found
        WHERE ($2::float8 IS NULL OR ended_at < $2) AND ($3::int8 IS NULL OR place > $3) AND NOT EXISTS
            (SELECT 1 FROM terms t WHERE t.namespace = found.namespace AND t.term IN ('{TELL}', '{CLOSE}')
            AND t.created_at = found.created_at AND t.run_id = found.run_id)
        ORDER BY ended_at, pk LIMIT $4""",
        workflow,
        None if ended_before is None else float(ended_before),
        keep_last,
        limit,
    )
    return [(RunKey(row[0], row[1]), row[2]) for row in rows]


async def pauses(fetch: Fetch) -> list[WorkflowPause]:
    """Return the pauses of all workflows that are or were paused."""
    rows = await fetch("SELECT namespace, workflow, since, paused_by, reason, total, waking FROM pauses")
    return [WorkflowPause(*row) for row in rows]


async def save_pause(fetch: Fetch, pause: WorkflowPause) -> None:
    """Keep the pauses of a workflow."""
    await fetch(
        "INSERT INTO pauses VALUES ($1, $2, $3, $4, $5, $6, $7) ON CONFLICT (namespace, workflow) DO UPDATE SET"
        " since = excluded.since, paused_by = excluded.paused_by, reason = excluded.reason,"
        " total = excluded.total, waking = excluded.waking",
        *pause,
    )
