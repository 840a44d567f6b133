"""What queries of the SQLite store cost, and whom they keep waiting."""

from __future__ import annotations

import asyncio
import sqlite3
import threading
from contextlib import closing
from pathlib import Path

import pytest
from tests.integration.sqlite.support import first, later, record, rows

from stepwire.server.store import (
    Commit,
    RunKey,
    RunQuery,
    SqliteStore,
    StoredSnapshot,
)
from stepwire.server.store.encoding import began_checksum, encode_record, question_checksum, record_checksum
from stepwire.server.store.sqlite import list_queries, run_queries, schema, work_queries
from stepwire.server.store.sqlite.connections import connect_reader, connect_writer


async def test_reading_does_not_wait_for_writing(store: SqliteStore) -> None:
    claim = await store.commit(first())
    with closing(sqlite3.connect(store.path, isolation_level=None)) as other:
        other.execute("BEGIN IMMEDIATE")  # the writer cannot begin now
        future = store.commit(later(claim, 1))
        assert await store.get(claim.key) == record()
        assert await store.load(claim.key) == StoredSnapshot(0, 1.0, b"full", [])
        assert not future.done()
        other.execute("ROLLBACK")
        await future
    assert await store.get(claim.key) == record(sequence=1)


async def test_no_frequent_query_scans_a_table(store: SqliteStore) -> None:
    key = (await store.commit(first())).key
    statements: list[str] = []
    with closing(connect_reader(store.path)) as connection:
        connection.set_trace_callback(statements.append)
        run_queries.get(connection, key)
        run_queries.load(connection, key, None)
        run_queries.load(connection, key, 3)
        run_queries.entries(connection, key, 5, 16)
        run_queries.requests(connection, key, 5.0)
        run_queries.snapshots(connection, key, 5, 10)
        work_queries.due(connection, 5.0, 10, ["orders"], (-1.0, 0))
        work_queries.next_wake(connection, 5.0, ["orders"])
        list_queries.find_start(connection, "default", "req")
        for workflow in ("", "orders"):
            for labels in ({}, {"a": "b"}, {"a": "b", "c": "d"}):
                for terms in ((), ("by=ada",), ("by=ada", "error=ValueError")):
                    for statuses in ((), ("RUNNING",), ("FAILED", "COMPLETED")):
                        query = RunQuery(
                            namespace="default",
                            workflow=workflow,
                            before=(1.0, "r"),
                            labels=labels,
                            statuses=statuses,
                            terms=terms,
                        )
                        list_queries.list_runs(connection, query, [])
                        list(list_queries.rows_by_status(connection, query, list_queries.parts_of(query)))
        list_queries.prunable(connection, None, 5.0, None, 10)
        connection.set_trace_callback(None)
        assert len(statements) >= 12
        ordered = len(statements)
        connection.set_trace_callback(statements.append)
        for fields in ({"run_id_prefix": "r"}, {"ended_after": 1.0}, {"ended_before": 9.0, "ended_after": 1.0}):
            query = RunQuery(namespace="default", workflow="orders", **fields)  # type: ignore[arg-type]
            list_queries.list_runs(connection, query, [])
            list(list_queries.rows_by_status(connection, query, list_queries.parts_of(query)))
        connection.set_trace_callback(None)
        for number, statement in enumerate(statements):
            sorts = number >= ordered and "runs.pk IN" in statement  # a few places, and only these
            for *_, detail in connection.execute(f"EXPLAIN QUERY PLAN {statement}"):
                scanned = detail.split()[1] if detail.startswith("SCAN") else ""
                assert scanned not in {"runs", "commits", "log", "requests", "labels", "terms", "pruned_starts"}, (
                    statement
                )
                assert sorts or "TEMP B-TREE" not in detail, statement


