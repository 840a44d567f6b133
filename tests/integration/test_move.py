"""`stepwire move`: runs of a data directory go on in PostgreSQL, all of them once, whatever is killed on the way."""

from __future__ import annotations

import os
import re
import shutil
import socket
import sqlite3
import subprocess
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import Any, NamedTuple
from urllib.parse import urlsplit, urlunsplit

import pytest
from tests.integration.rpc_serving import Rpc, event, serving
from tests.postgres import MISSING, PostgresServer, programs
from tests.serving import COMMAND, ROOT

from stepwire.client import Client, RunFailedError, RunStatus
from stepwire.client.aio import Run
from stepwire.server.failpoints import MOVE_POINTS
from stepwire.server.store import SqliteStore, StoreError
from stepwire.v1 import run_service_pb2 as pb

SIGKILLED = -9


@pytest.fixture(scope="module")
def postgres() -> Iterator[PostgresServer]:
    if programs() is None:
        pytest.skip(MISSING)
    with PostgresServer(["fsync=off"]) as server:
        yield server


@pytest.fixture
def database(postgres: PostgresServer) -> PostgresServer:
    postgres.empty()
    return postgres


def move(data: Path, *args: str, failpoint: str = "") -> subprocess.CompletedProcess[str]:
    env = {**os.environ, "STEPWIRE_FAILPOINTS": f"{failpoint}=1" if failpoint else ""}
    command = [str(COMMAND), "move", str(data), *args]
    return subprocess.run(command, cwd=ROOT, env=env, capture_output=True, text=True, timeout=60, check=False)


async def is_refused(data: Path) -> str:
    """Return why a server does not start on a directory; "" if it does."""
    store = SqliteStore(data)
    try:
        await store.open()
    except StoreError as error:
        return str(error)
    await store.close()
    return ""


def note(run_id: str) -> pb.SendEventRequest:
    return pb.SendEventRequest(run_id=run_id, event=event("Note", n=7), request_id="note")


class Filled(NamedTuple):
    """A data directory with a run of each kind, and what clients saw of it."""

    data: Path
    runs: dict[str, str]
    seen: dict[str, Any]
    snapshot: Any


@pytest.fixture
async def filled(tmp_path: Path) -> Filled:
    data = tmp_path / "data"
    async with serving(data=str(data)) as rpc, Client(rpc.server.address) as client:
        asking = await client.start_run("ask", labels={"team": "a"}, request_id="first", item="pen")
        await asking.context.wait_for_event("Question")
        await rpc.runs.SendEvent(note(asking.run_id))
        ended = await client.start_run("count", n=3)
        await ended.result(timeout=60)
        failed = await client.start_run("fail")
        with pytest.raises(RunFailedError):
            await failed.result(timeout=60)
        await rpc.status(asking.run_id, "WAITING")
        runs = {"asking": asking.run_id, "ended": ended.run_id, "failed": failed.run_id}
        return Filled(data, runs, await all_of(client, runs), await asking.snapshot())


async def all_of(client: Client, runs: dict[str, str]) -> dict[str, Any]:
    """Return what a client can see of runs."""
    seen: dict[str, Any] = {}
    for name, run_id in runs.items():
        run = client.run(run_id)
        seen[name] = (
            await run.info(),
            [(event.type, event.to_dict()) async for event in run.events(follow=False, internal=True)],
            [each.sequence async for each in run.snapshots()],
        )
    return seen


async def test_runs_go_on_in_the_database(filled: Filled, database: PostgresServer) -> None:
    done = move(filled.data, database.dsn)
    assert done.returncode == 0, done.stderr
    assert "moved 3 runs" in done.stderr
    async with serving(data=database.dsn) as rpc, Client(rpc.server.address) as client:
        assert await all_of(client, filled.runs) == filled.seen
        assert [info.run_id async for info in client.list_runs(labels={"team": "a"})] == [filled.runs["asking"]]
        again = await client.start_run("ask", labels={"team": "a"}, request_id="first", item="pen")
        assert again.run_id == filled.runs["asking"]
        await goes_on(rpc, again, filled)
        fork = await client.start_run("ask", snapshot=filled.snapshot)
        assert (await fork.info()).status is RunStatus.WAITING


async def goes_on(rpc: Rpc, run: Run, filled: Filled) -> None:
    """Assert that a repeated event is known, and that the answer ends the run."""
    sent = await rpc.runs.SendEvent(note(run.run_id))
    assert sent.sequence <= filled.seen["asking"][0].last_sequence
    await run.context.send_event(("Answer", {"order": "7", "yes": True}))
    assert await run.result(timeout=60) == {"yes": True, "note": 7}


