"""What only the SQLite store does: files, crashes, damage, full disks, locks, versions, backups."""

from __future__ import annotations

import asyncio
import itertools
import os
import resource
import sqlite3
import subprocess
import sys
import textwrap
import threading
from collections.abc import AsyncIterator
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest

from stepwire.server.store import (
    Chunk,
    Claim,
    Commit,
    RequestRecord,
    RunKey,
    RunQuery,
    RunRecord,
    SqliteStore,
    StaleClaimError,
    Status,
    StoreCorruptError,
    StoredSnapshot,
    StoreError,
    StoreLockedError,
    StoreUnavailableError,
)
from stepwire.server.store.encoding import began_checksum, encode_record, question_checksum, record_checksum
from stepwire.server.store.sqlite import list_queries, removal, run_queries, schema, work_queries
from stepwire.server.store.sqlite.connections import connect_reader, connect_writer


@pytest.fixture
async def store(tmp_path: Path) -> AsyncIterator[SqliteStore]:
    opened = SqliteStore(tmp_path)
    await opened.open()
    yield opened
    await opened.close()


def record(run_id: str = "r1", sequence: int = 0, **fields: Any) -> RunRecord:
    values: dict[str, Any] = {"workflow": "orders", "status": Status.RUNNING}
    values |= {"created_at": 1.0, "updated_at": 1.0, "last_sequence": sequence}
    return RunRecord(key=RunKey("default", run_id), **(values | fields))


def first(run_id: str = "r1", **fields: Any) -> Commit:
    return Commit(record(run_id, **fields), None, b"full", full=True)


def later(claim: Claim, sequence: int, data: bytes = b"delta") -> Commit:
    chunk = Chunk(sequence, sequence, b"public " + data, b"internal " + data)
    run = record(claim.key.run_id, sequence)
    return Commit(run, claim, data, full=False, chunks=[chunk])


async def write_on(store: SqliteStore, statement: str) -> Any:
    """Run a statement on the writer's connection."""
    return await store._writer.run(lambda connection: connection.execute(statement).fetchall())


def rows(path: Path, table: str) -> int:
    with closing(sqlite3.connect(path)) as connection:
        (count,) = connection.execute(f"SELECT count(*) FROM {table}").fetchone()
        return int(count)


# --- keeping ----------------------------------------------------------------------------------


async def test_reopening_finds_everything(tmp_path: Path) -> None:
    store = SqliteStore(tmp_path)
    await store.open()
    run = record(wake_at=7.0, labels={"a": "b"}, start_request_id="req", info={"x": [1]})
    request = RequestRecord("q", "d", {"sequence": 1}, 1e12)
    claim = await store.commit(Commit(run, None, b"full", full=True, requests=[request]))
    await store.commit(later(claim, 1))
    await store.close()
    assert not (tmp_path / "stepwire.db-wal").exists()

    store = SqliteStore(tmp_path)
    await store.open()
    kept = record(sequence=1, wake_at=0.0, start_request_id="req")
    assert await store.get(claim.key) == kept
    assert await store.find_start("default", "req") == kept
    assert await store.load(claim.key) == StoredSnapshot(1, 1.0, b"full", [b"delta"])
    assert await store.entries(claim.key, 0) == [Chunk(1, 1, b"public delta", b"internal delta")]
    assert await store.requests(claim.key) == [request]
    assert [run.key for run in await store.due(0.0, 10, workflows=["orders"])] == [claim.key]
    new = await store.claim(claim.key)
    assert new is not None
    assert new.token > claim.token
    await store.commit(later(new, 2))
    await store.close()


CHILD = """
import asyncio, sys
from pathlib import Path
from stepwire.server.store import Chunk, Commit, RunKey, RunRecord, SqliteStore

async def run(store, number):
    claim, sequence = None, 0
    while True:
        record = RunRecord(
            key=RunKey("default", f"r{number}"), workflow="w", status="RUNNING",
            created_at=1.0, updated_at=1.0, last_sequence=sequence,
        )
        data = b"%d.%d" % (number, sequence)
        chunks = [Chunk(sequence, sequence, data, None)] if sequence else []
        claim = await store.commit(Commit(record, claim, data, claim is None, chunks))
        print(number, sequence, flush=True)
        sequence += 1

async def main():
    store = SqliteStore(Path(sys.argv[1]))
    await store.open()
    await asyncio.gather(*(run(store, number) for number in range(20)))

asyncio.run(main())
"""


