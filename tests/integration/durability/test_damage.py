"""Damage of the database: flipped bytes and torn logs are refused or recovered, other runs go on."""

from __future__ import annotations

import shutil
import sqlite3
from contextlib import closing
from pathlib import Path

import grpc
import pytest
from tests.integration.durability.flows import Answer, Flow, Note, Prompt, ask
from tests.integration.durability.support import (
    DATABASE,
    asked,
    fork,
    life,
    publish,
    refused_reason,
    result,
    snapshot_of,
    status,
)
from tests.integration.rpc_serving import Rpc, event, refused, registry_of

from stepwire.server.app import Server, Settings
from stepwire.server.store import (
    StoreError,
)
from stepwire.v1 import run_service_pb2 as runs
from stepwire.workflow import Context, DictState


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
async def test_flipped_byte_is_refused_and_other_runs_are_not_affected(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, part: str
) -> None:
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
    assert "a reader is in the way" not in caplog.text


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
