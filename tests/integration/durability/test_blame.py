"""Blame: a run that crashes the process is found and set aside; the runs beside it, and the server, go on."""

from __future__ import annotations

import asyncio
from pathlib import Path

import grpc
import pytest
from tests.integration.durability.support import (
    reaching,
    refused_reason,
    result,
    status,
    until,
)
from tests.integration.rpc_serving import Rpc, event
from tests.serving import ServerProcess

from stepwire.v1 import run_service_pb2 as runs
from stepwire.v1 import types_pb2 as types

MODULE = "tests.integration.durability.crash_flows"
FLOWS = [f"{MODULE}:{name}={name.lower()}" for name in ("Crash", "Long", "Old")]
STARTS = 12
LIBRARY = "ctypes.CDLL(None)"


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
        pytest.param("kill", 1.5, marks=pytest.mark.slow),
        pytest.param("library", 1.5, marks=pytest.mark.slow),
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


@pytest.mark.slow
@pytest.mark.parametrize("how", ["works", "answered"])
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


@pytest.mark.slow
async def test_such_a_run_is_loaded_again_when_someone_asks_for_it(tmp_path: Path) -> None:
    mended = tmp_path / "mended"
    with ServerProcess(tmp_path / "data", FLOWS) as process:
        async with reaching(process) as rpc:
            await rpc.start("old", {"how": "works"}, run_id="old")
    env = {"OLD_VERSION": "2", "OLD_MENDED": str(mended)}
    for _ in range(3):
        with ServerProcess(tmp_path / "data", FLOWS, env=env) as process:
            await asyncio.to_thread(process.wait)
    with ServerProcess(tmp_path / "data", FLOWS, env=env) as process:
        async with reaching(process) as rpc:
            await until(lambda: _is(rpc, "BLOCKED"))
            mended.touch()  # what crashed is mended, and the version is the same
            assert (await rpc.runs.ReloadRun(runs.ReloadRunRequest(run_id="old"))).run.workflow_version == "2"
            assert result(await rpc.ended("old")) == "ok"


async def _is(rpc: Rpc, *expected: str) -> bool:
    return status(await rpc.get("old")) in expected
