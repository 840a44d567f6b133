"""A full disk and a read-only one: writes are refused, reads go on, and the server heals."""

from __future__ import annotations

import contextlib
import sqlite3
import subprocess
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import grpc
import pytest
from tests.integration.durability.flows import Flow, ask
from tests.integration.durability.support import (
    asked,
    crash,
    life,
    publish,
    result,
    set_state,
    snapshot_of,
    state_of,
    status,
)
from tests.integration.rpc_serving import Rpc, event, refused, registry_of

from stepwire.server.app import Server, Settings
from stepwire.server.store import (
    SqliteStore,
    StoreUnavailableError,
)
from stepwire.v1 import run_service_pb2 as runs


def mounted(path: Path) -> bool:
    """Mount a tmpfs of 2 MiB, if this process may."""
    path.mkdir()
    command = ["mount", "-t", "tmpfs", "-o", "size=2m", "tmpfs", str(path)]
    try:
        return subprocess.run(command, check=False, capture_output=True).returncode == 0
    except FileNotFoundError:
        return False


@pytest.fixture
def tmpfs(tmp_path: Path) -> Any:
    """Give a small disk of its own; skip where none can be mounted."""
    path = tmp_path / "disk"
    if not mounted(path):
        pytest.skip("needs the right to mount a tmpfs; the test of max_page_count covers the rest")
    yield path
    subprocess.run(["umount", "-l", str(path)], check=True)


async def write_on(rpc: Rpc, statement: str) -> Any:
    assert isinstance(rpc.store, SqliteStore)
    return await rpc.store._writer.run(lambda connection: connection.execute(statement).fetchone())


@asynccontextmanager
async def with_little_room(rpc: Rpc) -> AsyncIterator[None]:
    """Let the database grow no more while the block lasts."""
    (pages,) = await write_on(rpc, "PRAGMA page_count")
    await write_on(rpc, f"PRAGMA max_page_count = {pages + 4}")
    yield
    await write_on(rpc, "PRAGMA max_page_count = 1073741823")


async def fill(rpc: Rpc, run_id: str) -> tuple[list[int], Any]:
    """Write until it is refused; return the acknowledged sequences and the refusal."""
    acknowledged = []
    for n in range(2000):
        try:
            acknowledged.append(await publish(rpc, run_id, "x" * 20_000, f"r{n}"))
        except grpc.aio.AioRpcError as error:
            return acknowledged, error
    raise AssertionError("the disk was never full")


async def check_full(rpc: Rpc, run_id: str, other: str) -> list[int]:
    """Fill the disk; see that writes are refused and reads go on."""
    acknowledged, error = await fill(rpc, run_id)
    assert error.code() in (grpc.StatusCode.RESOURCE_EXHAUSTED, grpc.StatusCode.UNAVAILABLE)
    # Much more than was refused: a refusal cuts the write-ahead log, so that a little more may fit.
    for call in (publish(rpc, run_id, "x" * 500_000), rpc.start("flow", {"pad": "x" * 500_000})):
        refusal = await refused(call)
        assert refusal.code in (grpc.StatusCode.RESOURCE_EXHAUSTED, grpc.StatusCode.UNAVAILABLE)
    assert status(await rpc.get(run_id)) == "WAITING"
    log = await rpc.log(run_id)
    assert {entry.sequence for entry in log} >= set(acknowledged)
    assert (await snapshot_of(rpc, run_id)).sequence == len(log)
    assert status(await rpc.get(other)) == "COMPLETED"
    assert await state_of(rpc, other) == {}
    assert len((await rpc.runs.ListRuns(runs.ListRunsRequest())).runs) == 2
    return acknowledged


async def check_healed(rpc: Rpc, run_id: str, acknowledged: list[int]) -> None:
    """See that the server goes on, and that what was acknowledged is there once."""
    assert await publish(rpc, run_id, "x" * 20_000, "r0") == acknowledged[0]
    assert await publish(rpc, run_id, "after") > acknowledged[-1]
    await rpc.send(run_id, event("Answer", n=1))
    assert result(await rpc.ended(run_id)) == 1
    log = await rpc.log(run_id)
    assert [entry.sequence for entry in log] == list(range(1, len(log) + 1))
    assert {entry.sequence for entry in log if entry.type == "Note"} >= set(acknowledged)