@pytest.mark.slow
async def test_a_moved_directory_is_not_served_again(filled: Filled, database: PostgresServer) -> None:
    assert move(filled.data, database.dsn).returncode == 0
    assert "were moved to postgres://stepwire@127" in await is_refused(filled.data)
    again = move(filled.data, database.dsn)
    assert again.returncode == 0
    assert "moved 0 runs" in again.stderr
    assert "3 runs were there already" in again.stderr
    assert database.sql("SELECT count(*) FROM runs") == "3"


@pytest.mark.parametrize("point", MOVE_POINTS)
@pytest.mark.slow
async def test_a_killed_move_is_complete_when_it_is_run_again(
    point: str, filled: Filled, database: PostgresServer, tmp_path: Path
) -> None:
    assert move(filled.data, database.dsn, failpoint=point).returncode == SIGKILLED
    assert "run `stepwire move` again" in await is_refused(filled.data)
    copied = shutil.copytree(filled.data, tmp_path / "copied")
    abandoned = move(copied, database.dsn, "--abandon")
    if point == "move.committed":
        assert abandoned.returncode == 1
        assert "finish the move instead" in abandoned.stderr
    else:
        assert abandoned.returncode == 0, abandoned.stderr
        assert await is_refused(copied) == ""
    done = move(filled.data, database.dsn)
    assert done.returncode == 0, done.stderr
    async with serving(data=database.dsn) as rpc, Client(rpc.server.address) as client:
        assert await all_of(client, filled.runs) == filled.seen
        assert len([info async for info in client.list_runs()]) == len(filled.runs)


async def test_a_damaged_run_stops_the_move_unless_it_is_left_out(filled: Filled, database: PostgresServer) -> None:
    with closing(sqlite3.connect(filled.data / "stepwire.db")) as connection, connection:
        connection.execute(
            "UPDATE log SET public = zeroblob(length(public)) WHERE public IS NOT NULL AND run ="
            " (SELECT pk FROM runs WHERE run_id = ?)",
            [filled.runs["ended"]],
        )
    refused = move(filled.data, database.dsn)
    assert refused.returncode == 1
    assert f"the log of run {filled.runs['ended']} is damaged" in refused.stderr
    assert database.sql("SELECT count(*) FROM runs") == "0"
    assert await is_refused(filled.data) == ""  # nothing was moved, so the directory is served as before
    left = move(filled.data, database.dsn, "--leave-out")
    assert left.returncode == 0
    assert "1 run was left out, and is in" in left.stderr
    assert database.sql("SELECT count(*) FROM runs") == "2"


async def test_another_run_of_the_same_id_is_not_replaced(database: PostgresServer, tmp_path: Path) -> None:
    for number, data in enumerate([str(tmp_path / "data"), database.dsn]):
        async with serving(data=data) as rpc, Client(rpc.server.address) as client:
            await client.start_run("ask", run_id="same", item=f"pen {number}")
    refused = move(tmp_path / "data", database.dsn)
    assert refused.returncode == 1
    assert "the database has another run same" in refused.stderr


@pytest.mark.slow
async def test_what_is_in_use_is_refused(filled: Filled, database: PostgresServer) -> None:
    async with serving(data=str(filled.data)):
        refused = move(filled.data, database.dsn)
    assert refused.returncode == 1
    assert re.search(r"in use by process .*; stop it first", refused.stderr.replace("\n", " "))
    assert "--data" not in refused.stderr
    async with serving(data=database.dsn) as rpc:
        refused = move(filled.data, database.dsn)
    assert refused.returncode == 1
    assert f"replicas use the database: stop {rpc.server.address} first" in refused.stderr


@pytest.mark.slow
async def test_a_database_that_is_not_there_is_told_with_what_to_do(filled: Filled, database: PostgresServer) -> None:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    refused = move(filled.data, f"postgres://ada:s3cret@127.0.0.1:{port}/runs")
    assert refused.returncode == 1
    assert f"PostgreSQL at 127.0.0.1:{port} cannot be reached" in refused.stderr
    assert "start it" in refused.stderr
    assert "s3cret" not in refused.stderr + refused.stdout
    refused = move(filled.data, urlunsplit(urlsplit(database.dsn)._replace(path="/nodb")))
    assert refused.returncode == 1
    assert 'database "nodb" does not exist; make it with createdb' in refused.stderr
