"""Which index of PostgreSQL a list of runs is read from, whatever the planner knows of the data."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Any

import asyncpg
import pytest
from tests.postgres import PostgresServer

from stepwire.server.store import RunQuery
from stepwire.server.store.damage import Damage
from stepwire.server.store.postgres import list_queries, migration, schema
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


RUNS = """INSERT INTO runs (token, version, nonce, namespace, run_id, workflow, status, created_at, updated_at,
    ended_at, last_sequence, first_available, labels, label_set, start_request_id, start_digest, info, terms,
    began, checksum)
SELECT 1, 0, 0, 'default', 'r' || n, CASE WHEN n < 2000 THEN 'old' ELSE 'new' END,
    CASE WHEN n < 2000 THEN 'CANCELLED' ELSE 'COMPLETED' END, n, n, n + 1, 0, 1, '{{}}',
    CASE WHEN n < 3000 THEN '{{"all":"1","era":"old"}}' ELSE '{{"all":"1"}}' END::jsonb, '', '', repeat('x', 200),
    CASE WHEN n < 2000 THEN '["by=ada"]' ELSE '["by=bob"]' END, 0, 0 FROM generate_series(1, {last}) AS n"""
"""Writes runs, of which few are old."""


async def test_each_filter_walks_its_index_with_and_without_statistics(database: PostgresServer) -> None:
    await migrate(database.dsn)
    database.sql(RUNS.format(last=20_000))
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


async def test_runs_of_an_older_database_are_found_by_their_labels(
    database: PostgresServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    database.sql("CREATE DATABASE older")
    older = re.sub(r"/stepwire$", "/older", database.dsn)
    with monkeypatch.context() as before:
        before.setattr(migration, "MIGRATIONS", schema.MIGRATIONS[:6])
        await migrate(older)
    connection = await asyncpg.connect(older)
    await connection.execute(RUNS.format(last=3000))
    await migrate(older)

    async def labelled(**labels: str) -> int:
        return len(await _rows(connection, RunQuery(namespace="default", limit=5000, labels=labels)))

    assert [await labelled(era="old", all="1"), await labelled(era="old"), await labelled(era="new")] == [2999, 2999, 0]
    # Labels follow what a run gets and loses, and go with it.
    await connection.execute("""UPDATE runs SET label_set = '{"era":"new"}' WHERE run_id = 'r7'""")
    assert [await labelled(era="old"), await labelled(era="new"), await labelled(all="1")] == [2998, 1, 2999]
    await connection.execute("UPDATE runs SET label_set = '{}' WHERE run_id = 'r7'")
    await connection.execute("DELETE FROM runs WHERE run_id = 'r8'")
    assert [await labelled(era="old"), await labelled(era="new")] == [2997, 0]
    assert await connection.fetchval("SELECT count(*) FROM labels WHERE run_id IN ('r7', 'r8')") == 0
    await connection.close()


async def _rows(connection: Any, query: RunQuery) -> Sequence[Any]:
    """Return the rows of a page, unread: these records have no content."""
    pages: list[Sequence[Any]] = []

    async def fetch(statement: str, *values: Any) -> Sequence[Any]:
        rows: Sequence[Any] = await connection.fetch(statement, *values)
        if "AS counted" in statement:
            return rows
        pages.append(rows)
        return []

    await list_queries.list_runs(fetch, query, Damage())
    return pages[-1]
