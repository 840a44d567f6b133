"""Cancel: an acknowledged cancel is durable, also when others cancel too, and whatever the server does."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import pytest
from tests.integration.durability.flows import Flow, ask, stay
from tests.integration.durability.support import (
    asked,
    crash,
    held,
    life,
    publish,
    refused_reason,
    set_state,
    settle,
    status,
)
from tests.integration.rpc_serving import Rpc, event

from stepwire.v1 import run_service_pb2 as runs


async def cancel(rpc: Rpc, run_id: str) -> str:
    answer = await rpc.runs.CancelRun(runs.CancelRunRequest(run_id=run_id, reason="enough"), timeout=60)
    return status(answer.run)


async def test_cancel_twice_at_once_answers_both_only_when_it_is_durable(tmp_path: Path) -> None:
    async with life(tmp_path, Flow(ask)) as rpc:
        run_id = (await rpc.start("flow", {})).run_id
        await asked(rpc, run_id)
        with held(rpc.store) as hold:
            first = asyncio.ensure_future(cancel(rpc, run_id))
            await hold.arrived(1)
            second = asyncio.ensure_future(cancel(rpc, run_id))
            await settle(rpc)
            assert not first.done()
            assert not second.done()
            await hold.pass_all()
            assert [await first, await second] == ["CANCELLED", "CANCELLED"]
        await crash(rpc)
    async with life(tmp_path, Flow(ask)) as rpc:
        assert status(await rpc.get(run_id)) == "CANCELLED"


async def test_cancel_of_a_run_whose_end_is_not_durable_waits_for_it(tmp_path: Path) -> None:
    flow = Flow(stay)
    async with life(tmp_path, flow) as rpc:
        run_id = (await rpc.start("flow", {})).run_id
        await flow.gate.arrived(1)
        with held(rpc.store) as hold:
            flow.gate.opened.set()
            await hold.arrived(1)
            cancelling = asyncio.ensure_future(cancel(rpc, run_id))
            await settle(rpc)
            assert not cancelling.done()
            await hold.pass_all()
            assert await cancelling == "COMPLETED"


Call = Callable[[Rpc, str], Awaitable[Any]]


async def send(rpc: Rpc, run_id: str) -> Any:
    return await rpc.send(run_id, event("Answer", n=1))


async def set_key(rpc: Rpc, run_id: str) -> Any:
    return await set_state(rpc, run_id, "k", 1)


async def publish_note(rpc: Rpc, run_id: str) -> Any:
    return await publish(rpc, run_id, "x")


@pytest.mark.parametrize("call", [cancel, send, set_key, publish_note])
@pytest.mark.parametrize("where", ["in memory", "in the store"])
async def test_a_server_that_is_stopping_refuses_what_it_would_ignore(tmp_path: Path, call: Call, where: str) -> None:
    async with life(tmp_path, Flow(ask)) as rpc:
        run_id = (await rpc.start("flow", {})).run_id
        await asked(rpc, run_id)
        if where == "in the store":
            assert [run.release() for run in rpc.pool] == [True]
        await rpc.keeper.drain(0.0)
        assert await refused_reason(call(rpc, run_id)) == "DRAINING"
    async with life(tmp_path, Flow(ask)) as rpc:
        assert status(await rpc.get(run_id)) == "WAITING"
        assert await cancel(rpc, run_id) == "CANCELLED"
