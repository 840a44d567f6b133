"""Blame: a run that crashes the process is found and set aside; the runs beside it, and the server, go on."""

from __future__ import annotations

import asyncio
import json
import os
import subprocess
import sys
from functools import partial
from pathlib import Path
from typing import Any

import grpc
import pytest
from tests.integration.durability.flows import Flow, stay
from tests.integration.durability.support import (
    crash,
    failing,
    life,
    publish,
    reaching,
    refused_reason,
    result,
    status,
    until,
)
from tests.integration.rpc_serving import Rpc, event
from tests.serving import ServerProcess

from stepwire.server.runs.hosting.crash_notes import NOTES, CrashNotes, LastEnd
from stepwire.server.runs.hosting.live_run import LiveRun
from stepwire.server.store import RunKey, StoreUnavailableError
from stepwire.v1 import run_service_pb2 as runs
from stepwire.v1 import types_pb2 as types

MODULE = "tests.integration.durability.crash_flows"
FLOWS = [f"{MODULE}:{name}={name.lower()}" for name in ("Crash", "Long", "Old")]
STARTS = 12


async def statuses(rpc: Rpc) -> dict[str, str]:
    found = await rpc.runs.ListRuns(runs.ListRunsRequest())
    return {run.run_id: status(run) for run in found.runs}


async def until_all_ended(process: ServerProcess) -> tuple[int, list[types.Run]]:
    """Start a server again each time that it dies, until all of its runs have ended; return how often, and the runs."""
    for starts in range(1, STARTS):
        await asyncio.to_thread(process.start)
        try:
            async with reaching(process) as rpc:
                ids = list(await statuses(rpc))
                return starts, [await rpc.ended(run_id) for run_id in ids]
        except grpc.aio.AioRpcError as error:
            assert error.code() == grpc.StatusCode.UNAVAILABLE, error  # noqa: PT017 - all else is a failure of the test
            await until(lambda: not process.running)
    raise AssertionError(f"still not ended after {STARTS} starts")


@pytest.mark.parametrize(
    ("how", "after"),
    [
        ("segv", 0.0),
        pytest.param("exit", 0.0, marks=pytest.mark.slow),
        pytest.param("kill", 0.0, marks=pytest.mark.slow),
        pytest.param("exit", 1.5, marks=pytest.mark.slow),
    ],
)
async def test_the_run_that_crashes_the_process_fails_and_the_runs_beside_it_complete(
    tmp_path: Path, how: str, after: float
) -> None:
    with ServerProcess(tmp_path, FLOWS) as process:
        async with reaching(process) as rpc:
            for number in range(3):
                await rpc.start("long", {"seconds": 2}, run_id=f"long{number}")
            crashing = rpc.start("crash", {"how": how, "after": after}, run_id="crash")
            await asyncio.gather(crashing, return_exceptions=True)
            await rpc.start("long", {"seconds": 2}, run_id="younger") if after else None
            await until(lambda: not process.running)
        starts, ended = await until_all_ended(process)
    found = {run.run_id: (status(run), run.outcome.failure.error_type) for run in ended}
    assert found.pop("crash") == ("FAILED", "CRASH_LOOP")
    assert found
    assert set(found.values()) == {("COMPLETED", "")}
    assert starts <= 9


@pytest.mark.parametrize("how", ["works", pytest.param("answered", marks=pytest.mark.slow)])
async def test_a_run_whose_loading_crashes_the_process_is_blocked_until_other_code_is_served(
    tmp_path: Path, how: str
) -> None:
    with ServerProcess(tmp_path, FLOWS) as process:
        async with reaching(process) as rpc:
            await rpc.start("old", {"how": how}, run_id="old")
    crashes = 0
    for _ in range(STARTS):
        with ServerProcess(tmp_path, FLOWS, env={"OLD_VERSION": "2"}) as process:
            async with reaching(process) as rpc:
                try:
                    if how == "answered":
                        await rpc.send("old", event("HumanResponseEvent"))
                    else:
                        await until(lambda: not process.running) if crashes < 3 else None
                        await rpc.get("old")
                except grpc.aio.AioRpcError as error:
                    if error.code() != grpc.StatusCode.UNAVAILABLE:
                        assert error.code() == grpc.StatusCode.FAILED_PRECONDITION  # noqa: PT017
                        break
                    crashes += 1
                    await until(lambda: not process.running)
                else:
                    break
    assert crashes == 3
    with ServerProcess(tmp_path, FLOWS, env={"OLD_VERSION": "2"}) as process:
        async with reaching(process) as rpc:
            if how == "answered":
                assert await refused_reason(rpc.send("old", event("HumanResponseEvent"))) == "RUN_BLOCKED"
            await until(lambda: _is(rpc, "BLOCKED"))
            assert "crashed the process 3 times" in (await rpc.get("old")).blocked_reason
            assert result(await rpc.ended((await rpc.start("long", {"seconds": 0})).run_id)) == "done"
    with ServerProcess(tmp_path, FLOWS, env={"OLD_VERSION": "3"}) as process:
        async with reaching(process) as rpc:
            await until(lambda: _is(rpc, "WAITING", "RUNNING", "COMPLETED"))
            if how == "answered":
                await rpc.send("old", event("HumanResponseEvent"))
            assert result(await rpc.ended("old")) == "ok"


