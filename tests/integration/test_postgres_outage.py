"""The store in PostgreSQL over an outage: what commits, reads and their connections do, in one process."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import AsyncIterator, Iterator
from contextvars import ContextVar
from typing import Any

import asyncpg
import pytest
from tests.postgres import MISSING, PostgresServer, programs
from tests.unit.contract.support import create, first, later, record

from stepwire.server import health
from stepwire.server.health import HealthKeeper
from stepwire.server.store import RunKey, StoreUnavailableError
from stepwire.server.store.errors import StoreUnreadableError
from stepwire.server.store.postgres import PostgresStore, connections, statements

CALL: ContextVar[str] = ContextVar("CALL", default="")


@pytest.fixture(scope="module")
def server() -> Iterator[PostgresServer]:
    if programs() is None:
        pytest.skip(MISSING)
    with PostgresServer(["fsync=off"]) as server:
        yield server


@pytest.fixture
async def store(server: PostgresServer) -> AsyncIterator[PostgresStore]:
    server.empty()
    store = PostgresStore(server.dsn)
    await store.open()
    yield store
    await store.close()


@pytest.fixture
def impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(connections, "PATIENCE", 0.5)


async def test_health_is_well_again_after_a_failed_commit_that_no_other_follows(
    store: PostgresStore, server: PostgresServer, impatient: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(health, "SHARED_SECONDS", 0.0)
    monkeypatch.setattr(health, "PROBE_SECONDS", 0.05)
    told: asyncio.Queue[bool] = asyncio.Queue()
    keeper = HealthKeeper(store, told.put)
    await keeper.start()
    claim = await create(store)
    server.stop()
    try:
        with pytest.raises(StoreUnavailableError, match="nothing listens at its address"):
            await store.commit(later(record(), claim, 1, b"x"))
        assert "nothing listens" in keeper.readiness.why_not()
    finally:
        server.start()
    async with asyncio.timeout(20):
        assert [await told.get() for _ in range(3)] == [True, False, True]
    assert store.failure is None
    await keeper.leave()


async def test_a_commit_whose_time_ran_out_while_the_process_was_paused_is_tried_once_more(
    store: PostgresStore, server: PostgresServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    claim = await create(store)
    monkeypatch.setattr(connections, "PATIENCE", -1.0)
    server.sql(
        "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE pid <> pg_backend_pid() AND datname IS NOT NULL"
    )
    await store.commit(later(record(), claim, 1, b"x"))
    assert await store.get(record().key) is not None
    assert store.failure is None


async def test_reads_and_changes_end_when_the_database_hangs(
    store: PostgresStore, server: PostgresServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    await store.get(record().key)  # on a connection that hangs then
    monkeypatch.setattr(connections, "PATIENCE", 1.0)
    monkeypatch.setattr(statements, "PATIENCE", 1.0)
    monkeypatch.setattr(connections, "_LAST_SECONDS", 0.2)
    server.pause()
    try:
        began = time.monotonic()
        reads = [store.get(RunKey("default", f"r{n}")) for n in range(50)]
        change = store.claim(record().key)
        *found, changed = await asyncio.gather(*reads, change, return_exceptions=True)
        assert time.monotonic() - began < 8.0
        assert {type(each) for each in found} == {StoreUnreadableError}
        assert type(changed) is StoreUnavailableError
    finally:
        server.resume()
    monkeypatch.undo()
    assert await store.get(record().key) is None


@pytest.mark.parametrize("for_writes", [True, False])
async def test_a_database_that_hangs_once_it_is_connected_is_not_waited_for(
    server: PostgresServer, monkeypatch: pytest.MonkeyPatch, for_writes: bool
) -> None:
    monkeypatch.setattr(connections, "_CONNECT_SECONDS", 0.5)
    connect = connections.connect
    made: list[Any] = []

    async def and_hang(*args: Any) -> Any:
        made.append(await connect(server.dsn, 5.0))
        server.pause()
        return made[0]

    monkeypatch.setattr(connections, "connect", and_hang)

    async def for_lists(dsn: str) -> None:
        await connections.for_lists(await and_hang(dsn))

    begin: Any = connections.connect_for_writes if for_writes else for_lists
    try:
        async with asyncio.timeout(10):
            with pytest.raises(connections.LOST):
                await begin(server.dsn)
    finally:
        server.resume()
    assert made[0].is_closed()


async def test_no_connection_knows_the_call_that_opened_it(
    server: PostgresServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen: list[str] = []
    connect = asyncpg.connect

    async def connecting(*args: Any, **options: Any) -> Any:
        seen.append(CALL.get())
        return await connect(*args, **options)

    monkeypatch.setattr(asyncpg, "connect", connecting)
    store = PostgresStore(server.dsn)
    await store.open()
    CALL.set("StartRun")
    seen.clear()
    await asyncio.gather(*(store.get(record().key) for _ in range(4)), store.namespaces())
    await store.close()
    assert seen
    assert set(seen) == {""}


async def test_an_outage_logs_two_lines(
    store: PostgresStore, server: PostgresServer, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO)
    await asyncio.gather(*(store.get(record().key) for _ in range(8)), store.namespaces())
    server.stop()
    calls = [asyncio.create_task(store.get(record().key)) for _ in range(8)]
    commit = store.commit(first(record("new")))
    done, _ = await asyncio.wait(calls, timeout=2.0)  # asyncpg would connect every second, and log that
    assert not done
    server.start()
    await asyncio.gather(*calls, commit)
    assert [each.levelname for each in caplog.records] == ["WARNING", "INFO"], caplog.text
