"""Drain: SIGTERM ends a server in time, whatever its steps do; sessions hear where to resume; then all goes on."""

from __future__ import annotations

import asyncio
import contextlib
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import grpc
import pytest
from grpc_health.v1 import health_pb2
from tests.integration.durability.flows import Flow, ask, stay
from tests.integration.durability.support import asked, life, publish, reaching, result, status, until
from tests.integration.rpc_serving import Rpc, event, refusal_of, refused, registry_of
from tests.serving import ServerProcess

from stepwire.v1 import run_service_pb2 as runs
from stepwire.v1 import types_pb2 as types

MODULE = "tests.integration.durability.drain_flows"
FLOWS = [f"{MODULE}:{name}={name.lower()}" for name in ("Slow", "Stuck", "Deaf", "Ask")]
SERVING, NOT_SERVING = health_pb2.HealthCheckResponse.SERVING, health_pb2.HealthCheckResponse.NOT_SERVING


async def began(rpc: Rpc, run_id: str) -> None:
    """Wait until a body of the run is at work."""
    await asked(rpc, run_id, "Began")


@asynccontextmanager
async def stopping(rpc: Rpc) -> AsyncIterator[None]:
    """Stop a server in this process; the block runs once health says so, and ends when it has stopped."""
    watch = rpc.health.Watch(health_pb2.HealthCheckRequest(service="stepwire.v1.RunService"))
    assert (await watch.read()).status == SERVING
    stopped = asyncio.ensure_future(rpc.server.stop())
    assert (await watch.read()).status == NOT_SERVING
    yield
    await stopped


async def test_drain_health_says_so_first_and_no_run_starts(tmp_path: Path) -> None:
    flow = Flow(stay)
    registry = registry_of(flow=flow, ask=Flow(ask))
    async with life(tmp_path, registry, grace=20.0) as rpc:
        run_id = (await rpc.start("flow", {})).run_id
        waiting = (await rpc.start("ask", {})).run_id
        await asked(rpc, waiting)
        await flow.gate.arrived(1)
        async with stopping(rpc):
            refusal = await refused(rpc.start("flow", {}))
            assert (refusal.code, refusal.reason) == (grpc.StatusCode.UNAVAILABLE, "DRAINING")
            # Until its end the server answers, and takes what its runs get.
            assert status(await rpc.get(run_id)) == "RUNNING"
            assert await publish(rpc, waiting, "still here") > 0
            flow.gate.opened.set()
    async with life(tmp_path, registry) as rpc:
        assert result(await rpc.ended(run_id)) == "stayed"
        assert flow.attempts == 1


async def test_drain_a_step_that_needs_longer_runs_again_and_loses_no_execution(tmp_path: Path) -> None:
    flow = Flow(stay)
    async with life(tmp_path, flow, grace=0.2) as rpc:
        run_id = (await rpc.start("flow", {})).run_id
        await flow.gate.arrived(1)
        before = time.monotonic()
        async with stopping(rpc):
            pass
        assert time.monotonic() - before >= 0.2
    async with life(tmp_path, flow) as rpc:
        await flow.gate.arrived(2)
        run = rpc.pool._live[next(iter(rpc.pool._live))]
        (delivery,) = run.broker.deliveries.values()
        assert (delivery.attempt, delivery.lost) == (2, 0)
        flow.gate.opened.set()
        assert result(await rpc.ended(run_id)) == "stayed"


async def test_drain_sessions_end_with_unavailable_and_where_to_resume(tmp_path: Path) -> None:
    async with life(tmp_path, Flow(ask)) as rpc:
        run_id = (await rpc.start("flow", {})).run_id
        last = (await asked(rpc, run_id)).last_sequence
        stream = rpc.stream(run_id)
        session = rpc.converse()
        await session.write(runs.ConverseRequest(attach=runs.ConverseAttach(run_id=run_id)))
        waits = [
            asyncio.ensure_future(rpc.runs.WaitRun(runs.WaitRunRequest(run_id=run_id))),
            asyncio.ensure_future(rpc.runs.WaitForEvent(runs.WaitForEventRequest(run_id=run_id, event_type="Note"))),
        ]
        seen = []
        for call in (stream, session):
            frame = await call.read()
            while frame.WhichOneof("frame") != "events" or frame.events.to_sequence < last:
                frame = await call.read()
            seen.append(call)
        await until(lambda: rpc.server.calls.waiters == len(waits))  # a busy machine takes them in late
        async with stopping(rpc):
            pass
        for call in seen:
            refusal = await refused(_to_the_end(call))
            assert (refusal.code, refusal.reason) == (grpc.StatusCode.UNAVAILABLE, "DRAINING")
            assert refusal.facts["resume_sequence"] == str(last)
        for wait in waits:
            with contextlib.suppress(asyncio.CancelledError):
                await asyncio.wait([wait])
            error = wait.exception()
            assert isinstance(error, grpc.aio.AioRpcError)
            assert refusal_of(error).reason == "DRAINING"