@pytest.mark.parametrize("acknowledged", [1, 50, 3000])
async def test_a_killed_process_loses_nothing_acknowledged(tmp_path: Path, acknowledged: int) -> None:
    child = await asyncio.create_subprocess_exec(
        sys.executable, "-c", CHILD, str(tmp_path), stdout=asyncio.subprocess.PIPE
    )
    assert child.stdout is not None
    lines = [await child.stdout.readline() for _ in range(acknowledged)]
    child.kill()
    lines += (await child.stdout.read()).splitlines(keepends=True)
    await child.wait()
    told: dict[int, int] = {}
    for line in lines:
        if line.endswith(b"\n"):  # the last one may be cut off
            number, sequence = map(int, line.split())
            told[number] = sequence

    store = SqliteStore(tmp_path)
    await store.open()
    for number, sequence in told.items():
        key = RunKey("default", f"r{number}")
        snapshot = await store.load(key)
        assert snapshot is not None
        # The commit in flight may have been written without word of it; not more, not half of it.
        assert snapshot.sequence - sequence in (0, 1)
        expected = [b"%d.%d" % (number, n) for n in range(snapshot.sequence + 1)]
        assert [snapshot.full, *snapshot.deltas] == expected
        chunks = await store.entries(key, 0, limit=10_000)
        assert [chunk.public for chunk in chunks] == expected[1:]
    await store.close()
    with closing(sqlite3.connect(store.path)) as connection:
        assert connection.execute("PRAGMA integrity_check").fetchall() == [("ok",)]


class Held:
    """Hold the writer, so that what is given meanwhile is written together."""

    def __init__(self, store: SqliteStore) -> None:
        self.store = store
        self.statements: list[str] = []
        self._held, self._go_on = threading.Event(), threading.Event()

    def _hold(self, connection: sqlite3.Connection) -> None:
        self._held.set()
        self._go_on.wait(30)
        connection.set_trace_callback(self.statements.append)

    def executed(self) -> list[str]:
        """Return the statements. SQLite reports one that fires triggers again for each statement of the triggers."""
        return [statement for statement, _ in itertools.groupby(self.statements)]

    async def __aenter__(self) -> Held:
        self._job = self.store._writer.run(self._hold)
        assert await asyncio.to_thread(self._held.wait, 30)
        return self

    async def __aexit__(self, *error: object) -> None:
        self._go_on.set()
        await self._job


async def test_commits_given_together_are_one_statement(store: SqliteStore) -> None:
    claims = await asyncio.gather(*(store.commit(first(f"r{n}")) for n in range(64)))
    async with Held(store) as held:
        futures = [store.commit(later(claim, 1)) for claim in claims]
    await asyncio.gather(*futures)
    assert [statement.split()[0] for statement in held.executed()] == [
        "COMMIT",
        "INSERT",
    ]  # the first of the job that held it


async def test_commits_given_together_that_are_more_than_one_statement_are_one_transaction(store: SqliteStore) -> None:
    claims = await asyncio.gather(*(store.commit(first(f"r{n}")) for n in range(65)))
    async with Held(store) as held:
        futures = [store.commit(later(claim, 1)) for claim in claims]
    await asyncio.gather(*futures)
    assert [statement.split()[0] for statement in held.executed()] == ["COMMIT", "BEGIN", "INSERT", "INSERT", "COMMIT"]


