"""Release: a run that only waits leaves memory, in one transition, and comes back when something needs it."""

from __future__ import annotations

import asyncio
import gc
import weakref
from pathlib import Path
from typing import Any

from tests.integration.durability.flows import Flow, ask, stay
from tests.integration.durability.support import (
    advance,
    asked,
    held,
    key_of,
    life,
    parked,
    publish,
    result,
    set_state,
    settle,
    snapshot_of,
    state_of,
    status,
    until,
)
from tests.integration.rpc_serving import Rpc, event, registry_of

from stepwire.workflow import (
    Context,
    DictState,
    HumanResponseEvent,
    InputRequiredEvent,
    StartEvent,
    StopEvent,
    Workflow,
    step,
)
from stepwire.workflow.broker.timing.timers import Alarm

IDLE = 0.05


async def released(rpc: Rpc) -> None:
    """Wait until no run is in memory."""
    await until(lambda: len(rpc.pool) == 0)


async def start(rpc: Rpc) -> str:
    """Start a run that asks, and wait until it has left memory."""
    run_id = (await rpc.start("flow", {})).run_id
    await asked(rpc, run_id)
    await released(rpc)
    return run_id


async def test_release_and_back_on_an_answer(tmp_path: Path) -> None:
    flow = Flow(ask)
    async with life(tmp_path, flow, idle_after=IDLE) as rpc:
        run_id = await start(rpc)
        assert status(await rpc.get(run_id)) == "WAITING"
        assert len(rpc.pool) == 0  # looking at it does not load it
        await rpc.send(run_id, event("Answer", n=3))
        assert result(await rpc.ended(run_id)) == 3
        assert flow.attempts == 2
        assert sum(entry.type == "Prompt" for entry in await rpc.log(run_id)) == 1


async def test_release_and_back_on_an_event_that_a_step_takes(tmp_path: Path) -> None:
    class Steps(Workflow):
        @step
        async def first(self, ctx: Context[DictState], ev: StartEvent) -> InputRequiredEvent:
            await ctx.store.set("seen", 1)
            return InputRequiredEvent()

        @step
        async def second(self, ctx: Context[DictState], ev: HumanResponseEvent) -> StopEvent:
            return StopEvent(result=await ctx.store.get("seen"))

    async with life(tmp_path, registry_of(flow=Steps), idle_after=IDLE) as rpc:
        run_id = (await rpc.start("flow", {})).run_id
        await parked(rpc, run_id)
        await released(rpc)
        await rpc.send(run_id, event("HumanResponseEvent"))
        assert result(await rpc.ended(run_id)) == 1


async def test_release_and_back_on_a_state_call(tmp_path: Path) -> None:
    async with life(tmp_path, Flow(ask), idle_after=IDLE) as rpc:
        run_id = await start(rpc)
        etag = await set_state(rpc, run_id, "k", [1])
        await released(rpc)
        assert await state_of(rpc, run_id, "k") == [1]
        await released(rpc)
        # The etag is the state's, not the memory's.
        assert await set_state(rpc, run_id, "k", [2]) != etag
        await publish(rpc, run_id, "still here")
        await released(rpc)
        await rpc.send(run_id, event("Answer", n=1))
        await rpc.ended(run_id)


async def test_release_and_back_on_a_deadline(tmp_path: Path) -> None:
    async def body(flow: Flow, ctx: Context[DictState]) -> str:
        await ctx.sleep(0.8)
        return "slept"

    flow = Flow(body)
    async with life(tmp_path, flow, idle_after=IDLE) as rpc:
        run_id = (await rpc.start("flow", {})).run_id
        await parked(rpc, run_id)
        await released(rpc)
        assert result(await rpc.ended(run_id)) == "slept"
        assert flow.attempts == 2


async def test_release_and_back_of_more_runs_than_are_looked_up_at_once(tmp_path: Path, monkeypatch: Any) -> None:
    monkeypatch.setattr("stepwire.server.runs.hosting.keeper._DUE_AT_ONCE", 3)

    async def body(flow: Flow, ctx: Context[DictState]) -> str:
        await ctx.sleep(3600)
        return "slept"

    async with life(tmp_path, Flow(body), idle_after=IDLE) as rpc:
        ids = [(await rpc.start("flow", {})).run_id for _ in range(10)]
        for run_id in ids:
            await parked(rpc, run_id)
        await released(rpc)
        advance(3601)
        rpc.pool._around.alarm = Alarm(asyncio.get_running_loop())  # the one of before waits for the real time to pass
        rpc.pool.wakes.look_now()
        for run_id in ids:
            assert result(await rpc.ended(run_id)) == "slept"


