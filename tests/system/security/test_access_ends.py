"""Credentials that expire or are withdrawn end what goes on with them."""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import grpc
import pytest
from tests.system.security.support import (
    METHODS,
    call,
    channel_to,
    frames,
    requests_for,
    serving,
    start_run,
)
from tests.system.security.worlds import World, made
from tests.unit.server.tokens import EC, ED, JWKS, RSA, token

from stepwire.v1 import run_service_pb2 as runs

Code = grpc.StatusCode


@pytest.fixture
async def own_world(tmp_path: Path) -> AsyncIterator[World]:
    async with made(tmp_path) as found:
        await found.new_run()
        yield found


async def short_key(world: World) -> tuple[Any, float]:
    """Return a key that is known and expires soon, and when; on a slow machine one that lives longer."""
    for life in (1.5, 6.0, 24.0, 96.0):
        ends = time.time() + life
        moment = time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(ends)) + f".{int(ends % 1 * 1000):03}Z"
        short = world.keys.add(f"short{life}", ["admin"], "shop", moment)
        while time.time() < ends:
            if (await world.call("GetRun", short)).code is not Code.UNAUTHENTICATED:
                return short, ends
    raise AssertionError("no key was known before it expired")


async def test_an_expired_or_withdrawn_key_ends_its_streams(own_world: World):
    world = own_world
    short, ends = await short_key(world)

    async def follow(name: str, metadata: Any) -> tuple[float, Any]:
        attach = requests_for(world.run_id)["Converse"][0]
        stream = runs.StreamEventsRequest(run_id=world.run_id)
        wait = runs.WaitRunRequest(run_id=world.run_id)
        start = runs.StartRunRequest(workflow="asking")
        start.wait.seconds = 100
        request: Any = {"Converse": [attach], "StreamEvents": stream, "WaitRun": wait, "StartRun": start}[name]
        method = METHODS[name]
        if not method.many_requests:
            answer = await call(world.channel, method, frames(request), metadata, timeout=100, most=1000)
        else:
            # The client does not half-close.
            stream_call = world.channel.stream_stream(method.name)(metadata=metadata, timeout=100)
            await stream_call.write(frames(request)[0])
            try:
                while await stream_call.read() is not grpc.aio.EOF:
                    pass
                answer = None
            except grpc.aio.AioRpcError as error:
                answer = error
            assert await stream_call.code() is Code.UNAUTHENTICATED
            return time.time(), answer
        assert answer.code is Code.UNAUTHENTICATED, answer
        return time.time(), answer

    long = ("Converse", "StreamEvents", "WaitRun", "StartRun")
    kept = asyncio.create_task(follow("StreamEvents", world.admin))
    for ended, _ in await asyncio.gather(*(follow(name, short) for name in long)):
        assert ended - ends >= -0.05
    assert not kept.done()
    world.keys.drop_all()
    await kept


async def test_an_expired_token_or_a_withdrawn_signer_ends_streams(tmp_path: Path):
    file = tmp_path / "jwks.json"
    file.write_text(json.dumps(JWKS))
    good = [("authorization", f"Bearer {token(EC, scope='admin')}")]
    withdrawn = [("authorization", f"Bearer {token(ED, 'EdDSA', 'd', scope='admin')}")]
    settings = {"jwks": file, "jwt_issuer": "us", "jwt_audience": "stepwire", "jwt_leeway": 0}
    async with serving(**settings) as server, channel_to(server) as channel:
        run_id = await start_run(channel, metadata=good)
        ends = float(int(time.time()) + 2)  # whole seconds are what tokens have
        short = [("authorization", f"Bearer {token(RSA, 'RS256', 'r', scope='read', exp=ends)}")]
        request = runs.StreamEventsRequest(run_id=run_id).SerializeToString()
        wait = runs.WaitRunRequest(run_id=run_id).SerializeToString()

        async def follow(name: str, data: bytes, metadata: Any) -> float:
            answer = await call(channel, METHODS[name], [data], metadata, timeout=100, most=1000)
            assert answer.code is Code.UNAUTHENTICATED, answer
            return time.time()

        kept = asyncio.create_task(follow("StreamEvents", request, good))
        last = asyncio.create_task(follow("StreamEvents", request, withdrawn))
        for ended in await asyncio.gather(follow("StreamEvents", request, short), follow("WaitRun", wait, short)):
            assert ended - ends >= -0.05
        assert not last.done()
        beside = file.with_suffix(".new")
        beside.write_text(json.dumps({"keys": [key for key in JWKS["keys"] if key["kid"] != "d"]}))
        beside.replace(file)
        await last
        assert not kept.done()
        kept.cancel()
        await asyncio.wait([kept])
