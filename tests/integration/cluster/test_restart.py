"""Rolling restarts: replicas stop in order, one after the other, and no call fails."""

from __future__ import annotations

import asyncio
import itertools
import json
import signal
import time
import urllib.error
import urllib.request
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import aclosing
from datetime import timedelta
from uuid import uuid4

import grpc
import pytest
from tests.integration.cluster.conftest import Start, Trio, begin
from tests.integration.cluster.support import alive, first, until
from tests.serving import ServerProcess

from stepwire.client import Client, Every, ScheduleSpec
from stepwire.v1 import run_service_pb2 as pb
from stepwire.v1 import run_service_pb2_grpc, types_pb2

_RETRY = {
    "maxAttempts": 4,
    "initialBackoff": "0.02s",
    "maxBackoff": "0.5s",
    "backoffMultiplier": 2,
    "retryableStatusCodes": ["UNAVAILABLE", "CANCELLED"],  # the two that mean a lost connection: docs/clients.md
}
_CONFIG = {
    "loadBalancingConfig": [{"round_robin": {}}],
    # gRPC loses calls that reach a server in the moment in which it closes its connections: UNAVAILABLE if they find it
    # closed, CANCELLED if it had not handed them to the server yet.
    "methodConfig": [{"name": [{"service": "stepwire.v1.RunService"}], "retryPolicy": _RETRY}],
}
ROUND_ROBIN = (
    ("grpc.service_config", json.dumps(_CONFIG)),
    ("grpc.max_reconnect_backoff_ms", 200),
    ("grpc.initial_reconnect_backoff_ms", 50),
)


class Callers:
    """Clients that spread their calls over all replicas, and repeat under its request_id what a lost connection cut."""

    def __init__(self, addresses: Sequence[str], runs: Sequence[str], label: str) -> None:
        self.failures: list[str] = []
        self.calls = 0
        self.sent: dict[str, list[int]] = {run: [] for run in runs}
        self.started: list[str] = []
        self._target = "ipv4:" + ",".join(addresses)
        self._label = label
        self._stop = asyncio.Event()

    async def call(self, run: str) -> None:
        """Send notes to a run, and start others, until `stop`."""
        async with grpc.aio.insecure_channel(self._target, options=ROUND_ROBIN) as channel:
            stub = run_service_pb2_grpc.RunServiceStub(channel)
            for n in itertools.count():
                if self._stop.is_set():
                    return
                event = types_pb2.Event(type="Note", payload=types_pb2.Payload(json=b'{"n": %d}' % n))
                try:
                    send = pb.SendEventRequest(run_id=run, event=event, request_id=uuid4().hex)
                    await stub.SendEvent(send, timeout=60)
                    self.sent[run].append(n)
                    if n % 10 == 0:
                        begin = pb.StartRunRequest(workflow="ask", request_id=uuid4().hex, labels={"test": self._label})
                        answer = await stub.StartRun(begin, timeout=60)
                        self.started.append(answer.run.run_id)
                    self.calls += 1
                except grpc.aio.AioRpcError as error:
                    self.failures.append(f"{error.code().name}: {error.details()}")
                await asyncio.sleep(0.005)

    def stop(self) -> None:
        """Have the callers end."""
        self._stop.set()

    async def more(self, calls: int = 100) -> None:
        """Wait until so many more calls were answered."""
        wanted = self.calls + calls
        async with asyncio.timeout(60):
            while self.calls < wanted:  # noqa: ASYNC110 - several tasks count
                await asyncio.sleep(0.01)


@pytest.mark.parametrize("count", [1, pytest.param(3, marks=pytest.mark.slow)])
async def test_a_rolling_restart_fails_no_call(trio: Trio, count: int) -> None:
    async with Client(trio.a.address) as client:
        runs = [(await client.start_run("chat")).run_id for _ in range(4)]
    label = f"rolling-{count}"
    callers = Callers([each.address for each in trio.replicas], runs, label)
    tasks = [asyncio.create_task(callers.call(run)) for run in runs]
    await callers.more()
    for each in trio.replicas[:count]:
        assert await asyncio.to_thread(each.stop) == 0
        await callers.more()
        await asyncio.to_thread(each.start)
        await callers.more()
    callers.stop()
    await asyncio.gather(*tasks)
    assert callers.failures == []
    async with Client(trio.b.address) as client:
        for run, sent in callers.sent.items():
            assert [event.n for event in await first(client.run(run), len(sent))] == sent
        listed = {each.run_id async for each in client.list_runs(workflow="ask", labels={"test": label})}
        assert listed == set(callers.started)


