"""A StartRun that waits for the end of its run waits on, whatever becomes of the run's place in memory."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable
from pathlib import Path
from typing import Any

import grpc
from google.protobuf.duration_pb2 import Duration
from tests.integration.durability.flows import Flow, ask
from tests.integration.durability.support import (
    asked,
    failing,
    held,
    key_of,
    life,
    publish,
    refused_reason,
    result,
    status,
    until,
)
from tests.integration.rpc_serving import Rpc, event, refused

from stepwire.server.store import StoreUnavailableError
from stepwire.v1 import types_pb2 as types

DOWN = StoreUnavailableError("the disk is gone")
LONG = Duration(seconds=60)


def begin(rpc: Rpc, wait: Duration = LONG) -> asyncio.Future[types.Run]:
    """Start the run "mine" and wait for its end."""
    call: Awaitable[Any] = rpc.start("flow", {}, run_id="mine", wait=wait)
    return asyncio.ensure_future(call)


async def there(rpc: Rpc) -> None:
    """Wait until the run asks."""
    await until(lambda: (run := rpc.pool.in_memory(key_of("mine"))) is not None and run.commits.created)
    await asked(rpc, "mine")


async def test_start_waits_on_when_its_run_is_dropped_by_a_failed_commit(tmp_path: Path) -> None:
    async with life(tmp_path, Flow(ask)) as rpc:
        started = begin(rpc)
        await there(rpc)
        with failing(rpc.store, DOWN, run_id="mine", times=1):
            assert await refused_reason(publish(rpc, "mine", "x")) == "STORE_UNAVAILABLE"
        assert not started.done()
        await rpc.send("mine", event("Answer", n=1))
        assert result(await started) == 1


async def test_start_waits_on_when_its_run_is_released(tmp_path: Path) -> None:
    async with life(tmp_path, Flow(ask), idle_after=0.2) as rpc:
        started = begin(rpc)
        await there(rpc)
        await until(lambda: len(rpc.pool) == 0)
        await rpc.send("mine", event("Answer", n=2))
        assert result(await started) == 2


async def test_start_that_is_not_created_is_refused_although_it_would_wait(tmp_path: Path) -> None:
    async with life(tmp_path, Flow(ask)) as rpc:
        with failing(rpc.store, DOWN, run_id="mine", times=1):
            refusal = await refused(begin(rpc))
        assert (refusal.code, refusal.reason) == (grpc.StatusCode.UNAVAILABLE, "STORE_UNAVAILABLE")


async def test_start_whose_wait_is_over_is_told_only_of_what_is_durable(tmp_path: Path) -> None:
    async with life(tmp_path, Flow(ask)) as rpc:
        with held(rpc.store) as hold:
            started = begin(rpc, Duration(nanos=1))
            await hold.arrived(1)
            await asyncio.sleep(0.05)
            assert not started.done()
            await hold.pass_all()
        assert status(await started) in ("RUNNING", "WAITING")


async def test_start_is_told_of_an_end_only_once_it_is_durable(tmp_path: Path) -> None:
    async with life(tmp_path, Flow(ask)) as rpc:
        started = begin(rpc)
        await there(rpc)
        with held(rpc.store) as hold:
            sent = asyncio.ensure_future(rpc.send("mine", event("Answer", n=3)))
            await hold.arrived(1)
            await hold.pass_one()
            await hold.arrived(2)
            await sent
            assert not started.done()
            await hold.pass_all()
        assert result(await started) == 3


async def test_start_that_waits_is_ended_by_a_stop(tmp_path: Path) -> None:
    async with life(tmp_path, Flow(ask), grace=0.1) as rpc:
        started = begin(rpc)
        await there(rpc)
        stopped = asyncio.ensure_future(rpc.server.stop())
        refusal = await refused(started)
        assert (refusal.code, refusal.reason) == (grpc.StatusCode.UNAVAILABLE, "DRAINING")
        await stopped
