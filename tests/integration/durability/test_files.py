"""The data directory: one process holds it, and backups of it open."""

from __future__ import annotations

import asyncio
import shutil
import sqlite3
import subprocess
import sys
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest
from tests.integration.durability.flows import Flow, ask
from tests.integration.durability.support import (
    DATABASE,
    asked,
    life,
    publish,
    result,
    settle,
    snapshot_of,
)
from tests.integration.rpc_serving import Rpc, event, registry_of

from stepwire.server.app import Server, Settings
from stepwire.server.store import (
    StoreError,
    StoreLockedError,
    backup_directory,
)


def hold(command: list[str]) -> subprocess.Popen[str]:
    return subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)


async def test_lock_a_second_server_refuses_at_once_and_names_the_holder(tmp_path: Path) -> None:
    code = """
import asyncio, sys
from pathlib import Path
from stepwire.server.store import SqliteStore
async def main():
    store = SqliteStore(Path(sys.argv[1]))
    await store.open()
    print("open", flush=True)
    sys.stdin.read()
asyncio.run(main())
"""
    command = [sys.executable, "-c", code, str(tmp_path)]
    with hold(command) as holder:
        assert holder.stdin is not None
        assert holder.stdout is not None
        assert await asyncio.to_thread(holder.stdout.readline) == "open\n"
        server = Server(registry_of(flow=Flow(ask)), Settings(address="127.0.0.1:0", data=str(tmp_path)))
        with pytest.raises(StoreLockedError, match=rf"in use by process {holder.pid} on "):
            await server.start()
        # A process that dies lets go, however it dies.
        holder.kill()
        holder.wait()
    async with life(tmp_path, Flow(ask)) as rpc:
        await asked(rpc, (await rpc.start("flow", {})).run_id)


async def test_lock_the_first_server_is_not_disturbed(tmp_path: Path) -> None:
    async with life(tmp_path, Flow(ask)) as rpc:
        run_id = (await rpc.start("flow", {})).run_id
        await asked(rpc, run_id)
        second = Server(registry_of(flow=Flow(ask)), Settings(address="127.0.0.1:0", data=str(tmp_path)))
        with pytest.raises(StoreLockedError):
            await second.start()
        await rpc.send(run_id, event("Answer", n=1))
        assert result(await rpc.ended(run_id)) == 1


@pytest.mark.skipif(sys.platform == "win32", reason="there are no such permissions")
async def test_lock_and_backup_files_with_states_in_them_are_their_owners_alone(tmp_path: Path) -> None:
    data, copy = tmp_path / "data", tmp_path / "copy.db"
    data.mkdir(mode=0o755)  # as a service manager may make it
    async with life(data, Flow(ask)) as rpc:
        await asked(rpc, (await rpc.start("flow", {})).run_id)
        await asyncio.to_thread(backup_directory, data, copy)
        modes = {path.name: path.stat().st_mode & 0o077 for path in (*data.iterdir(), copy)}
    assert {name for name, mode in modes.items() if mode} == {"lock"}
    assert {DATABASE, f"{DATABASE}-wal", f"{DATABASE}-shm", "snapshot.key", "copy.db"} < modes.keys()


async def test_backup_while_runs_go_on_opens_and_has_what_was_acknowledged_before(tmp_path: Path) -> None:
    data, restored = tmp_path / "data", tmp_path / "restored"
    restored.mkdir()
    async with life(data, Flow(ask)) as rpc:
        run_id = (await rpc.start("flow", {}, request_id="start")).run_id
        await asked(rpc, run_id)
        acknowledged: list[int] = []
        stop = asyncio.Event()

        async def write(number: int) -> None:
            while not stop.is_set():
                acknowledged.append(await publish(rpc, run_id, f"{number}", f"{number}.{len(acknowledged)}"))

        writers = [asyncio.ensure_future(write(number)) for number in range(4)]
        while len(acknowledged) < 20:
            await settle(rpc)
        before = max(acknowledged)
        size = await asyncio.to_thread(backup_directory, data, restored / DATABASE)
        assert size == (restored / DATABASE).stat().st_size
        snapshot = await snapshot_of(rpc, run_id)
        stop.set()
        await asyncio.gather(*writers)
        log = await rpc.log(run_id)
    shutil.copy(data / "snapshot.key", restored)
    async with life(restored, Flow(ask)) as rpc:
        found = await rpc.log(run_id)
        assert len(found) >= before
        assert found == log[: len(found)]
        assert (await rpc.start("flow", {}, request_id="start")).run_id == run_id
        await rpc.send(run_id, event("Answer", n=1))
        assert result(await rpc.ended(run_id)) == 1
        # With the key beside it, snapshots that were given out are still taken.
        await asked_fork(rpc, snapshot)


async def asked_fork(rpc: Rpc, snapshot: Any) -> None:
    run = await rpc.start("flow", snapshot=snapshot)
    assert [waiter.waiter_id for waiter in (await rpc.get(run.run_id)).pending_waiters] == ["q"]


async def test_upgrade_a_newer_database_is_refused_and_left_alone(tmp_path: Path) -> None:
    async with life(tmp_path, Flow(ask)) as rpc:
        await rpc.start("flow", {})
    with closing(sqlite3.connect(tmp_path / DATABASE)) as connection:
        connection.execute("PRAGMA user_version = 99")
    before = (tmp_path / DATABASE).read_bytes()
    server = Server(registry_of(flow=Flow(ask)), Settings(address="127.0.0.1:0", data=str(tmp_path)))
    with pytest.raises(StoreError, match=r"newer version of Stepwire \(schema 99, this one knows up to \d+\)"):
        await server.start()
    assert (tmp_path / DATABASE).read_bytes() == before