async def test_what_is_given_together_is_done_in_order(store: SqliteStore) -> None:
    claim = await store.commit(first())
    other = await store.commit(first("r2"))
    async with Held(store):
        commits = [store.commit(later(claim, n, b"%d" % n)) for n in (1, 2)]
        claimed = asyncio.ensure_future(store.claim(claim.key))
        deleted = asyncio.ensure_future(store.delete(other.key))
        await asyncio.sleep(0)  # both tasks give their jobs
        stale = [store.commit(later(claim, 3)), store.commit(later(other, 1))]
        again = store.commit(first("r2"))
    assert await asyncio.gather(*commits) == [claim, claim]
    assert (await store.load(claim.key)) == StoredSnapshot(2, 1.0, b"full", [b"1", b"2"])
    assert await store.get(claim.key) == record(sequence=2)
    assert await claimed == Claim(claim.key, claim.token + 1, claim.handle)
    assert await deleted is True
    for future in stale:
        with pytest.raises(StaleClaimError):
            await future
    assert (await again).handle > other.handle


async def test_a_commit_refused_in_its_last_statement_leaves_nothing(store: SqliteStore) -> None:
    claims = [await store.commit(first(run_id)) for run_id in ("r1", "r2")]
    bad = later(claims[0], 1)
    bad.chunks = [Chunk(1, 1, b"x", None), Chunk(2, 1 << 70, b"y", None)]
    async with Held(store):
        futures = [store.commit(bad), store.commit(later(claims[1], 1))]
    outcomes = await asyncio.gather(*futures, return_exceptions=True)
    assert type(outcomes[0]) is StoreError
    assert outcomes[1] == claims[1]
    assert await store.get(claims[0].key) == record()
    assert await store.load(claims[0].key) == StoredSnapshot(0, 1.0, b"full", [])
    assert await store.entries(claims[0].key, 0) == []
    assert await store.load(claims[1].key) == StoredSnapshot(1, 1.0, b"full", [b"delta"])


async def answer(store: SqliteStore, claim: Claim, count: int) -> int:
    """Commit answered requests; give how many there are in the file."""
    requests = [RequestRecord("q", "d", {}, 1e12)] * count
    await store.commit(Commit(record(), claim, b"d", full=False, requests=requests))
    return rows(store.path, "requests")


async def test_answered_requests_are_removed_each_thousand(store: SqliteStore) -> None:
    claim = await store.commit(first())
    assert await answer(store, claim, 10_900) == 10_000
    assert await answer(store, claim, 999) == 10_999
    assert await answer(store, claim, 1) == 10_000


async def test_answered_requests_of_a_loaded_run_are_removed_at_once(tmp_path: Path) -> None:
    store = SqliteStore(tmp_path)
    await store.open()
    old = await store.commit(first())
    assert await answer(store, old, 10_900) == 10_000
    assert await answer(store, old, 999) == 10_999
    await store.close()
    store = SqliteStore(tmp_path)  # it has not counted them
    await store.open()
    claim = await store.claim(old.key)
    assert claim is not None
    assert await answer(store, claim, 1) == 10_000
    await store.close()


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
                        list_queries.list_runs(connection, query)
                        list(list_queries.rows_by_status(connection, query, list_queries.parts_of(query)))
        list_queries.prunable(connection, None, 5.0, None, 10)
        connection.set_trace_callback(None)
        assert len(statements) >= 12
        ordered = len(statements)
        connection.set_trace_callback(statements.append)
        for fields in ({"run_id_prefix": "r"}, {"ended_after": 1.0}, {"ended_before": 9.0, "ended_after": 1.0}):
            query = RunQuery(namespace="default", workflow="orders", **fields)  # type: ignore[arg-type]
            list_queries.list_runs(connection, query)
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


# --- damage and trouble -----------------------------------------------------------------------


