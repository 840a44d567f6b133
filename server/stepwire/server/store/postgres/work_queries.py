"""Find the runs in PostgreSQL that the server has work with."""

from __future__ import annotations

import math
from collections.abc import Sequence

from stepwire.server.store.postgres.claiming import DEAD
from stepwire.server.store.postgres.run_queries import Fetch
from stepwire.server.store.postgres.schema import LONG, UNFINISHED
from stepwire.server.store.records import DueRun, EndedRun, LongRun, RunKey, WorkflowPause
from stepwire.server.store.terms import CLOSE, TELL

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