async def test_release_only_of_runs_that_only_wait(tmp_path: Path) -> None:
    flow = Flow(stay)
    async with life(tmp_path, flow, idle_after=IDLE) as rpc:
        run_id = (await rpc.start("flow", {})).run_id
        await flow.gate.arrived(1)
        run = rpc.pool._live[key_of(run_id)]
        assert run.release() is False
        flow.gate.opened.set()
        assert result(await rpc.ended(run_id)) == "stayed"
        assert flow.attempts == 1


async def test_release_never_with_a_commit_in_flight(tmp_path: Path) -> None:
    async with life(tmp_path, Flow(ask)) as rpc:
        run_id = (await rpc.start("flow", {})).run_id
        await asked(rpc, run_id)
        run = rpc.pool._live[key_of(run_id)]
        with held(rpc.store) as hold:
            publishing = asyncio.ensure_future(publish(rpc, run_id, "x"))
            await hold.arrived(1)
            assert run.release() is False
            await hold.pass_all()
            await publishing
        assert run.release() is True
        assert len(rpc.pool) == 0
        await rpc.send(run_id, event("Answer", n=1))
        assert result(await rpc.ended(run_id)) == 1


async def test_release_frees_the_run_at_once(tmp_path: Path) -> None:
    async with life(tmp_path, Flow(ask)) as rpc:
        run_id = (await rpc.start("flow", {})).run_id
        await asked(rpc, run_id)
        gc.collect()
        gc.disable()  # it must need no collection: of old objects there are few
        try:
            freed = weakref.ref(rpc.pool._live[key_of(run_id)]._hosted.context)  # which the run and its runner hold
            await until(lambda: all(pool_run.release() for pool_run in list(rpc.pool)))
            await until(lambda: freed() is None)
        finally:
            gc.enable()
        await rpc.send(run_id, event("Answer", n=1))
        assert result(await rpc.ended(run_id)) == 1


async def test_release_loads_are_single_flight(tmp_path: Path, monkeypatch: Any) -> None:
    async with life(tmp_path, Flow(ask), idle_after=IDLE) as rpc:
        run_id = await start(rpc)
        loads = 0
        claim = rpc.store.claim

        async def count(*args: Any, **options: Any) -> Any:
            nonlocal loads
            loads += 1
            return await claim(*args, **options)

        monkeypatch.setattr(rpc.store, "claim", count)
        await asyncio.gather(
            *(state_of(rpc, run_id) for _ in range(20)),
            *(publish(rpc, run_id, str(n)) for n in range(20)),
        )
        assert loads == 1
        assert sum(entry.type == "Note" for entry in await rpc.log(run_id)) == 20


async def test_release_streams_go_on_over_it(tmp_path: Path) -> None:
    async with life(tmp_path, Flow(ask), idle_after=IDLE) as rpc:
        run_id = (await rpc.start("flow", {})).run_id
        before = (await asked(rpc, run_id)).last_sequence
        stream = rpc.stream(run_id, before)
        await released(rpc)
        await publish(rpc, run_id, "x")
        assert (await stream.read()).events.to_sequence == before + 1
        await released(rpc)
        await rpc.send(run_id, event("Answer", n=1))
        while (await stream.read()).WhichOneof("frame") != "finished":
            continue


async def test_release_under_a_storm_of_calls_loses_nothing(tmp_path: Path) -> None:
    async with life(tmp_path, Flow(ask), idle_after=0.0) as rpc:
        run_id = (await rpc.start("flow", {})).run_id
        await asked(rpc, run_id)

        async def client(number: int) -> None:
            for n in range(10):
                await set_state(rpc, run_id, f"k{number}", n)
                await publish(rpc, run_id, f"{number}.{n}")
                live = rpc.pool._live.get(key_of(run_id))
                if live is not None:
                    live.release()

        await asyncio.gather(*(client(number) for number in range(6)))
        assert await state_of(rpc, run_id) == {f"k{number}": 9 for number in range(6)}
        log = await rpc.log(run_id)
        assert [entry.sequence for entry in log] == list(range(1, len(log) + 1))
        assert sum(entry.type == "Note" for entry in log) == 60
        assert (await snapshot_of(rpc, run_id)).sequence == len(log)
        await settle(rpc)
        await rpc.send(run_id, event("Answer", n=1))
        assert result(await rpc.ended(run_id)) == 1
