"""A server whose runs are in PostgreSQL: what the embedded store promises, with a database that dies."""

from __future__ import annotations

import asyncio
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from tests.postgres import MISSING, PostgresServer, programs
from tests.serving import ServerProcess

from stepwire.client import Client, RunStatus
from stepwire.server.store.postgres import PostgresStore

FLOWS = ["tests.integration.rpc_flows:Ask=ask", "tests.integration.rpc_flows:Count=count"]


@pytest.fixture(scope="module")
def database() -> Iterator[PostgresServer]:
    if programs() is None:
        pytest.skip(MISSING)
    with PostgresServer() as server:
        yield server


@pytest.fixture
def server(database: PostgresServer) -> Iterator[ServerProcess]:
    database.sql("DROP SCHEMA public CASCADE; CREATE SCHEMA public")
    with ServerProcess(database.dsn, FLOWS) as server:
        yield server


async def test_a_run_survives_a_killed_server(server: ServerProcess) -> None:
    async with Client(server.address) as client:
        run = await client.start_run("ask", item="pen")
        assert (await run.context.wait_for_event("Question")).text == "Ship pen?"
        server.restart(kill=True)
        await run.context.send_event(("Answer", {"order": "7", "yes": True}))
        assert await run.result() == {"yes": True, "note": None}
        assert [event.type async for event in run.events()] == ["Question", "StopEvent"]


async def test_a_killed_database_loses_nothing_and_the_server_goes_on(
    server: ServerProcess, database: PostgresServer
) -> None:
    async with Client(server.address) as client:
        run = await client.start_run("ask", item="pen")
        for n in range(5):
            await run.context.send_event(("Note", {"n": n}))
        database.kill()
        database.start()
        for n in range(5, 10):
            await run.context.send_event(("Note", {"n": n}))
        await run.context.send_event(("Answer", {"order": "7", "yes": True}))
        assert await run.result() == {"yes": True, "note": 9}
        notes = [event.n async for event in run.events() if event.type == "Pong"]
        assert notes == list(range(10))


async def test_a_snapshot_is_signed_with_the_key_that_the_database_keeps(server: ServerProcess) -> None:
    async with Client(server.address) as client:
        run = await client.start_run("ask", item="pen")
        await run.context.wait_for_event("Question")
        snapshot = await run.snapshot()
        server.restart()
        fork = await client.start_run("ask", snapshot=snapshot)
        assert (await fork.info()).status is RunStatus.WAITING


def test_a_newer_schema_is_refused_and_left_alone(database: PostgresServer, tmp_path: Path) -> None:
    database.sql("DROP SCHEMA public CASCADE; CREATE SCHEMA public")
    database.sql("CREATE TABLE schema_version (version int NOT NULL); INSERT INTO schema_version VALUES (999)")
    with pytest.raises(RuntimeError, match="schema version 999"):
        ServerProcess(database.dsn, FLOWS).start()
    assert database.sql("SELECT count(*) FROM pg_tables WHERE schemaname = 'public'") == "1"


def told_at_the_start(dsn: str, caplog: pytest.LogCaptureFixture) -> str:
    async def start() -> None:
        store = PostgresStore(dsn)
        await store.open()
        await store.close()

    caplog.clear()
    asyncio.run(start())
    return caplog.text


@pytest.mark.slow
def test_what_can_lose_acknowledged_work_is_told_at_the_start(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    if programs() is None:
        pytest.skip(MISSING)
    with PostgresServer(["synchronous_commit=off"]) as careless:
        assert "synchronous_commit is off" in told_at_the_start(careless.dsn, caplog)
    with PostgresServer(["wal_level=replica"]) as server:
        assert told_at_the_start(server.dsn, caplog) == ""
        command = [str((programs() or Path()) / "pg_receivewal"), "-D", str(tmp_path), "-h", "127.0.0.1"]
        command += ["-p", str(server.port), "-U", "stepwire"]  # to PostgreSQL it is an asynchronous standby
        with subprocess.Popen(command, stderr=subprocess.DEVNULL) as standby:
            try:
                end = time.monotonic() + 60
                while server.sql("SELECT count(*) FROM pg_stat_replication") == "0":
                    assert time.monotonic() < end
                    time.sleep(0.05)  # between two looks
                assert "its standbys are asynchronous" in told_at_the_start(server.dsn, caplog)
            finally:
                standby.terminate()
