"""How groups of commits are written to PostgreSQL: what is in one statement, and how it is planned."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Sequence
from dataclasses import replace
from typing import Any

import asyncpg
import pytest
from tests.postgres import PostgresServer
from tests.unit.contract.support import answered, create, first, later, record

from stepwire.server.store import Chunk, Claim, Commit, Quota, RunExistsError, StaleClaimError, Status
from stepwire.server.store.encoding import encode_commit
from stepwire.server.store.postgres import PostgresStore
from stepwire.server.store.postgres.commit_statements import Row, statement_for
from stepwire.server.store.postgres.connections import connect_for_writes
from stepwire.server.store.postgres.migration import migrate
from stepwire.server.telemetry.metrics import StoreMetrics


@pytest.fixture
async def store(database: PostgresServer) -> AsyncIterator[PostgresStore]:
    database.empty()
    store = PostgresStore(database.dsn, metrics=StoreMetrics())
    await store.open()
    yield store
    await store.close()


def _chunks(*sequences: int) -> list[Chunk]:
    return [Chunk(each, each, b"public %d" % each, None) for each in sequences]


QUESTION: dict[str, Any] = {"waiter_id": "w", "event_type": "Answer"}
ENDED = replace(record("ended"), status=Status.COMPLETED, ended_at=101.0)
OF_A_NEW_RUN = first(record("new"), chunks=_chunks(1, 2))
OF_ONE_THAT_ASKS = first(record("asks"), pending={1: QUESTION})


def _rows(*commits: Commit) -> list[Row]:
    return [
        Row(commit, *encode_commit(commit)[:2], 2, n, asked=True, quota=commit.quota)
        for n, commit in enumerate(commits)
    ]


CLAIM = Claim(record().key, 1, 7)
GROUPS: dict[str, Sequence[Commit]] = {
    "new": [first(record("new"))],
    "new, counted": [replace(first(record("new")), quota=Quota(30, None))],
    "later": [later(record(), CLAIM, 1, b"x")],
    "an end": [later(ENDED, CLAIM, 1, b"x")],
    "all": [
        OF_A_NEW_RUN,
        OF_ONE_THAT_ASKS,
        first(record("r2", start_request_id="start")),
        later(ENDED, CLAIM, 1, b"x", requests=[answered(1, 100.0)], chunks=_chunks(1, 2)),
        later(record(), CLAIM, 1, b"x", pending={1: None}),
    ],
}


@pytest.mark.parametrize("statistics", [False, True])
@pytest.mark.parametrize("group", GROUPS)
async def test_rows_are_looked_up_in_their_indexes(database: PostgresServer, group: str, statistics: bool) -> None:
    await migrate(database.dsn)
    connection = await connect_for_writes(database.dsn)
    try:
        if statistics:
            await connection.execute("ANALYZE")
        statement, arrays = statement_for(_rows(*GROUPS[group]))
        plan = "\n".join(row[0] for row in await connection.fetch(f"EXPLAIN {statement}", *arrays))
        assert "Seq Scan" not in plan
        assert "Hash" not in plan
        assert "JIT" not in plan
        assert ("using runs_pkey" in plan) == ("new" not in group)
        assert ("requests" in plan) == ("questions_pkey on questions q_1" in plan) == (group == "all")
    finally:
        await connection.close()


async def test_a_group_has_commits_of_every_kind_and_each_has_its_own_outcome(
    store: PostgresStore, database: PostgresServer
) -> None:
    await create(store, "taken")
    goes_on, ends, fenced = [await create(store, each) for each in ("goes on", "ended", "fenced")]
    await store.commit(later(record("ended"), ends, 0, b"asks", pending=dict.fromkeys((1, 2), QUESTION)))
    await store.commit(later(record("goes on"), goes_on, 0, b"asks", pending=dict.fromkeys((1, 2), QUESTION)))
    database.sql("UPDATE runs SET token = 9 WHERE run_id = 'fenced'")
    items = store._writer._metrics.items
    before = list(items.counts)
    commits = [
        first(record("new"), delta=b"new", chunks=_chunks(1, 2, 3), requests=[answered(1, 100.0)]),
        later(
            record("goes on"),
            goes_on,
            2,
            b"goes on",
            chunks=_chunks(1, 2),
            requests=[answered(2, 100.0), answered(1, 100.0)],
            pending={1: None, 3: QUESTION},
        ),
        later(ENDED, ends, 1, b"end", chunks=_chunks(1)),
        later(record("fenced"), fenced, 1, b"stale", chunks=_chunks(1)),
        first(record("taken"), delta=b"another"),
        OF_ONE_THAT_ASKS,
    ]
    done = await asyncio.gather(*(store.commit(commit) for commit in commits), return_exceptions=True)
    assert [a - b for a, b in zip(items.counts, before, strict=True)][items.bounds.index(8.0)] == 1
    assert sum(items.counts) - sum(before) == 1, "they are one group"
    assert [type(each) for each in done] == [Claim, Claim, Claim, StaleClaimError, RunExistsError, Claim]
    for run_id, delta, sequences, requests, questions in [
        ("new", b"new", [1, 2, 3], ["q1"], []),
        ("goes on", b"goes on", [1, 2], ["q2", "q1"], [2, 3]),
        ("ended", b"end", [1], [], []),
        ("fenced", b"full", [], [], []),
        ("taken", b"full", [], [], []),
        ("asks", b"full", [], [], [1]),
    ]:
        key = record(run_id).key
        snapshot = await store.load(key)
        found = await store.get(key)
        assert snapshot is not None
        assert found is not None
        assert [snapshot.full, *snapshot.deltas][-1] == delta
        assert [chunk.first for chunk in await store.entries(key, 0)] == sequences
        assert [each.request_id for each in await store.requests(key)] == requests
        assert list(found.pending) == questions
    assert database.sql("SELECT count(*) FROM questions") == "3"


async def test_a_group_that_waits_for_a_lock_holds_up_no_other(store: PostgresStore, database: PostgresServer) -> None:
    claims = [await create(store, each) for each in ("locked", "free")]
    blocker = await asyncpg.connect(database.dsn)
    try:
        async with blocker.transaction():
            await blocker.execute("SELECT 1 FROM runs WHERE run_id = 'locked' FOR UPDATE")
            waiting = store.commit(later(record("locked"), claims[0], 1, b"x"))
            while not await blocker.fetchval("SELECT count(*) FROM pg_locks WHERE NOT granted"):  # noqa: ASYNC110
                await asyncio.sleep(0.01)
            assert await store.commit(later(record("free"), claims[1], 1, b"x")) == claims[1]
            assert not waiting.done()
        assert await waiting == claims[0]
    finally:
        await blocker.close()


async def test_what_comes_while_a_group_is_under_way_is_one_group(store: PostgresStore) -> None:
    claims = [await create(store, f"r{n}") for n in range(40)]
    items = store._writer._metrics.items
    before = sum(items.counts)
    commits = []
    for n, claim in enumerate(claims):
        commits.append(store.commit(later(record(f"r{n}"), claim, 1, b"x")))
        await asyncio.sleep(0)
    assert await asyncio.gather(*commits) == claims
    assert sum(items.counts) - before <= 20


async def test_terms_of_runs_that_another_version_writes_are_found(
    store: PostgresStore, database: PostgresServer
) -> None:
    """A replica of the version before goes on with its own statements after the tables were migrated."""
    await create(store, "ours", terms=("by=ada", "step=one"))
    columns = """version, nonce, namespace, workflow, status, created_at, updated_at, last_sequence, first_available,
        labels, label_set, start_request_id, start_digest, info, terms, began, checksum"""
    database.sql(f"""INSERT INTO runs (token, run_id, {columns}) SELECT 1, 'theirs', {columns} FROM runs
        ON CONFLICT DO NOTHING""")
    found = database.sql("SELECT run_id, string_agg(term, ' ' ORDER BY term) FROM terms GROUP BY 1 ORDER BY 1")
    assert found.splitlines() == ["ours|by=ada step=one", "theirs|by=ada step=one"]