async def two_runs(rpc: Rpc) -> tuple[str, str]:
    """Start a run that waits, and another that has ended."""
    ids = [(await rpc.start("flow", {})).run_id for _ in range(2)]
    for run_id in ids:
        await asked(rpc, run_id)
    await rpc.send(ids[1], event("Answer", n=0))
    await rpc.ended(ids[1])
    return ids[0], ids[1]


async def test_full_disk_writes_are_refused_reads_go_on_and_the_server_heals(tmp_path: Path) -> None:
    async with life(tmp_path, Flow(ask)) as rpc:
        run_id, other = await two_runs(rpc)
        await publish(rpc, run_id, "x" * 20_000, "r0")
        async with with_little_room(rpc):
            acknowledged = await check_full(rpc, run_id, other)
        await check_healed(rpc, run_id, acknowledged)


async def test_full_disk_of_its_own_freed_again(tmpfs: Path) -> None:
    (tmpfs / "ballast").write_bytes(bytes(512 * 1024))
    async with life(tmpfs / "data", Flow(ask)) as rpc:
        run_id, other = await two_runs(rpc)
        acknowledged = await check_full(rpc, run_id, other)
        (tmpfs / "ballast").unlink()
        await check_healed(rpc, run_id, acknowledged)
        await crash(rpc)
    async with life(tmpfs / "data", Flow(ask)) as rpc:
        assert result(await rpc.get(run_id)) == 1


def fill_up(disk: Path) -> None:
    """Leave no room on a disk."""
    with (disk / "ballast").open("ab", buffering=0) as file, contextlib.suppress(OSError):
        while file.write(bytes(4096)):
            continue


async def test_full_disk_at_the_start_reads_go_on(tmpfs: Path) -> None:
    async with life(tmpfs / "data", Flow(ask)) as rpc:
        run_id, other = await two_runs(rpc)
    fill_up(tmpfs)
    async with life(tmpfs / "data", Flow(ask)) as rpc:
        assert result(await rpc.get(other)) == 0
        assert len(await rpc.logged(run_id)) == 2
        refusal = await refused(rpc.start("flow", {}))
        assert refusal.code in (grpc.StatusCode.RESOURCE_EXHAUSTED, grpc.StatusCode.UNAVAILABLE)
        (tmpfs / "ballast").unlink()
        await rpc.send(run_id, event("Answer", n=1))
        assert result(await rpc.ended(run_id)) == 1


async def test_full_disk_at_the_first_start_is_told(tmpfs: Path) -> None:
    fill_up(tmpfs)
    (tmpfs / "data").mkdir()
    server = Server(registry_of(flow=Flow(ask)), Settings(address="127.0.0.1:0", data=str(tmpfs / "data")))
    with pytest.raises(StoreUnavailableError, match=r"SQLITE_FULL|No space left|SQLITE_IOERR"):
        await server.start()


async def test_read_only_disk_writes_are_refused_reads_go_on_and_the_server_heals(tmp_path: Path) -> None:
    async with life(tmp_path, Flow(ask)) as rpc:
        run_id, other = await two_runs(rpc)
        store = rpc.store
        assert isinstance(store, SqliteStore)
        before = len(await rpc.log(run_id))
        await write_on(rpc, "PRAGMA query_only = ON")  # every write says SQLITE_READONLY, as on such a disk
        batches = store._writer._batches._batches
        connect = batches._connect

        def read_only() -> sqlite3.Connection:
            connection = connect()
            connection.execute("PRAGMA query_only = ON")
            return connection

        batches._connect = read_only
        for call in (publish(rpc, run_id, "x", "r"), set_state(rpc, run_id, "k", 1), rpc.start("flow", {})):
            refusal = await refused(call)
            assert (refusal.code, refusal.reason) == (grpc.StatusCode.UNAVAILABLE, "STORE_UNAVAILABLE")
        assert len(await rpc.log(run_id)) == before
        assert status(await rpc.get(run_id)) == "WAITING"
        assert result(await rpc.get(other)) == 0
        batches._connect = connect
        await write_on_quietly(rpc)
        assert await publish(rpc, run_id, "x", "r") == before + 1
        await rpc.send(run_id, event("Answer", n=1))
        assert result(await rpc.ended(run_id)) == 1


async def write_on_quietly(rpc: Rpc) -> None:
    """Have the writer open the database anew."""
    try:
        await write_on(rpc, "CREATE TABLE nothing (n)")
    except StoreUnavailableError:
        return
    await write_on(rpc, "DROP TABLE nothing")
