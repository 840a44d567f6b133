"""Both clients behind a proxy that ends unary calls, or allows few streams on a connection."""

from __future__ import annotations

import asyncio
from contextlib import AsyncExitStack

import pytest
from tests.integration.proxied import proxied

from stepwire.client import Client, SyncClient

UNARY_CUTS = ["rst:2", "rst:7", "rst:11", "status:2", "status:4", "status:13", "http:502", "http:504", "eof", "tcp"]


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