@pytest.mark.parametrize("part", ["snapshot", "public", "internal"])
async def test_a_flipped_byte_is_refused(tmp_path: Path, part: str) -> None:
    store = SqliteStore(tmp_path)
    await store.open()
    claim = await store.commit(first())
    for sequence, data in ((1, b"one"), (2, b"TWO")):
        await store.commit(later(claim, sequence, data))
    await store.close()
    pattern = {"snapshot": b"TWO", "public": b"public TWO", "internal": b"internal TWO"}[part]
    content = bytearray(store.path.read_bytes())
    places = [n for n in range(len(content)) if content.startswith(pattern, n)]
    if part == "snapshot":
        places = [n for n in places if content[n - 1 : n] != b" "]
    assert len(places) == 1
    content[places[0] + len(pattern) - 1] ^= 1
    store.path.write_bytes(content)

    store = SqliteStore(tmp_path)
    await store.open()
    with pytest.raises(StoreCorruptError, match=r"run r1: .* at 2 is damaged"):
        await (store.load(claim.key) if part == "snapshot" else store.entries(claim.key, 0))
    # What is not damaged can be read.
    assert await store.load(claim.key, 1) == StoredSnapshot(1, 1.0, b"full", [b"one"])
    assert len(await store.entries(claim.key, 0, limit=1)) == 1
    await store.close()


@pytest.mark.parametrize(
    ("statement", "message"),
    [
        ("DELETE FROM commits WHERE full = 1", "before 3 is missing"),
        ("DELETE FROM log WHERE first = 2", "before 3 is missing"),
        ("UPDATE commits SET sequence = 9 WHERE sequence = 3", "at 9 is damaged"),
        ("UPDATE log SET public = NULL WHERE first = 3", "at 3 is damaged"),
        ("UPDATE runs SET info = '{'", "damaged"),
        ("UPDATE questions SET question = replace(question, 'yes', 'no')", "question of run r1 is damaged"),
        ("UPDATE questions SET number = 7", "question of run r1 is damaged"),
    ],
)
async def test_missing_and_exchanged_rows_are_refused(store: SqliteStore, statement: str, message: str) -> None:
    asked = first()
    asked.pending = {1: {"prompt": "yes?"}}
    claim = await store.commit(asked)
    for sequence in (1, 2, 3):
        await store.commit(later(claim, sequence))
    await write_on(store, statement)

    async def read() -> None:
        await store.get(claim.key)
        await store.load(claim.key)
        await store.entries(claim.key, 0)

    with pytest.raises(StoreCorruptError, match=message):
        await read()


async def test_a_file_that_is_no_database_is_refused(tmp_path: Path) -> None:
    (tmp_path / "stepwire.db").write_bytes(b"not a database at all " * 500)
    store = SqliteStore(tmp_path)
    with pytest.raises(StoreCorruptError):
        await store.open()
    with pytest.raises(StoreUnavailableError):
        await store.get(RunKey("default", "r1"))
    with pytest.raises(StoreUnavailableError):
        await store.commit(first())
    await store.close()


async def test_a_full_disk_fails_the_batch_and_heals(store: SqliteStore) -> None:
    claims = await asyncio.gather(*(store.commit(first(f"r{n}")) for n in range(3)))
    (pages,) = (await write_on(store, "PRAGMA page_count"))[0]
    await write_on(store, f"PRAGMA max_page_count = {pages + 2}")
    big = [later(claim, 1, b"x" * 100_000) for claim in claims]
    outcomes = await asyncio.gather(*map(store.commit, big), return_exceptions=True)
    for outcome in outcomes:
        assert isinstance(outcome, StoreUnavailableError)
        assert outcome.full
    for claim in claims:
        assert await store.load(claim.key) == StoredSnapshot(0, 1.0, b"full", [])
        assert await store.entries(claim.key, 0) == []
    await write_on(store, "PRAGMA max_page_count = 1000000")
    await asyncio.gather(*map(store.commit, big))
    for claim in claims:
        snapshot = await store.load(claim.key)
        assert snapshot is not None
        assert snapshot.deltas == [b"x" * 100_000]


async def test_a_failing_disk_fails_the_batch_and_heals(store: SqliteStore) -> None:
    claim = await store.commit(first())
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (4096, hard))  # writes beyond it fail
    try:
        for _ in range(2):
            with pytest.raises(StoreUnavailableError) as caught:
                await store.commit(later(claim, 1))
            assert not caught.value.full
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    assert await store.load(claim.key) == StoredSnapshot(0, 1.0, b"full", [])
    await store.commit(later(claim, 1))
    await store.commit(first("r2"))
    assert await store.load(claim.key) == StoredSnapshot(1, 1.0, b"full", [b"delta"])


