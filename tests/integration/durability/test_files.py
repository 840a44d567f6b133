"""The data directory: one process holds it, backups of it open, damage and a full disk are told and outlived."""

from __future__ import annotations

import asyncio
import contextlib
import shutil
import sqlite3
import subprocess
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, closing
from pathlib import Path
from typing import Any

import grpc
import pytest
from tests.integration.durability.flows import Answer, Flow, Note, Prompt, ask
from tests.integration.durability.support import (
    asked,
    crash,
    fork,
    life,
    publish,
    refused_reason,
    result,
    set_state,
    settle,
    snapshot_of,
    state_of,
    status,
)
from tests.integration.rpc_serving import Rpc, event, refused, registry_of

from stepwire.server.app import Server, Settings
from stepwire.server.store import (
    SqliteStore,
    StoreError,
    StoreLockedError,
    StoreUnavailableError,
    backup_directory,
)
from stepwire.v1 import run_service_pb2 as runs
from stepwire.workflow import Context, DictState

DATABASE = "stepwire.db"


# -- two servers on one data directory --------------------------------------------------------------------------------


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


# -- backup and upgrade -----------------------------------------------------------------------------------------------


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


# -- full and read-only disks -----------------------------------------------------------------------------------------


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


# -- damage -----------------------------------------------------------------------------------------------------------


def flip(path: Path, pattern: bytes) -> None:
    """Change one byte of a database, where the pattern is."""
    with closing(sqlite3.connect(path)) as connection:
        connection.execute("PRAGMA wal_checkpoint(TRUNCATE)")
    content = bytearray(path.read_bytes())
    places = [place for place in range(len(content)) if content.startswith(pattern, place)]
    assert places, "nothing there to damage"
    for place in places:
        content[place + len(pattern) // 2] ^= 1
    path.write_bytes(content)


async def marked(flow: Flow, ctx: Context[DictState]) -> int:
    """Leave words to find in the log, the state and the record."""
    await ctx.store.set("state", "word-of-the-state")
    ctx.write_event_to_stream(Note(text="word-of-the-log"))
    answer = await ctx.wait_for_event(Answer, Prompt(text="word-of-the-prompt"), waiter_id="w-of-the-record")
    return answer.n


async def marked_runs(data: Path) -> tuple[str, str]:
    """Leave a run with words in it, and one without."""
    async with life(data, registry_of(flow=Flow(marked), plain=Flow(ask))) as rpc:
        bad = (await rpc.start("flow", {})).run_id
        good = (await rpc.start("plain", {})).run_id
        await asked(rpc, bad)
        await asked(rpc, good)
        await publish(rpc, bad, "more", "word-of-the-request")
    return bad, good


async def check_good(rpc: Rpc, run_id: str) -> None:
    """See that the run beside the damaged one is well."""
    assert len(await rpc.logged(run_id)) == 2
    assert run_id in [run.run_id for run in (await rpc.runs.ListRuns(runs.ListRunsRequest())).runs]
    await rpc.send(run_id, event("Answer", n=3))
    assert result(await rpc.ended(run_id)) == 3


DAMAGE = {
    "log": b'{"text":"word-of-the-log"}',
    "state": b'"word-of-the-state"',
    "record": b'"waiter_id":"w-of-the-record"',
    "request": b'["word-of-the-request"',
}


@pytest.mark.parametrize("part", DAMAGE)
async def test_flipped_byte_is_refused_and_other_runs_are_not_affected(tmp_path: Path, part: str) -> None:
    bad, good = await marked_runs(tmp_path)
    flip(tmp_path / DATABASE, DAMAGE[part])
    async with life(tmp_path, registry_of(flow=Flow(marked), plain=Flow(ask))) as rpc:
        if part == "log":
            refusal = await refused(rpc.log(bad))
            assert (refusal.code, refusal.reason) == (grpc.StatusCode.DATA_LOSS, "DATA_DAMAGED")
            assert "the log at" in refusal.message
        elif part == "record":
            refusal = await refused(rpc.get(bad))
            assert (refusal.code, refusal.reason) == (grpc.StatusCode.DATA_LOSS, "DATA_DAMAGED")
            for call in (rpc.send(bad, event("Answer", n=1)), rpc.log(bad), snapshot_of(rpc, bad)):
                assert await refused_reason(call) == "DATA_DAMAGED"
        else:
            refusal = await refused(rpc.send(bad, event("Answer", n=1)))
            assert (refusal.code, refusal.reason) == (grpc.StatusCode.FAILED_PRECONDITION, "RUN_BLOCKED")
            assert "damaged" in refusal.message
            run = await rpc.get(bad)
            assert (status(run), "damaged" in run.blocked_reason) == ("BLOCKED", True)
        if part == "state":
            assert await refused_reason(snapshot_of(rpc, bad)) == "DATA_DAMAGED"
            assert await refused_reason(fork(rpc, bad)) == "DATA_DAMAGED"
            assert len(await rpc.log(bad)) > 0
        await check_good(rpc, good)
    # Nor does it keep a server from starting.
    async with life(tmp_path, registry_of(flow=Flow(marked), plain=Flow(ask))) as rpc:
        assert status(await rpc.get(good)) == "COMPLETED"


async def test_flipped_byte_in_the_head_of_the_file_is_refused_at_the_start(tmp_path: Path) -> None:
    await marked_runs(tmp_path)
    path = tmp_path / DATABASE
    flip(path, b"SQLite format 3\x00")
    server = Server(registry_of(flow=Flow(marked)), Settings(address="127.0.0.1:0", data=str(tmp_path)))
    with pytest.raises(StoreError, match="NOTADB"):
        await server.start()


@pytest.mark.parametrize("how", ["torn", "flipped"])
async def test_torn_log_of_writes_is_recovered_to_a_prefix(tmp_path: Path, how: str) -> None:
    data, copy = tmp_path / "data", tmp_path / "copy"
    async with life(data, Flow(ask)) as rpc:
        run_id = (await rpc.start("flow", {})).run_id
        await asked(rpc, run_id)
        for n in range(40):
            await publish(rpc, run_id, str(n))
        log = await rpc.log(run_id)
        # As a power failure may leave it: the end of the write-ahead log is not what was written.
        copy.mkdir()
        for name in (DATABASE, f"{DATABASE}-wal"):
            shutil.copy(data / name, copy / name)
    wal = copy / f"{DATABASE}-wal"
    content = bytearray(wal.read_bytes())
    place = len(content) * 3 // 4
    if how == "torn":
        del content[place:]
    else:
        content[place] ^= 1
    wal.write_bytes(content)
    async with life(copy, Flow(ask)) as rpc:
        found = await rpc.log(run_id)
        assert 2 < len(found) < len(log)
        assert found == log[: len(found)]
        assert (await snapshot_of(rpc, run_id)).sequence == len(found)
        await rpc.send(run_id, event("Answer", n=1))
        assert result(await rpc.ended(run_id)) == 1
