"""Both clients behind a proxy that ends calls: nothing is lost, nothing comes twice, and no one waits for ever."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import AsyncExitStack, asynccontextmanager
from typing import Any

import pytest
from tests.integration.h2_proxy import H2Proxy
from tests.integration.rpc_serving import Rpc, serving
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
UNARY_CUTS = ["rst:2", "rst:7", "rst:11", "status:2", "status:4", "status:13", "http:502", "http:504", "eof", "tcp"]

NOTE = event_of("Note", n=1)
SEEN = ["Question", "Pong", "StopEvent"]


@asynccontextmanager
async def proxied(**options: Any) -> AsyncIterator[tuple[Rpc, H2Proxy]]:
    # A heartbeat that is soon missed.
    async with serving(heartbeat=0.05) as rpc, H2Proxy(rpc.server.address, **options) as proxy:
        yield rpc, proxy


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


@pytest.mark.parametrize("kind", UNARY_CUTS)
async def test_calls_that_a_proxy_ends_are_repeated(kind: str) -> None:
    async with proxied() as (rpc, proxy), Client(proxy.address) as client:
        proxy.cut_next("StartRun", kind)
        run = await client.start_run("ask", item="tea")
        assert [info.run_id async for info in client.list_runs()] == [run.run_id]
        proxy.cut_next("WaitForEvent", kind)
        assert (await run.context.wait_for_event("Question")).text == "Ship tea?"
        proxy.cut_next("WaitRun", kind)
        result = asyncio.create_task(run.result())
        await rpc.answer(run.run_id)
        assert (await result)["yes"] is True
        proxy.cut_next("GetState", kind)
        assert await run.context.store.get("item") == "tea"
        for method in ("StartRun", "WaitForEvent", "WaitRun", "GetState"):
            assert proxy.calls.count(method) == 2


@pytest.mark.parametrize("kind", ["rst:11", "status:2", "http:504"])
async def test_blocking_calls_that_a_proxy_ends_are_repeated(kind: str) -> None:
    async with proxied() as (rpc, proxy):
        with SyncClient(proxy.address) as client:
            run_id = (await rpc.asking()).run_id
            await rpc.answer(run_id)
            proxy.cut_next("WaitRun", kind)
            assert (await asyncio.to_thread(client.run(run_id).result))["yes"] is True
            assert proxy.calls.count("WaitRun") == 2


async def test_a_stream_that_is_not_followed_is_whole_though_its_end_is_missing() -> None:
    async with proxied() as (rpc, proxy), Client(proxy.address) as client:
        run_id = (await rpc.asking()).run_id
        proxy.cut_next("StreamEvents", "eof")
        assert [event.type async for event in client.run(run_id).events(follow=False)] == ["Question"]
        assert proxy.calls.count("StreamEvents") == 2


async def test_more_streams_than_a_connection_allows() -> None:
    async with proxied(max_streams=5) as (rpc, proxy), AsyncExitStack() as stack:
        client = await stack.enter_async_context(Client(proxy.address))
        run_id = (await rpc.asking()).run_id
        talks = [await stack.enter_async_context(client.run(run_id).converse()) for _ in range(23)]
        assert (await client.get_run(run_id)).run_id == run_id
        assert proxy.connections == 5
        await rpc.answer(run_id)
        for talk in talks:
            assert [event.type async for event in talk] == ["Question", "StopEvent"]


async def test_more_blocking_streams_than_a_connection_allows() -> None:
    async with proxied(max_streams=5) as (rpc, proxy):
        with SyncClient(proxy.address) as client:
            run_id = (await rpc.asking()).run_id
            opened = [client.run(run_id).converse() for _ in range(12)]
            for talk in opened:
                await asyncio.to_thread(talk.__enter__)
            assert (await asyncio.to_thread(client.get_run, run_id)).run_id == run_id
            assert proxy.connections == 3
            for talk in opened:
                await asyncio.to_thread(talk.__exit__, None, None, None)