async def _to_the_end(call: grpc.aio.StreamStreamCall[object, object]) -> None:
    while await call.read() is not grpc.aio.EOF:
        continue
    raise AssertionError("the stream ended without an error")


async def test_drain_ends_in_time_whatever_the_steps_do_and_everything_goes_on(tmp_path: Path) -> None:
    with ServerProcess(tmp_path, FLOWS, args=["--grace", "1s"]) as process:
        async with reaching(process) as rpc:
            short = (await rpc.start("slow", {"seconds": 0.5})).run_id
            long = (await rpc.start("slow", {"seconds": 600})).run_id
            stuck, deaf = (await rpc.start("stuck", {})).run_id, (await rpc.start("deaf", {})).run_id
            asking = (await rpc.start("ask", {})).run_id
            for run_id in (short, long, stuck, deaf):
                await began(rpc, run_id)
            question = await asked(rpc, asking, "Question")
            session = rpc.converse()
            attach = runs.ConverseAttach(run_id=asking, after_sequence=question.last_sequence)
            await session.write(runs.ConverseRequest(attach=attach))
            assert (await session.read()).WhichOneof("frame") == "opened"
            watch = rpc.health.Watch(health_pb2.HealthCheckRequest(service=""))
            assert (await watch.read()).status == SERVING
            os.kill(process.pid, signal.SIGTERM)
            assert (await watch.read()).status == NOT_SERVING
            refusal = await refused(rpc.start("ask", {}))
            assert (refusal.code, refusal.reason) == (grpc.StatusCode.UNAVAILABLE, "DRAINING")
            refusal = await refused(_to_the_end(session))
            assert refusal.code == grpc.StatusCode.UNAVAILABLE
            assert refusal.facts["resume_sequence"] == str(question.last_sequence)
            assert await asyncio.to_thread(process.stop) == 0
        await asyncio.to_thread(process.start)
        async with reaching(process) as rpc:
            # The one that had its grace ran once; the others again, and none of them counts as lost.
            assert result(await rpc.ended(short)) == 1
            for run_id in (long, stuck, deaf):
                assert result(await rpc.ended(run_id)) == 2
            run = await rpc.get(asking)
            assert (run.status, len(run.pending_waiters)) == (types.RUN_STATUS_WAITING, 1)
            await rpc.send(asking, event("Answer", n=3))
            assert result(await rpc.ended(asking)) == 3


HANG = """
#include <errno.h>
#include <stdlib.h>
#include <sys/syscall.h>
#include <unistd.h>

/* Never return while the file is there that HANG names: as a disk does that is gone. */
static int sync_or_hang(int file, long call) {
    while (access(getenv("HANG"), F_OK) == 0) pause();
    return syscall(call, file);
}
int fdatasync(int file) { return sync_or_hang(file, SYS_fdatasync); }
int fsync(int file) { return sync_or_hang(file, SYS_fsync); }
"""


@pytest.mark.skipif(sys.platform != "linux" or shutil.which("cc") is None, reason="needs Linux and a C compiler")
async def test_drain_ends_in_time_when_fsync_hangs(tmp_path: Path) -> None:
    (tmp_path / "hang.c").write_text(HANG)
    build = ["cc", "-shared", "-fPIC", "-o", str(tmp_path / "hang.so"), str(tmp_path / "hang.c")]
    await asyncio.to_thread(subprocess.run, build, check=True)
    hanging = tmp_path / "hanging"
    env = {"LD_PRELOAD": str(tmp_path / "hang.so"), "HANG": str(hanging)}
    with ServerProcess(tmp_path / "data", FLOWS, args=["--grace", "1s"], env=env) as process:
        async with reaching(process) as rpc:
            slow, asking = (await rpc.start("slow", {"seconds": 600})).run_id, (await rpc.start("ask", {})).run_id
            await began(rpc, slow)
            last = (await asked(rpc, asking, "Question")).last_sequence
            hanging.touch()
            sending = asyncio.ensure_future(refused(rpc.send(asking, event("Answer", n=3), request_id="answer")))
            stream = rpc.stream(asking, last)
            os.kill(process.pid, signal.SIGTERM)
            refusal = await sending
            assert (refusal.code, refusal.reason) == (grpc.StatusCode.UNAVAILABLE, "STORE_UNAVAILABLE")
            assert (await refused(_to_the_end(stream))).reason == "DRAINING"
            assert await asyncio.to_thread(process.stop) == 1
        assert "the store does not commit" in process.log
        hanging.unlink()
        await asyncio.to_thread(process.start)
        async with reaching(process) as rpc:
            assert result(await rpc.ended(slow)) == 2
            # Its outcome was unknown: the same request finds out, or does it now.
            await rpc.send(asking, event("Answer", n=3), request_id="answer")
            assert result(await rpc.ended(asking)) == 3
            answers = [entry for entry in await rpc.log(asking) if entry.type == "Answer"]
            assert len(answers) == 1
