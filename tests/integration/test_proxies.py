"""Both clients behind a proxy that ends streams: nothing is lost, nothing comes twice, and no one waits for ever."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any

import pytest
from tests.integration.h2_proxy import H2Proxy
from tests.integration.proxied import proxied
from tests.integration.rpc_serving import Rpc
from tests.integration.rpc_serving import event as event_of

from stepwire.client import Client, SyncClient, SyncRun

CUTS = [
    "rst:2",
    "rst:7",
    "rst:8",
    "rst:11",
    "status:2",
    "status:4",
    "status:13",
    "status:14",
    "eof",
    "tcp",
    "silent",
]
NOTE = event_of("Note", n=1)
SEEN = ["Question", "Pong", "StopEvent"]


async def follow(client: Client, run_id: str, seen: Callable[[str], None]) -> None:
    async for event in client.run(run_id).events():
        seen(event.type)


async def converse(client: Client, run_id: str, seen: Callable[[str], None]) -> None:
    async with client.run(run_id).converse() as conversation:
        async for event in conversation:
            seen(event.type)


def follow_in_thread(run: SyncRun, seen: Callable[[str], None]) -> None:
    for event in run.events():
        seen(event.type)


def converse_in_thread(run: SyncRun, seen: Callable[[str], None]) -> None:
    with run.converse() as conversation:
        for event in conversation:
            seen(event.type)


async def check(rpc: Rpc, proxy: H2Proxy, method: str, kind: str, run_id: str, reading: Any, seen: Any) -> None:
    """Cut a stream after its first event, let the run end, and see that the reader got everything once."""
    assert await seen.get() == "Question"
    await proxy.passed(method, 4)  # a heartbeat among them: the client knows when the next one is due
    assert proxy.cut(method, kind) == 1
    await rpc.send(run_id, NOTE)
    await rpc.answer(run_id)
    await reading
    assert [seen.get_nowait() for _ in range(seen.qsize())] == SEEN[1:]
    assert proxy.calls.count(method) == 2


@pytest.mark.parametrize("kind", CUTS)
@pytest.mark.parametrize(("method", "read"), [("StreamEvents", follow), ("Converse", converse)])
async def test_a_stream_that_a_proxy_ends_goes_on(method: str, read: Any, kind: str) -> None:
    async with proxied() as (rpc, proxy), Client(proxy.address) as client:
        run_id = (await rpc.asking()).run_id
        seen: asyncio.Queue[str] = asyncio.Queue()
        reading = asyncio.create_task(read(client, run_id, seen.put_nowait))
        await check(rpc, proxy, method, kind, run_id, reading, seen)


@pytest.mark.parametrize("kind", ["rst:11", "status:2", "eof", "silent"])
@pytest.mark.parametrize(("method", "read"), [("StreamEvents", follow_in_thread), ("Converse", converse_in_thread)])
async def test_a_blocking_stream_that_a_proxy_ends_goes_on(method: str, read: Any, kind: str) -> None:
    async with proxied() as (rpc, proxy):
        with SyncClient(proxy.address) as client:
            run_id = (await rpc.asking()).run_id
            seen: asyncio.Queue[str] = asyncio.Queue()
            loop = asyncio.get_running_loop()

            def take(name: str) -> None:
                loop.call_soon_threadsafe(seen.put_nowait, name)

            reading = asyncio.create_task(asyncio.to_thread(read, client.run(run_id), take))
            await check(rpc, proxy, method, kind, run_id, reading, seen)