async def test_labels_of_an_older_database_are_found_after_its_migration(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with monkeypatch.context() as older:
        older.setattr(schema, "MIGRATIONS", schema.MIGRATIONS[:2])
        with closing(connect_writer(tmp_path / "stepwire.db")) as connection:
            for n, labels in enumerate(('{"team":"blue","odd \\"key\\"":"\\u00e9"}', "{}", '{"team":')):
                row = encode_record(record(f"r{n}"))._replace(labels=labels)
                values = (n + 1, 1, *row[:-1], began_checksum(n + 1, row), record_checksum(n + 1, row))  # no terms yet
                connection.execute(f"INSERT INTO runs VALUES ({', '.join('?' * len(values))})", values)
            for sequence in (1, 1, 2):
                connection.execute("INSERT INTO commits VALUES (NULL, 1, ?, 1.0, 1, 0, 'x')", (sequence,))
    store = SqliteStore(tmp_path)
    await store.open()
    for label in ({"team": "blue"}, {'odd "key"': "é"}):
        found = await store.list(RunQuery(namespace="default", labels=label))
        assert [run_.key.run_id for run_ in found] == ["r0"]
    assert rows(store.path, "labels") == 2
    assert [info.sequence for info in await store.snapshots(RunKey("default", "r0"), None, 9)] == [2, 1]
    for run_id in ("r0", "r2"):  # the damaged one, too
        assert await store.delete(RunKey("default", run_id))
    assert rows(store.path, "labels") == 0
    await store.close()


async def test_runs_of_an_older_database_are_found_by_terms_after_its_migration(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    failure = {"step": "pay", "error_type": "ValueError"}
    infos = {"r0": {"principal": "ada", "outcome": {"failure": failure}}, "r1": {"principal": "ada"}, "r2": {}}
    with monkeypatch.context() as older:
        older.setattr(schema, "MIGRATIONS", schema.MIGRATIONS[:5])
        with closing(connect_writer(tmp_path / "stepwire.db")) as connection:
            for n, (run_id, info) in enumerate(infos.items()):
                row = encode_record(record(run_id, info=info))
                values = (n + 1, 1, *row[:-1], began_checksum(n + 1, row), record_checksum(n + 1, row))
                connection.execute(f"INSERT INTO runs VALUES ({', '.join('?' * len(values))})", values)
            question = '{"event_type":"Answer","step":"ask"}'
            asked = (2, 1, question_checksum(2, 1, question), question)
            connection.execute("INSERT INTO questions VALUES (NULL, ?, ?, ?, ?)", asked)
    store = SqliteStore(tmp_path)
    await store.open()
    for term, expected in (
        ("by=ada", ["r1", "r0"]), ("error=ValueError", ["r0"]), ("step=pay", ["r0"]), ("step=ask", ["r1"]),
        ("event=Answer", ["r1"]),
    ):  # fmt: skip
        found = await store.list(RunQuery(namespace="default", terms=[term]))
        assert [run_.key.run_id for run_ in found] == expected
    assert await store.delete(RunKey("default", "r0"))
    assert rows(store.path, "terms") == 3
    await store.close()


async def test_the_indexes_of_a_run_cost_the_same_however_many_runs_have_its_label_and_terms(tmp_path: Path) -> None:
    steps: dict[int, int] = {}
    for count in (100, 3000):
        store = SqliteStore(tmp_path / str(count))
        await store.open()
        made = [record(f"r{n}", created_at=float(n), labels={"team": "blue"}, terms=("by=ada",)) for n in range(count)]
        claims = await asyncio.gather(*(store.commit(Commit(each, None, b"{}", True)) for each in made))
        taken = [0]

        def work(connection: sqlite3.Connection, taken: list[int] = taken) -> None:
            def step() -> None:
                taken[0] += 1

            connection.set_progress_handler(step, 10)
            connection.execute("""UPDATE runs SET labels = '{"team":"red"}', terms = '["by=bob"]' WHERE pk = 50""")
            connection.execute("DELETE FROM runs WHERE pk = 50")
            connection.set_progress_handler(None, 0)

        await store._writer.run(work)
        assert claims[49].handle == 50
        for fields in ({"labels": {"team": "blue"}}, {"terms": ["by=ada"]}):
            found = await store.list(RunQuery(namespace="default", limit=10_000, **fields))  # type: ignore[arg-type]
            assert len(found) == count - 1
        assert await store.list(RunQuery(namespace="default", terms=["by=bob"])) == []
        steps[count] = taken[0]
        await store.close()
    assert steps[3000] < 2 * steps[100] + 20


async def test_a_slow_list_keeps_no_load_waiting(store: SqliteStore) -> None:
    claim = await store.commit(first())
    go_on = threading.Event()
    slow = [asyncio.create_task(store._lists.run(lambda _: go_on.wait(60))) for _ in range(8)]
    replays = [asyncio.create_task(store._replays.run(lambda _: go_on.wait(60))) for _ in range(8)]
    await asyncio.sleep(0)
    try:
        assert await store.load(claim.key) is not None
        assert await store.get(claim.key) is not None
        assert await store.due(0.0, 10, workflows=["orders"]) != []
    finally:
        go_on.set()
        await asyncio.gather(*slow, *replays)