async def test_a_broken_connection_is_replaced(store: SqliteStore) -> None:
    claim = await store.commit(first())
    with pytest.raises(StoreUnavailableError):
        await store._writer.run(lambda connection: connection.close())
    await store.commit(later(claim, 1))
    assert await store.load(claim.key) == StoredSnapshot(1, 1.0, b"full", [b"delta"])


async def test_a_run_of_values_that_sqlite_cannot_hold_is_refused(store: SqliteStore) -> None:
    futures = [store.commit(first("r1", last_sequence=1 << 70)), store.commit(first("r2"))]
    outcomes = await asyncio.gather(*futures, return_exceptions=True)
    assert type(outcomes[0]) is StoreError
    assert isinstance(outcomes[1], Claim)
    assert await store.get(RunKey("default", "r1")) is None


# --- lock and versions ------------------------------------------------------------------------


async def test_a_second_open_is_refused_and_names_the_holder(store: SqliteStore, tmp_path: Path) -> None:
    second = SqliteStore(tmp_path)
    async with asyncio.timeout(2):
        with pytest.raises(StoreLockedError, match=rf"process {os.getpid()} on "):
            await second.open()
    await second.close()  # which does not let go of what it does not hold
    script = """
        import asyncio, sys
        from pathlib import Path
        from stepwire.server.store import SqliteStore
        asyncio.run(SqliteStore(Path(sys.argv[1])).open())
    """
    command = [sys.executable, "-c", textwrap.dedent(script), str(tmp_path)]
    child = await asyncio.to_thread(subprocess.run, command, capture_output=True, text=True)
    assert f"is in use by process {os.getpid()} on " in child.stderr
    await store.close()
    await second.open()
    await second.close()


@pytest.mark.skipif(not hasattr(os, "fork"), reason="there is no fork")
@pytest.mark.filterwarnings("ignore:.*multi-threaded.*fork:DeprecationWarning")
async def test_a_forked_child_does_not_keep_the_directory_locked(store: SqliteStore, tmp_path: Path) -> None:
    reading, writing = os.pipe()
    child = os.fork()
    if not child:
        os.close(writing)
        os.read(reading, 1)  # until the parent has gone on
        os._exit(0)
    os.close(reading)
    try:
        with pytest.raises(StoreLockedError):  # the parent still has it
            await SqliteStore(tmp_path).open()
        await store.close()
        second = SqliteStore(tmp_path)
        await second.open()
        await second.close()
    finally:
        os.close(writing)
        await asyncio.to_thread(os.waitpid, child, 0)


async def test_a_lock_file_of_something_else_is_left_alone(tmp_path: Path) -> None:
    (tmp_path / "lock").write_text("held by a package manager")
    with pytest.raises(StoreError, match="not made by Stepwire"):
        await SqliteStore(tmp_path).open()
    assert (tmp_path / "lock").read_text() == "held by a package manager"
    assert os.listdir(tmp_path) == ["lock"]


