"""Replicas whose database goes away: health, the ends of calls, and how much of it the log tells."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Callable, Iterator, Sequence
from contextlib import ExitStack, asynccontextmanager
from typing import Any

import grpc
import pytest
from google.rpc import error_details_pb2, status_pb2
from grpc_health.v1 import health_pb2, health_pb2_grpc
from tests.integration.cluster.conftest import FLOWS
from tests.postgres import MISSING, PostgresServer, programs
from tests.serving import ServerProcess

from stepwire.v1 import run_service_pb2 as pb
from stepwire.v1 import run_service_pb2_grpc, state_service_pb2, state_service_pb2_grpc

READ = pb.GetRunRequest(run_id="nowhere")


@pytest.fixture
def server() -> Iterator[PostgresServer]:
    """A database that no other test uses."""
    if programs() is None:
        pytest.skip(MISSING)
    with PostgresServer(["fsync=off"]) as server:
        yield server


@pytest.fixture
def replicas(server: PostgresServer) -> Iterator[Sequence[ServerProcess]]:
    made = [ServerProcess(server.dsn, FLOWS, args=["--grace", "1s"]) for _ in range(2)]
    with ExitStack() as stack:
        for each in made:
            stack.callback(each.kill)
            each.start()
        # A row of `replicas` is committed without waiting for the disk: let the last one get there.
        server.sql("CHECKPOINT")
        yield made


@asynccontextmanager
async def connected(server: ServerProcess) -> AsyncIterator[grpc.aio.Channel]:
    async with grpc.aio.insecure_channel(server.address) as channel:
        yield channel


async def serves(server: ServerProcess) -> bool:
    async with connected(server) as channel:
        check: Any = health_pb2_grpc.HealthStub(channel)
        answer = await check.Check(health_pb2.HealthCheckRequest(), timeout=5)
    return bool(answer.status == health_pb2.HealthCheckResponse.SERVING)


async def until(replicas: Sequence[ServerProcess], *, serving: bool, seconds: float) -> float:
    """Wait until all replicas say that they serve, or that they do not; return how long that took."""
    began = time.monotonic()
    async with asyncio.timeout(seconds):
        while any([await serves(each) is not serving for each in replicas]):  # noqa: ASYNC110 - other processes
            await asyncio.sleep(0.05)
    return time.monotonic() - began


async def read(server: ServerProcess, seconds: float = 60.0) -> grpc.aio.AioRpcError:
    """Read a run that does not exist; return how that ended."""
    async with connected(server) as channel:
        with pytest.raises(grpc.aio.AioRpcError) as refused:
            await run_service_pb2_grpc.RunServiceStub(channel).GetRun(READ, timeout=seconds)
    return refused.value


def reason_of(error: grpc.aio.AioRpcError) -> str:
    """Return the reason that is in the details of an error."""
    trailing = error.trailing_metadata()
    assert trailing is not None
    status = status_pb2.Status.FromString(dict(trailing)["grpc-status-details-bin"])  # type: ignore[arg-type]
    info = error_details_pb2.ErrorInfo()
    assert status.details[0].Unpack(info)
    return str(info.reason)


def told(server: ServerProcess, before: int) -> list[str]:
    """Return the lines that a replica has logged since it had so many, but for those of a busy machine."""
    return [line for line in server.log.splitlines()[before:] if "the event loop is blocked" not in line]


Fault = tuple[Callable[[PostgresServer], None], Callable[[PostgresServer], None]]
FAULTS: dict[str, Fault] = {
    "hangs": (PostgresServer.pause, PostgresServer.resume),
    "is stopped": (PostgresServer.stop, PostgresServer.start),
}


@pytest.mark.parametrize("fault", FAULTS)
async def test_health_follows_the_database_though_nobody_writes(
    server: PostgresServer, replicas: Sequence[ServerProcess], fault: str
) -> None:
    lose, find = FAULTS[fault]
    for each in replicas:
        assert (await read(each)).code() is grpc.StatusCode.NOT_FOUND
    before = [len(each.log.splitlines()) for each in replicas]
    lose(server)
    try:
        reading = [asyncio.create_task(read(each)) for each in replicas for _ in range(10)]
        assert await until(replicas, serving=False, seconds=8.0) > 3.0  # a failover must not take all out of service
        await asyncio.sleep(2.0)
    finally:
        find(server)
    await until(replicas, serving=True, seconds=8.0)
    assert {error.code() for error in await asyncio.gather(*reading)} == {grpc.StatusCode.NOT_FOUND}
    for each, count in zip(replicas, before, strict=True):
        lines = told(each, count)
        assert len(lines) == 4, "\n".join(lines)
        assert "WARNING  the database takes no writes of this server, calls wait: PostgreSQL" in lines[0]
        assert "ERROR    NOT SERVING: cannot commit: PostgreSQL cannot be reached: " in lines[1]
        assert "INFO     the database takes writes again, after " in lines[2]
        assert "INFO     serving again" in lines[3]


async def test_calls_that_are_under_way_lend_the_log_of_an_outage_neither_their_names_nor_lines(
    server: PostgresServer, replicas: Sequence[ServerProcess]
) -> None:
    async with connected(replicas[0]) as channel:
        stub = run_service_pb2_grpc.RunServiceStub(channel)
        runs = [(await stub.StartRun(pb.StartRunRequest(workflow="chat"))).run.run_id for _ in range(8)]
        await asyncio.gather(*(read(replicas[0]) for _ in range(8)))
        before = len(replicas[0].log.splitlines())
        server.stop()
        starts = [pb.StartRunRequest(workflow="chat", request_id=f"r{n}") for n in range(8)]
        calls = [stub.StartRun(each, timeout=60) for each in starts]
        reads = [stub.GetRun(pb.GetRunRequest(run_id=each), timeout=60) for each in runs]
        await asyncio.sleep(3.0)
        server.start()
        await asyncio.gather(*calls, *reads)
    lines = told(replicas[0], before)
    assert len(lines) == 2, "\n".join(lines)
    assert not any("[" in each for each in lines)


@pytest.mark.slow
async def test_calls_say_within_the_time_that_the_docs_tell_what_to_do(
    server: PostgresServer, replicas: Sequence[ServerProcess]
) -> None:
    async with connected(replicas[0]) as channel, connected(replicas[1]) as another:
        stub = run_service_pb2_grpc.RunServiceStub(channel)
        other = state_service_pb2_grpc.StateServiceStub(another)
        run = (await stub.StartRun(pb.StartRunRequest(workflow="chat"))).run.run_id
        passed_on = other.GetState(state_service_pb2.GetStateRequest(run_id=run))
        await passed_on  # so that the other replica knows which one has the run
        before = [len(each.log.splitlines()) for each in replicas]
        server.pause()
        began = time.monotonic()
        try:
            start = pb.StartRunRequest(workflow="chat", request_id="r")
            commit = stub.CancelRun(pb.CancelRunRequest(run_id=run), timeout=60)
            calls = [stub.GetRun(READ, timeout=60), stub.ListRuns(pb.ListRunsRequest(), timeout=60)]
            calls += [stub.StartRun(start, timeout=60), commit]
            calls.append(other.GetState(state_service_pb2.GetStateRequest(run_id=run), timeout=60))
            elsewhere = asyncio.create_task(read(replicas[1]))
            ends = await asyncio.gather(*calls, elsewhere, return_exceptions=True)
            assert 29.0 < time.monotonic() - began < 36.0
        finally:
            server.resume()
    for error in ends:
        assert isinstance(error, grpc.aio.AioRpcError)
        assert error.code() is grpc.StatusCode.UNAVAILABLE
        assert reason_of(error) == "STORE_UNAVAILABLE"
    details = [str(error.details()) for error in ends if isinstance(error, grpc.aio.AioRpcError)]
    assert (
        details[0]
        == details[1]
        == "The server cannot read its database; retry, with the same request_id if you gave one"
    )
    assert details[3] == "The server could not commit; the outcome is unknown, retry with the same request_id"
    await until(replicas, serving=True, seconds=10.0)
    for each, count in zip(replicas, before, strict=True):
        assert len(told(each, count)) <= 6, "\n".join(told(each, count))
