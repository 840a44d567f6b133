"""A client of one address finds its server soon when that is back, however long it was away."""

from __future__ import annotations

import asyncio
import time
from pathlib import Path

import pytest
from tests.serving import ServerProcess

from stepwire.client import Client, Run

AWAY = 6.0
"""Seconds: so long that delays between attempts have grown to their limit."""
BACK = 2.5
"""Seconds from the server's first line until all go on; it was up to 5.

gRPC's attempts to connect and the client's are a second apart."""


async def follow(run: Run) -> None:
    async for _ in run.events():
        pass


async def converse(run: Run) -> None:
    async with run.converse() as talk:
        async for _ in talk:
            pass


@pytest.mark.slow
async def test_streams_and_waits_go_on_soon_after_a_server_is_back(tmp_path: Path) -> None:
    server = ServerProcess(tmp_path, ["tests.integration.cluster.flows:Ask=ask"], args=["--grace", "0s"]).start()
    try:
        async with Client(server.address) as client:
            run = await client.start_run("ask")
            await run.context.wait_for_event("Question")
            waits = [asyncio.create_task(work(run)) for work in (follow, converse, Run.result) for _ in range(4)]
            await asyncio.sleep(0.5)
            server.kill()
            await asyncio.sleep(AWAY)
            await asyncio.to_thread(server.start)
            began = time.monotonic()
            await run.context.send_event(("Answer", {"text": "yes"}))
            await asyncio.gather(*waits)
            assert time.monotonic() - began < BACK
    finally:
        server.kill()