async def test_a_stopped_replica_hands_its_runs_over_at_once(start: Start) -> None:
    (a, b), database = start(2, ["--grace", "200s"])
    async with Client(a.address) as one, Client(b.address) as other:
        waiting = await one.start_run("ask")
        await waiting.context.wait_for_event("Question")
        working = await one.start_run("chat")
        await working.context.send_event(("Work", {"seconds": 0.8}))
        a.signal(signal.SIGTERM)
        await until(lambda: database.owner_of(waiting.run_id) != a.address)
        # The draining replica passes calls on, and starts runs through the other one.
        await waiting.context.send_event(("Note", {"n": 1}))
        assert database.owner_of(waiting.run_id) == b.address
        assert database.owner_of((await one.start_run("ask")).run_id) == b.address
        await one.schedules.create("there", ScheduleSpec("ask", Every(timedelta(hours=1))))
        assert database.owner_of("there") == b.address
        # A step at work keeps its run until it returns: it runs once.
        (worked,) = await first(other.run(working.run_id), 1, "Worked")
        assert worked.pid == a.pid
        await until(lambda: database.owner_of(working.run_id) != a.address)
        a.signal(signal.SIGTERM)  # the grace is cut: nothing is left to wait for
        assert await asyncio.to_thread(a.wait) == 0
        assert database.sql("SELECT count(*) FROM replicas") == "1"
        await other.run(working.run_id).context.send_event(("Answer", {"text": "end"}))
        assert await other.run(working.run_id).result() == "end"


async def test_a_call_at_a_draining_replica_is_not_sent_back_to_it(start: Start) -> None:
    (a, b), database = start(2, ["--grace", "200s"])
    async with Client(a.address) as one, Client(b.address) as other:
        runs = [await one.start_run("ask") for _ in range(4)]
        for run in runs:
            await run.context.wait_for_event("Question")
            await other.run(run.run_id).context.send_event(("Note", {"n": 1}))  # b remembers who has the run
        async with aclosing(runs[1].events()) as events:  # a goes on as long as it is open
            await anext(events)
            a.signal(signal.SIGTERM)
            await until(lambda: all(database.owner_of(run.run_id) != a.address for run in runs))
            async with asyncio.timeout(5.0):  # it would be looked up again for 15
                await runs[0].context.send_event(("Note", {"n": 2}))
                await until(lambda: database.sql("SELECT count(*) FROM replicas") == "1")
                await runs[1].context.send_event(("Note", {"n": 2}))
                async with runs[2].converse() as talk:
                    await talk.send(("Note", {"n": 2}))
            async with asyncio.timeout(3.0):  # a hears of no claims any more
                while (event := await anext(events)).type != "Pong" or event.n != 2:
                    pass
    assert {database.owner_of(run.run_id) for run in runs[:3]} == {b.address}


async def test_a_replica_that_nobody_calls_does_not_wait_for_its_grace(start: Start) -> None:
    (a, b), database = start(2, ["--grace", "100s"])
    async with Client(b.address) as client:
        run = await client.start_run("ask")
        await run.context.wait_for_event("Question")
    began = time.monotonic()
    assert await asyncio.to_thread(a.stop) == 0
    assert time.monotonic() - began < 20.0
    await asyncio.to_thread(a.start)  # its port is free
    alive(database, 2)
    assert database.owner_of(run.run_id) == b.address


async def test_a_replica_that_stops_goes_on_while_it_is_called_or_probed(start: Start) -> None:
    (a, _), database = start(2, ["--grace", "100s", "--admin-address", "127.0.0.1:0"])
    admin = a.hear(r"admin port on (\S+)")
    ready = f"http://{admin}/readyz"

    def probe() -> int:
        try:
            return int(urllib.request.urlopen(ready, timeout=60).status)
        except urllib.error.HTTPError as refused:
            return refused.code

    assert await asyncio.to_thread(probe) == 200
    async with Client(a.address) as client:
        run = await client.start_run("chat")
        async with aclosing(run.events()) as events:
            reading = asyncio.ensure_future(anext(events))
            a.signal(signal.SIGTERM)
            await until(lambda: database.sql("SELECT count(*) FROM replicas") == "1")
            await asyncio.sleep(1.5)  # a second without a call: the stream is open
            assert a.running
            await client.run(run.run_id).context.send_event(("Note", {"n": 1}))
            await reading
    for _ in range(2):
        assert await asyncio.to_thread(probe) == 503
    await asyncio.sleep(1.5)  # nobody calls, but a load balancer may not have heard yet
    assert a.running
    assert await asyncio.to_thread(probe) == 503
    assert await asyncio.to_thread(a.wait) == 0


async def test_a_step_that_outlives_the_grace_runs_again_elsewhere(trio: Trio) -> None:
    async with Client(trio.a.address) as one, Client(trio.b.address) as other:
        run = await one.start_run("slow", seconds=600)
        there = other.run(run.run_id)
        async with asyncio.timeout(60):
            while not await there.context.store.get("worked", []):  # noqa: ASYNC110 - elsewhere
                await asyncio.sleep(0.02)
        stopped = trio.a.pid
        assert await asyncio.to_thread(trio.a.stop) == 0
        result = await there.result(timeout=60)
        assert result[0] == stopped
        assert result[1] in (trio.b.pid, trio.c.pid)


@pytest.mark.slow
async def test_all_replicas_stop_and_start_again(trio: Trio) -> None:
    async with Client(trio.a.address) as client:
        run = await client.start_run("ask")
        await run.context.wait_for_event("Question")
    with ThreadPoolExecutor(3) as threads:
        assert list(threads.map(ServerProcess.stop, trio.replicas)) == [0, 0, 0]
    assert trio.database.sql("SELECT count(*) FROM replicas") == "0"
    await asyncio.to_thread(begin, trio.replicas, trio.database)
    async with Client(trio.b.address) as client:
        await client.run(run.run_id).context.send_event(("Answer", {"text": "late"}))
        assert await client.run(run.run_id).result() == "late"
