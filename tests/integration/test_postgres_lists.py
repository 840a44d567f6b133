"""Which index of PostgreSQL a list of runs is read from, whatever the planner knows of the data."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import asyncpg
import pytest
from tests.postgres import MISSING, PostgresServer, programs

from stepwire.server.store import RunQuery
from stepwire.server.store.damage import Damage
from stepwire.server.store.postgres import list_queries
from stepwire.server.store.postgres.connections import for_lists
from stepwire.server.store.postgres.migration import migrate

FILTERS: list[tuple[str, dict[str, Any]]] = [
    ("runs_created", {}),
    ("runs_flow", {"workflow": "old"}),
    ("runs_flow", {"workflows": ["old", "none"]}),
    ("runs_status", {"statuses": ["CANCELLED"]}),
    ("runs_status", {"statuses": ["CANCELLED", "FAILED"]}),
    ("runs_flow_status", {"workflow": "old", "statuses": ["CANCELLED", "FAILED"]}),
    ("labels_pkey", {"labels": {"era": "old"}}),
    ("labels_pkey", {"labels": {"era": "old", "all": "1"}}),
    ("labels_pkey", {"labels": {"era": "old"}, "statuses": ["COMPLETED"]}),
    ("runs_flow", {"labels": {"all": "1"}, "workflow": "old"}),
    ("terms_pkey", {"terms": ["by=ada"]}),
    ("terms_pkey", {"terms": ["by=ada"], "labels": {"all": "1"}}),
    ("runs_key", {"run_id_prefix": "r100"}),
    ("runs_ended", {"ended_before": 50.0}),
    ("runs_flow", {"workflow": "old", "ended_after": 0.0}),
]
"""Filters with the index that is read."""


@pytest.fixture(scope="module")
def database() -> Iterator[PostgresServer]:
    """A database with 20,000 runs, of which few are old, and no statistics."""
    if programs() is None:
        pytest.skip(MISSING)
    with PostgresServer(["fsync=off", "autovacuum=off"]) as server:
        yield server


async def test_each_filter_walks_its_index_with_and_without_statistics(database: PostgresServer) -> None:
    await migrate(database.dsn)
    database.sql(
        """INSERT INTO runs (token, version, nonce, namespace, run_id, workflow, status, created_at, updated_at,
            ended_at, last_sequence, first_available, labels, label_set, start_request_id, start_digest, info, terms,
            began, checksum)
        SELECT 1, 0, 0, 'default', 'r' || n, CASE WHEN n < 2000 THEN 'old' ELSE 'new' END,
            CASE WHEN n < 2000 THEN 'CANCELLED' ELSE 'COMPLETED' END, n, n, n + 1, 0, 1, '{}',
            CASE WHEN n < 3000 THEN '{"all":"1","era":"old"}' ELSE '{"all":"1"}' END::jsonb, '', '', repeat('x', 200),
            CASE WHEN n < 2000 THEN '["by=ada"]' ELSE '["by=bob"]' END, 0, 0 FROM generate_series(1, 20000) AS n"""
    )
    connection = await asyncpg.connect(database.dsn)
    await for_lists(connection)
    for statistics in (False, True):
        if statistics:
            await connection.execute("ANALYZE")
        for index, fields in FILTERS:
            plan = await _plan(connection, RunQuery(namespace="default", limit=10, **fields))
            walked = plan[: plan.index("WindowAgg")]
            assert f"using {index} on" in walked, (statistics, fields, plan)
            assert not any(other in plan for other in ("Seq Scan on runs", "Bitmap", "JIT", "Hash Join")), plan
            # The page is sorted if it comes from several places of an index, or out of order; never what is walked.
            several = (
                len(fields.get("statuses", "")) > 1 or "workflows" in fields or index in {"runs_key", "runs_ended"}
            )
            assert walked.count("Sort Key") == several, (statistics, fields, plan)
    await connection.close()


async def _plan(connection: Any, query: RunQuery) -> str:
    """Return the plan of the statement that reads a page."""
    statements: list[tuple[str, Sequence[Any]]] = []

    async def fetch(statement: str, *values: Any) -> Sequence[Any]:
        statements.append((statement, values))
        rows: Sequence[Any] = await connection.fetch(statement, *values)
        return rows if "AS counted" in statement else []

    await list_queries.list_runs(fetch, query, Damage())
    statement, values = statements[-1]
    return "\n".join(row[0] for row in await connection.fetch(f"EXPLAIN {statement}", *values))
