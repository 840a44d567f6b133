"""A replica hangs: its process stands still, and its kernel keeps connections open and takes new ones.

Clients that know other addresses leave it within seconds, whatever they are doing, and nothing happens twice.
"""

from __future__ import annotations

import asyncio
import signal
import time
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from tests.integration.cluster.conftest import Trio
from tests.integration.fake_replicas import replicas
from tests.serving import ServerProcess

from stepwire.client import Client, NotConnectedError, Run, SyncClient, SyncRun

CALL = 10.0
"""Seconds in which a call must be through: 3 to 5 of patience, and up to 4 in which the others take over the run.

Half of the client's timeout, 15 seconds, was over first before calls had such a patience."""
STREAM = 14.0
"""Seconds in which a stream must go on: 3 until a ping, 5 for its answer. Missing heartbeats would take 35."""


@contextmanager
def hung(replica: ServerProcess) -> Iterator[None]:
    """Have a replica stand still. Afterwards it is killed: the next test starts it again."""
    replica.signal(signal.SIGSTOP)
    try:
        yield
    finally:
        replica.signal(signal.SIGCONT)
        replica.kill()


async def timed(work: Awaitable[Any]) -> float:
    began = time.monotonic()
    await work
    return time.monotonic() - began


async def converse(run: Run) -> None:
    async with run.converse() as talk:
        async for _ in talk:
            pass


def converse_blocking(run: SyncRun) -> None:
    with run.converse() as talk:
        for _ in talk:
            pass


async def follow(run: Run) -> None:
    async for _ in run.events():
        pass


async def fresh(addresses: list[str], run_id: str) -> None:
    async with Client(addresses) as client:
        await client.get_run(run_id)


def fresh_blocking(addresses: list[str], run_id: str) -> None:
    with SyncClient(addresses) as client:
        client.get_run(run_id)


@pytest.fixture(params=["aio", "sync"])
def kind(request: pytest.FixtureRequest) -> str:
    return str(request.param)


async def test_a_client_leaves_a_replica_that_hangs(trio: Trio, kind: str) -> None:
    addresses = [each.address for each in trio.replicas]
    async with Client(trio.b.address) as elsewhere:
        run = await elsewhere.start_run("ask")
        await run.context.wait_for_event("Question")
        async with Client(addresses) as client:
            with SyncClient(addresses) as blocking:
                mine, blocked = client.run(run.run_id), blocking.run(run.run_id)

                def begin(call: Callable[[], Awaitable[Any]], same: Callable[[], Any]) -> asyncio.Task[float]:
                    return asyncio.create_task(timed(call() if kind == "aio" else asyncio.to_thread(same)))

                # The hints say that another replica has the run: what is open now is at the one that hangs soon.
                long = [
                    begin(lambda: mine.result(timeout=120), lambda: blocked.result(timeout=120)),
                    begin(lambda: follow(mine), lambda: list(blocked.events())),
                    begin(lambda: converse(mine), lambda: converse_blocking(blocked)),
                ]
                await asyncio.sleep(1.0)
                with hung(trio.a):
                    short = [
                        begin(
                            lambda: mine.context.send_event(("Note", {"n": 1})),
                            lambda: blocked.context.send_event(("Note", {"n": 1})),
                        ),
                        begin(lambda: mine.info(), lambda: blocked.info()),
                        begin(lambda: fresh(addresses, run.run_id), lambda: fresh_blocking(addresses, run.run_id)),
                    ]
                    assert max(await asyncio.gather(*short)) < CALL
                    began = time.monotonic()
                    await run.context.send_event(("Answer", {"text": "yes"}))
                    await asyncio.gather(*long)
                    assert time.monotonic() - began < STREAM
        events = [event.type async for event in run.events()]
        assert events.count("Pong") == 1
        assert await run.context.store.get("count") == 1


async def test_a_fresh_client_passes_by_a_dead_and_a_hung_address(trio: Trio, kind: str) -> None:
    """The refusals of the first ones are not the last word of a client that nobody has answered yet."""
    async with Client(trio.b.address) as elsewhere:
        run_id = (await elsewhere.start_run("ask")).run_id
    addresses = ["127.0.0.1:1", trio.a.address, trio.b.address]
    with hung(trio.a):
        call = fresh(addresses, run_id) if kind == "aio" else asyncio.to_thread(fresh_blocking, addresses, run_id)
        assert await timed(call) < CALL


async def test_an_unsafe_call_passes_by_a_dead_address(trio: Trio) -> None:
    async with Client(["127.0.0.1:1", trio.b.address]) as client:
        async with Client(trio.b.address) as elsewhere:
            run = await elsewhere.start_run("ask")
            await run.cancel()
        await client.run(run.run_id).delete()


async def test_nobody_answers_at_any_address() -> None:
    async with Client(["127.0.0.1:1", "127.0.0.1:2"], connect_timeout=0.0) as client:
        with pytest.raises(NotConnectedError):
            await client.get_run("r")


async def test_a_slow_replica_gets_one_call_more_and_no_stampede(monkeypatch: pytest.MonkeyPatch) -> None:
    """Replicas that are all slow get three calls for one, the last with all of the time that is left."""
    monkeypatch.setattr("stepwire.client._core.retry.PATIENCE", 0.2)
    monkeypatch.setattr("stepwire.client._core.retry.SHORTEST", 0.1)
    async with replicas(3) as found:
        for each in found:
            each.slow = 1.5
        async with Client([each.address for each in found], timeout=20.0) as client:
            await client.get_run("r")
        assert [len(each.calls) for each in found] == [1, 1, 1]


@pytest.mark.slow
async def test_a_replica_whose_event_loop_stands_still_keeps_its_streams(tmp_path: Path) -> None:
    """It answers pings without Python: a step that blocks sends no callers to the other replicas."""
    server = ServerProcess(tmp_path, ["tests.integration.cluster.flows:Blocking=blocking"]).start()
    try:
        async with replicas(1) as others, Client([server.address, others[0].address]) as client:
            run = await client.start_run("blocking", seconds=10.0)
            found = [event.type async for event in run.events()]
            assert found == ["StopEvent"]
            assert client._transport.replicas.pick() == 0
    finally:
        server.kill()