async def test_a_data_directory_that_cannot_be_made(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(StoreUnavailableError, match="data directory"):
        await SqliteStore(tmp_path / "file" / "data").open()


async def test_a_newer_schema_is_refused_and_left_alone(tmp_path: Path) -> None:
    store = SqliteStore(tmp_path)
    await store.open()
    await store.close()
    with closing(sqlite3.connect(store.path)) as connection:
        (version,) = connection.execute("PRAGMA user_version").fetchone()
        connection.execute("PRAGMA user_version = 99")
    content = store.path.read_bytes()
    with pytest.raises(StoreError, match="newer version of Stepwire"):
        await SqliteStore(tmp_path).open()
    assert store.path.read_bytes() == content
    with closing(sqlite3.connect(store.path)) as connection:
        connection.execute(f"PRAGMA user_version = {version}")
    await store.open()  # the lock was let go
    await store.close()


async def test_another_program_s_database_is_refused(tmp_path: Path) -> None:
    with closing(sqlite3.connect(tmp_path / "stepwire.db")) as connection:
        connection.execute("CREATE TABLE theirs (x)")
    with pytest.raises(StoreError, match="not a store"):
        await SqliteStore(tmp_path).open()


# --- deletion and backup ----------------------------------------------------------------------


async def test_the_rows_of_deleted_runs_go(store: SqliteStore) -> None:
    claims = [await store.commit(first(f"r{n}")) for n in range(3)]
    for sequence in range(1, 2 * removal.SWEEP_ROWS):
        await store.commit(later(claims[0], sequence))
    await store.commit(later(claims[2], 1))
    for claim in claims[:2]:
        assert await store.delete(claim.key)
    assert store._sweeper is not None
    await store._sweeper
    assert [rows(store.path, table) for table in ("commits", "log", "doomed")] == [2, 1, 0]


async def test_what_a_crash_left_of_deleted_runs_goes_at_the_next_start(tmp_path: Path) -> None:
    store = SqliteStore(tmp_path)
    await store.open()
    claim = await store.commit(first())
    await store.commit(later(claim, 1))
    await store._writer.run(lambda connection: removal.delete(connection, claim.key))
    await store.close()
    assert rows(store.path, "commits") == 2
    await store.open()
    assert store._sweeper is not None
    await store._sweeper
    await store.close()
    assert [rows(store.path, table) for table in ("commits", "log", "doomed")] == [0, 0, 0]


async def test_a_backup_under_load_restores(store: SqliteStore, tmp_path: Path) -> None:
    stop = False

    async def run(number: int) -> None:
        claim = await store.commit(first(f"r{number}"))
        sequence = 0
        while not stop:
            sequence += 1
            await store.commit(later(claim, sequence, b"%d" % sequence))

    claims = [await store.commit(first(f"before{n}")) for n in range(10)]
    async with asyncio.TaskGroup() as tasks:
        for number in range(10):
            tasks.create_task(run(number))
        await store.commit(later(claims[0], 1))
        target = tmp_path / "restored" / "stepwire.db"
        target.parent.mkdir()
        target.write_bytes(b"an older backup")
        target.with_name("stepwire.db-wal").write_bytes(b"and its log")
        await store.backup(target)
        stop = True
    assert [path.name for path in target.parent.iterdir()] == ["stepwire.db"]

    restored = SqliteStore(target.parent)
    await restored.open()
    assert await restored.load(claims[0].key) == StoredSnapshot(1, 1.0, b"full", [b"delta"])
    for run_ in await restored.list(RunQuery(namespace="default")):
        snapshot = await restored.load(run_.key)
        assert snapshot is not None
        assert snapshot.sequence == run_.last_sequence
        assert len(await restored.entries(run_.key, 0, limit=10_000)) == run_.last_sequence
    await restored.commit(first("new"))
    await restored.close()


async def test_a_backup_that_cannot_be_written_leaves_nothing(store: SqliteStore, tmp_path: Path) -> None:
    with pytest.raises(StoreUnavailableError):
        await store.backup(tmp_path / "missing" / "copy.db")
    (tmp_path / "directory").mkdir()
    (tmp_path / "directory" / "file").write_text("")
    with pytest.raises(StoreUnavailableError):
        await store.backup(tmp_path / "directory")
    with pytest.raises(StoreError, match="onto itself"):
        await store.backup(store.path)
    left = set(os.listdir(tmp_path))
    assert left <= {"directory", "lock", "reserve", "stepwire.db", "stepwire.db-wal", "stepwire.db-shm"}
    await store.commit(first())


async def test_an_answer_writes_no_other_question(store: SqliteStore) -> None:
    asked = first()
    asked.pending = {number: {"prompt": "x" * 200} for number in range(4000)}
    claim = await store.commit(asked)

    async def written(pending: dict[int, dict[str, Any] | None]) -> int:
        """Return the bytes that a commit writes to the log."""
        with closing(sqlite3.connect(store.path)) as other:
            other.execute("PRAGMA wal_checkpoint(TRUNCATE)")
        commit = later(claim, 1)
        commit.chunks, commit.pending = (), pending
        await store.commit(commit)
        return store.path.with_name("stepwire.db-wal").stat().st_size

    assert await written({}) + 40_000 > await written({17: None})
    found = await store.get(claim.key)
    assert found is not None
    assert len(found.pending) == 3999


async def test_a_trim_that_is_cut_short_leaves_a_log_that_says_where_it_begins(
    store: SqliteStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(removal, "SWEEP_ROWS", 2)
    claim = await store.commit(first(sequence=1))
    chunks = []
    for n in range(2, 40):
        chunks.append(Chunk(n, n, b"%d" % n, None))
        await store.commit(Commit(record(sequence=n), claim, b"d%d" % n, n % 7 == 0, chunks[-1:]))
    snapshots = {n: await store.load(claim.key, n) for n in range(2, 40)}
    seen = [1]
    more = True
    while more:
        # One job of it, then the process dies.
        outcome = await store._writer.run(lambda connection: removal.trim(connection, claim.key, 30))
        assert isinstance(outcome, tuple)
        more = outcome[1]
        await store.close()
        await store.open()
        run = await store.get(claim.key)
        assert run is not None
        begins = run.first_available
        seen.append(begins)
        assert await store.entries(claim.key, begins - 1, 99) == [chunk for chunk in chunks if chunk.first >= begins]
        kept = {n: found if n >= begins else None for n, found in snapshots.items()}
        assert {n: await store.load(claim.key, n) for n in snapshots} == kept
    assert seen == sorted(seen)
    assert len(set(seen)) > 10
    assert seen[-1] == 30
    # What no snapshot needs any more is gone from the disk: 28 is the full one that leads to 30.
    kept_commits = await store._writer.run(
        lambda connection: connection.execute("SELECT sequence FROM commits ORDER BY id").fetchall()
    )
    assert kept_commits == [(n,) for n in range(28, 40)]


async def test_a_trimmed_run_whose_record_is_damaged_is_refused(store: SqliteStore) -> None:
    claim = await store.commit(first(sequence=1))
    for n in (2, 3):
        await store.commit(Commit(record(sequence=n), claim, b"d", False, [Chunk(n, n, b"x", None)]))
    assert await store.trim(claim.key, 3) == 3
    await store._writer.run(lambda connection: connection.execute("UPDATE runs SET first_available = 2"))
    with pytest.raises(StoreCorruptError, match="record of run r1 is damaged"):
        await store.get(claim.key)
    with pytest.raises(StoreCorruptError, match="record of run r1 is damaged"):
        await store.trim(claim.key, 3)


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
    slow = [asyncio.create_task(store._lists.run(lambda _: go_on.wait(30))) for _ in range(8)]
    replays = [asyncio.create_task(store._replays.run(lambda _: go_on.wait(30))) for _ in range(8)]
    await asyncio.sleep(0)
    try:
        assert await store.load(claim.key) is not None
        assert await store.get(claim.key) is not None
        assert await store.due(0.0, 10, workflows=["orders"]) != []
    finally:
        go_on.set()
        await asyncio.gather(*slow, *replays)


async def test_a_clock_set_far_forward_while_the_store_was_closed_makes_nothing_old(tmp_path: Path) -> None:
    now = 1_000_000.0
    store = SqliteStore(tmp_path, clock=lambda: now)
    await store.open()
    ended = {"status": Status.COMPLETED, "updated_at": now, "ended_at": now}
    await store.commit(first("minutes old", **ended))
    assert store.ago(60.0) == now - 60.0
    await store.close()
    for _ in range(2):  # the next opening knows of it, too
        now += 10 * 365 * 86_400.0 if now < 2_000_000 else 5.0
        await store.open()
        assert await store.prune(ended_before=store.ago(3600.0)) == 0
        await store.close()
    now += 3590.0
    await store.open()
    assert await store.prune(ended_before=store.ago(3600.0)) == 0
    now += 100.0  # by now an hour has passed that was lived
    assert await store.prune(ended_before=store.ago(3600.0)) == 1
    await store.close()
