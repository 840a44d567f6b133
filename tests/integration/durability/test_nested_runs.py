"""Runs that the step of a served run has started in process: waiting, time limits, release and restarts."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest
from google.protobuf.duration_pb2 import Duration
from tests.integration.durability.flows import Answer, Flow, Prompt
from tests.integration.durability.support import advance, asked, key_of, life, result, settle, status, until
from tests.integration.rpc_serving import Rpc, event

from stepwire.workflow import Context, DictState, Event, StartEvent, StopEvent, Workflow, step
from stepwire.workflow.broker.progress import is_idle


class Asks(Workflow):
    """Asks at once, in its first step."""

    begun = 0

    @step
    async def ask(self, ctx: Context, ev: StartEvent) -> StopEvent:
        type(self).begun += 1
        answer = await ctx.wait_for_event(Answer, waiter_event=Prompt(text="how many?"))
        return StopEvent(result=answer.n)


class Worked(Event):
    pass


class WorksFirst(Workflow):
    """Finishes a step before it asks."""

    worked = 0

    @step
    async def work(self, ev: StartEvent) -> Worked:
        type(self).worked += 1
        return Worked()

    @step
    async def ask(self, ctx: Context, ev: Worked) -> StopEvent:
        answer = await ctx.wait_for_event(Answer, waiter_event=Prompt(text="how many?"))
        return StopEvent(result=answer.n)


def outer_of(inner: Workflow) -> Flow:
    async def run_it(flow: Flow, ctx: Context[DictState]) -> object:
        return await inner.run()

    return Flow(run_it)


async def waiting(rpc: Rpc, **options: object) -> str:
    """Start a run, and wait until it shows that it waits."""
    run_id = (await rpc.start("flow", {}, **options)).run_id
    await asked(rpc, run_id)

    async def waits() -> bool:
        return status(await rpc.get(run_id)) == "WAITING"

    await until(waits)
    return run_id


@pytest.mark.parametrize("restart", [False, True])
async def test_the_outer_run_waits_and_its_time_limit_stands_still(tmp_path: Path, restart: bool) -> None:
    flow = outer_of(Asks())  # the nested run has a timeout of its own: 45 seconds
    async with life(tmp_path, flow) as rpc:
        run_id = await waiting(rpc, timeout=Duration(seconds=5))
        if not restart:
            advance(1000)
            await settle(rpc)
            await rpc.send(run_id, event("Answer", n=3))
            assert result(await rpc.ended(run_id)) == 3
            return
    async with life(tmp_path, flow) as rpc:
        advance(1000)
        await settle(rpc)
        assert status(await rpc.get(run_id)) == "WAITING"
        assert flow.attempts == 1
        await rpc.send(run_id, event("Answer", n=3))
        assert result(await rpc.ended(run_id)) == 3
        assert sum(entry.type == "Prompt" for entry in await rpc.log(run_id)) == 1


async def test_a_run_whose_nested_run_has_finished_nothing_leaves_memory(tmp_path: Path) -> None:
    Asks.begun = 0
    inner = Asks()
    flow = outer_of(inner)
    async with life(tmp_path, flow, idle_after=0.05) as rpc:
        run_id = await waiting(rpc)
        await until(lambda: len(rpc.pool) == 0)
        assert inner.is_done(), "the nested run left with it"
        await rpc.send(run_id, event("Answer", n=3))
        assert result(await rpc.ended(run_id)) == 3
    assert (Asks.begun, flow.attempts) == (2, 2)


async def test_a_run_whose_nested_run_would_repeat_finished_steps_stays_in_memory(tmp_path: Path) -> None:
    WorksFirst.worked = 0
    async with life(tmp_path, outer_of(WorksFirst())) as rpc:
        run_id = await waiting(rpc)
        run = rpc.pool.in_memory(key_of(run_id))
        assert run is not None
        await until(lambda: run.commits.clean)
        assert is_idle(run.broker)
        assert not run.release()
        await rpc.send(run_id, event("Answer", n=3))
        assert result(await rpc.ended(run_id)) == 3
    assert WorksFirst.worked == 1


async def test_nested_runs_at_once_are_one_wait(tmp_path: Path) -> None:
    async def run_both(flow: Flow, ctx: Context[DictState]) -> object:
        return sum(await asyncio.gather(Asks().run(), Asks().run()))

    async with life(tmp_path, Flow(run_both)) as rpc:
        run_id = await waiting(rpc, timeout=Duration(seconds=5))
        advance(1000)
        for _ in range(2):
            await rpc.send(run_id, event("Answer", n=3))
        assert result(await rpc.ended(run_id)) == 6
