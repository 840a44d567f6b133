"""The membrane: a delivery is in progress, durably, before its body runs; bodies run at least once, by a stable key."""

from __future__ import annotations

import asyncio
import threading
from pathlib import Path

from tests.integration.durability.flows import Flow
from tests.integration.durability.support import crash, held, life, parts_of, result, settle
from tests.integration.rpc_serving import registry_of

from stepwire.workflow import Context, DictState, StartEvent, StopEvent, Workflow, step


async def test_membrane_a_body_starts_after_the_commit_of_its_delivery(tmp_path: Path) -> None:
    async def body(flow: Flow, ctx: Context[DictState]) -> None:
        return None

    flow = Flow(body)
    async with life(tmp_path, flow) as rpc:
        with held(rpc.store) as hold:
            starting = asyncio.ensure_future(rpc.start("flow", {}))
            await hold.arrived(1)
            await settle(rpc)
            assert flow.attempts == 0
            delivery = parts_of(hold.commits[0])["d/1"]
            assert (delivery["s"], delivery["st"], delivery["a"]) == ("work", "running", 1)
            await hold.pass_one()
            run_id = (await starting).run_id
            await hold.arrived(2)
            assert flow.attempts == 1
            await hold.pass_all()
        await rpc.ended(run_id)


async def test_membrane_a_delivery_in_progress_runs_again_with_its_key_and_the_next_attempt(tmp_path: Path) -> None:
    seen: list[tuple[str, int]] = []

    async def body(flow: Flow, ctx: Context[DictState]) -> int:
        info = ctx.step_info()
        seen.append((info.key, info.attempt))
        await flow.gate.pass_through("body")
        return info.attempt

    flow = Flow(body)
    async with life(tmp_path, flow) as rpc:
        run_id = (await rpc.start("flow", {})).run_id
        await flow.gate.arrived(1)
        await crash(rpc)
    async with life(tmp_path, flow) as rpc:
        await flow.gate.arrived(2)
        flow.gate.opened.set()
        assert result(await rpc.ended(run_id)) == 2
    (first, one), (second, two) = seen
    assert first == second == f"{run_id}/1"
    assert (one, two) == (1, 2)


class Sync(Workflow):
    """A sync step that blocks in its first attempt."""

    def __init__(self) -> None:
        super().__init__(timeout=None)
        self.at_work = threading.Event()
        self.go_on = threading.Event()
        self.seen: list[tuple[str, int]] = []

    @step
    def work(self, ctx: Context[DictState], ev: StartEvent) -> StopEvent:
        info = ctx.step_info()
        self.seen.append((info.key, info.attempt))
        if info.attempt == 1:
            self.at_work.set()
            self.go_on.wait(60)
        return StopEvent(result=info.attempt)


async def test_membrane_a_sync_step_runs_again_too(tmp_path: Path) -> None:
    flow = Sync()
    try:
        async with life(tmp_path, registry_of(flow=flow)) as rpc:
            run_id = (await rpc.start("flow", {})).run_id
            await asyncio.to_thread(flow.at_work.wait, 60)
            await crash(rpc)
        async with life(tmp_path, registry_of(flow=flow)) as rpc:
            assert result(await rpc.ended(run_id)) == 2
    finally:
        flow.go_on.set()
    assert flow.seen == [(f"{run_id}/1", 1), (f"{run_id}/1", 2)]


async def test_membrane_what_was_queued_at_a_crash_runs_once(tmp_path: Path) -> None:
    worked: list[int] = []

    class Queue(Workflow):
        @step
        async def work(self, ctx: Context[DictState], ev: StartEvent) -> StopEvent:
            worked.append(ctx.step_info().attempt)
            return StopEvent(result=None)

    flow = Queue()
    async with life(tmp_path, registry_of(flow=flow)) as rpc:
        with held(rpc.store) as hold:
            starting = asyncio.ensure_future(rpc.start("flow", {}, run_id="r"))
            await hold.arrived(1)
            await hold.pass_one()
            starting.cancel()
            await crash(rpc)
    async with life(tmp_path, registry_of(flow=flow)) as rpc:
        await rpc.ended("r")
    assert worked in ([2], [1, 2])  # whether the body had begun when the process died or not
