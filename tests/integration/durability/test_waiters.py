"""Waiters are durable: answers and deadlines reach a parked delivery, whichever process parked it."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest
from tests.integration.durability.flows import Answer, Flow, ask, sleep_an_hour, wait_an_hour
from tests.integration.durability.support import (
    advance,
    asked,
    crash,
    held,
    key_of,
    life,
    parked,
    parts_of,
    result,
    set_state,
    settle,
    status,
)
from tests.integration.rpc_serving import event

from stepwire.workflow import Context, DictState
from stepwire.workflow.broker.timing.clock import CLOCK


async def test_waiters_are_durable_a_parked_run_is_not_run_again_at_start_up(tmp_path: Path) -> None:
    flow = Flow(ask)
    async with life(tmp_path, flow) as rpc:
        run_id = (await rpc.start("flow", {})).run_id
        await asked(rpc, run_id)
        await crash(rpc)
    async with life(tmp_path, flow) as rpc:
        await settle(rpc)
        assert (flow.attempts, len(rpc.pool)) == (1, 0)
        run = await rpc.get(run_id)
        assert status(run) == "WAITING"
        (waiter,) = run.pending_waiters
        assert (waiter.waiter_id, waiter.event_type, waiter.prompt.type) == ("q", "Answer", "Prompt")
        await rpc.send(run_id, event("Answer", n=9))
        assert result(await rpc.ended(run_id)) == 9
        assert flow.attempts == 2


async def test_waiters_are_durable_an_answer_is_taken_before_the_step_has_run_again(tmp_path: Path) -> None:
    flow = Flow(ask)
    async with life(tmp_path, flow) as rpc:
        run_id = (await rpc.start("flow", {})).run_id
        await asked(rpc, run_id)
        await crash(rpc)
    async with life(tmp_path, flow) as rpc:
        await set_state(rpc, run_id, "loaded", True)
        with held(rpc.store) as hold:
            sending = asyncio.ensure_future(rpc.send(run_id, event("Answer", n=9)))
            await hold.arrived(1)
            parts = parts_of(hold.commits[0])
            assert parts["a/1/0"]["e"] is not None
            assert hold.commits[0].record.pending == {}
            assert flow.attempts == 1
            await hold.pass_one()
            assert (await sending).delivered == 1
            await crash(rpc)  # the answer is acknowledged, so the step gets it whatever happens
    async with life(tmp_path, flow) as rpc:
        assert result(await rpc.ended(run_id)) == 9


async def test_waiters_are_durable_one_answer_resolves_one_waiter_also_after_a_restart(tmp_path: Path) -> None:
    async def body(flow: Flow, ctx: Context[DictState]) -> list[int]:
        return [
            (await ctx.wait_for_event(Answer, waiter_id="same", timeout=None)).n,
            (await ctx.wait_for_event(Answer, waiter_id="same", timeout=None)).n,
        ]

    flow = Flow(body)
    async with life(tmp_path, flow) as rpc:
        run_id = (await rpc.start("flow", {})).run_id
        await parked(rpc, run_id)
        await rpc.send(run_id, event("Answer", n=1))
        await crash(rpc)
    async with life(tmp_path, flow) as rpc:
        await parked(rpc, run_id)
        await rpc.send(run_id, event("Answer", n=2))
        assert result(await rpc.ended(run_id)) == [1, 2]


async def test_waiters_are_durable_a_deadline_that_passes_while_nobody_serves(tmp_path: Path) -> None:
    flow = Flow(wait_an_hour)
    async with life(tmp_path, flow) as rpc:
        run_id = (await rpc.start("flow", {})).run_id
        await parked(rpc, run_id)
        record = await rpc.store.get(key_of(run_id))
        assert record is not None
        assert record.wake_at == pytest.approx(CLOCK.now() + 3600, abs=60)
        await crash(rpc)
    async with life(tmp_path, flow) as rpc:
        await settle(rpc)
        assert (status(await rpc.get(run_id)), len(rpc.pool)) == ("WAITING", 0)
        await crash(rpc)
    advance(3601)
    async with life(tmp_path, flow) as rpc:
        assert result(await rpc.ended(run_id)) == "timed out"
        assert flow.attempts == 2


async def test_waiters_are_durable_a_sleep_goes_on_over_restarts(tmp_path: Path) -> None:
    flow = Flow(sleep_an_hour)
    async with life(tmp_path, flow) as rpc:
        run_id = (await rpc.start("flow", {})).run_id
        await parked(rpc, run_id)
        await crash(rpc)
    for _ in range(2):
        advance(1500)
        async with life(tmp_path, flow) as rpc:
            await settle(rpc)
            assert (status(await rpc.get(run_id)), len(rpc.pool)) == ("WAITING", 0)
    advance(601)
    async with life(tmp_path, flow) as rpc:
        assert result(await rpc.ended(run_id)) == "slept"
    assert flow.attempts == 2


async def test_waiters_are_durable_a_sleep_ends_in_time_after_a_restart(tmp_path: Path) -> None:
    async def body(flow: Flow, ctx: Context[DictState]) -> float:
        began = await ctx.store.get("began", default=None)
        if began is None:
            began = CLOCK.now()
            await ctx.store.set("began", began)
        await ctx.sleep(1.0)
        return float(CLOCK.now() - began)

    flow = Flow(body)
    async with life(tmp_path, flow) as rpc:
        run_id = (await rpc.start("flow", {})).run_id
        await parked(rpc, run_id)
        await crash(rpc)
    async with life(tmp_path, flow) as rpc:
        assert result(await rpc.ended(run_id)) >= 1.0
    assert flow.attempts == 2


async def test_waiters_are_durable_a_drain_loses_none_and_repeats_no_work(tmp_path: Path) -> None:
    flow = Flow(ask)
    async with life(tmp_path, flow) as rpc:
        ids = [(await rpc.start("flow", {})).run_id for _ in range(10)]
        for run_id in ids:
            await asked(rpc, run_id)
    async with life(tmp_path, flow) as rpc:
        await settle(rpc)
        assert (flow.attempts, len(rpc.pool)) == (10, 0)
        for n, run_id in enumerate(ids):
            assert len((await rpc.get(run_id)).pending_waiters) == 1
            await rpc.send(run_id, event("Answer", n=n))
        assert [result(await rpc.ended(run_id)) for run_id in ids] == list(range(10))
        for run_id in ids:
            assert sum(entry.type == "Prompt" for entry in await rpc.log(run_id)) == 1