async def _is(rpc: Rpc, *expected: str) -> bool:
    return status(await rpc.get("old")) in expected


async def test_kills_from_outside_do_not_fail_a_long_step(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("stepwire.server.runs.hosting.trials._TRIAL_SECONDS", 0.05)
    flow = Flow(stay)
    run_id = ""
    for times in range(8):
        async with life(tmp_path, flow) as rpc:
            run_id = run_id or (await rpc.start("flow", {})).run_id
            await flow.gate.arrived(times + 1)
            (run,) = rpc.pool
            if times:
                await until(partial(_survived, run))
            await crash(rpc)
    flow.gate.opened.set()
    async with life(tmp_path, flow) as rpc:
        assert result(await rpc.ended(run_id)) == "stayed"
    assert flow.attempts == 9


def _survived(run: LiveRun) -> bool:
    return "survived" in run.record.info


async def test_the_server_answers_while_it_takes_runs_up(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    flow = Flow(stay)
    async with life(tmp_path, flow) as rpc:
        run_id = (await rpc.start("flow", {})).run_id
        await flow.gate.arrived(1)
    going_on = asyncio.Event()

    def prepare(server: Any) -> None:
        load = server._store.load

        async def slowly(*args: Any) -> Any:
            await going_on.wait()
            return await load(*args)

        monkeypatch.setattr(server._store, "load", slowly)

    async with life(tmp_path, flow, prepare=prepare, take_up=False) as rpc:
        assert status(await rpc.get(run_id)) == "RUNNING"
        new = (await rpc.start("flow", {})).run_id
        await flow.gate.arrived(2)
        going_on.set()
        await flow.gate.arrived(3)
        flow.gate.opened.set()
        for each in (run_id, new):
            assert result(await rpc.ended(each)) == "stayed"


async def test_a_store_that_fails_again_and_again_blames_no_step(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("stepwire.server.runs.hosting.waking.RETRY_SECONDS", 0.01)
    flow = Flow(stay)
    async with life(tmp_path, flow) as rpc:
        run_id = (await rpc.start("flow", {})).run_id
        for times in range(7):
            await flow.gate.arrived(times + 1)
            with failing(rpc.store, StoreUnavailableError("the disk is full", full=True), times=1):
                assert await refused_reason(publish(rpc, run_id, "x")) == "LIMIT_EXCEEDED"
        await flow.gate.arrived(8)
        flow.gate.opened.set()
        assert result(await rpc.ended(run_id)) == "stayed"


# -- the notes ----------------------------------------------------------------------------------------------------

KEY = RunKey("default", "r")


def test_notes_tell_the_next_process_what_was_loaded_and_on_trial(tmp_path: Path) -> None:
    notes = CrashNotes(tmp_path)
    notes.open()
    assert notes.last == LastEnd()
    with notes.loading(RunKey("default", "before")):
        pass
    notes.trial(KEY)
    with notes.loading(KEY):
        after = CrashNotes(tmp_path)
        after.open()
    assert after.last == LastEnd(True, False, KEY, KEY, 1)
    after.trial(KEY)
    third = CrashNotes(tmp_path)
    third.open()
    assert (third.last.loading, third.last.on_trial, third.last.rounds) == (None, KEY, 2)
    third.close()
    fourth = CrashNotes(tmp_path)
    fourth.open()
    assert fourth.last == LastEnd()


@pytest.mark.parametrize(
    ("end", "itself"),
    [
        ("import os; os._exit(1)", True),
        ("import os, signal; os.kill(os.getpid(), signal.SIGABRT)", True),
        ("import os, signal; os.kill(os.getpid(), signal.SIGKILL)", False),
        ("import os; os.fork() or os._exit(0); os.wait(); os.kill(os.getpid(), 9)", False),
    ],
)
def test_notes_tell_whether_the_process_ended_itself(tmp_path: Path, end: str, itself: bool) -> None:
    code = (
        "from pathlib import Path; from stepwire.server.runs.hosting.crash_notes import CrashNotes;"
        f"notes = CrashNotes(Path({str(tmp_path)!r})); notes.watch(); notes.open(); " + end
    )
    subprocess.run([sys.executable, "-c", code], check=False, timeout=30)
    notes = CrashNotes(tmp_path)
    notes.open()
    assert (notes.last.crashed, notes.last.itself) == (True, itself)


def test_notes_that_are_damaged_or_cannot_be_written_are_no_obstacle(tmp_path: Path) -> None:
    (tmp_path / NOTES).write_bytes(b"R" + os.urandom(100) + json.dumps("x").encode())
    notes = CrashNotes(tmp_path)
    notes.open()
    assert notes.last.crashed
    missing = CrashNotes(tmp_path / "nowhere")
    missing.open()
    with missing.loading(KEY):
        missing.trial(KEY)
    missing.close()
