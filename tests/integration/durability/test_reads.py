"""Reads: GetState tells what is durable of the live state; GetSnapshot gives the last committed."""

from __future__ import annotations

import asyncio
from pathlib import Path

from tests.integration.durability.flows import Flow, ask, stay
from tests.integration.durability.support import asked, held, life, publish, set_state, settle, snapshot_of, state_of
from tests.integration.rpc_serving import Rpc

from stepwire.v1 import run_service_pb2 as runs
from stepwire.workflow import Context, DictState


async def test_reads_of_the_state_answer_once_its_commit_is_done(tmp_path: Path) -> None:
    async with life(tmp_path, Flow(ask)) as rpc:
        run_id = (await rpc.start("flow", {})).run_id
        await asked(rpc, run_id)
        with held(rpc.store) as hold:
            setting = asyncio.ensure_future(set_state(rpc, run_id, "k", "new"))
            await hold.arrived(1)
            reading = asyncio.ensure_future(state_of(rpc, run_id, "k"))
            await settle(rpc)
            assert not reading.done()
            await hold.pass_all()
            assert await reading == "new"
            await setting


async def test_reads_of_the_state_see_what_a_step_has_set_so_far(tmp_path: Path) -> None:
    async def body(flow: Flow, ctx: Context[DictState]) -> None:
        await ctx.store.set("k", 1)
        await stay(flow, ctx)

    flow = Flow(body)
    async with life(tmp_path, flow) as rpc:
        run_id = (await rpc.start("flow", {})).run_id
        await flow.gate.arrived(1)
        assert await state_of(rpc, run_id, "k") == 1
        flow.gate.opened.set()


async def test_reads_of_a_snapshot_give_the_last_committed(tmp_path: Path) -> None:
    async with life(tmp_path, Flow(ask)) as rpc:
        run_id = (await rpc.start("flow", {})).run_id
        before = (await asked(rpc, run_id)).last_sequence
        with held(rpc.store) as hold:
            setting = asyncio.ensure_future(set_state(rpc, run_id, "k", "new"))
            publishing = asyncio.ensure_future(publish(rpc, run_id, "x"))
            await hold.arrived(1)
            snapshot = await snapshot_of(rpc, run_id)
            assert (snapshot.sequence, dict(snapshot.state_json)) == (before, {})
            while not (setting.done() and publishing.done()):
                await hold.pass_all()
                await asyncio.sleep(0)
        snapshot = await snapshot_of(rpc, run_id)
        assert (snapshot.sequence, dict(snapshot.state_json)) == (before + 1, {"k": b'"new"'})


async def test_reads_go_on_while_nothing_can_be_committed(tmp_path: Path) -> None:
    async with life(tmp_path, Flow(ask)) as rpc:
        run_id = (await rpc.start("flow", {})).run_id
        before = (await asked(rpc, run_id)).last_sequence
        with held(rpc.store) as hold:
            starting = asyncio.ensure_future(rpc.start("flow", {}))
            await hold.arrived(1)
            assert await state_of(rpc, run_id) == {}
            assert len(await rpc.log(run_id)) == before
            assert await _ids(rpc) == [run_id]
        await starting


async def _ids(rpc: Rpc) -> list[str]:
    return [run.run_id for run in (await rpc.runs.ListRuns(runs.ListRunsRequest())).runs]
