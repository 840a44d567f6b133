"""`num_concurrent_runs`: first in, first out, also over a restart with free slots."""

from __future__ import annotations

import asyncio
import random
from pathlib import Path
from typing import Any

from tests.integration.durability.flows import Flow
from tests.integration.durability.support import crash, life, result, status

from stepwire.workflow import Context, DictState


def one_by_one(began: list[str]) -> Flow:
    """Return a flow that notes which of its runs began, and holds them at its gate."""

    async def body(flow: Flow, ctx: Context[DictState]) -> str:
        info = ctx.step_info()
        assert info is not None
        began.append(info.run_id)
        await flow.gate.pass_through("body")
        return "done"

    return Flow(body, num_concurrent_runs=2)


async def test_the_oldest_queued_runs_go_first_after_a_restart_with_free_slots(
    tmp_path: Path, monkeypatch: Any
) -> None:
    began: list[str] = []
    flow = one_by_one(began)
    async with life(tmp_path, flow) as rpc:
        ids = [(await rpc.start("flow", {}, run_id=f"r{number:02}")).run_id for number in range(12)]
        await flow.gate.arrived(2)
        assert began == ids[:2]
        assert status(await rpc.get(ids[2])) == "QUEUED"
        # Both slots are freed at once, and the server is killed before the next runs have theirs.
        for run in rpc.pool:
            if run.key.run_id in ids[:2]:
                run.cancel("")
                await run.commits.wait()
                break
        await crash(rpc)
    began.clear()
    flow = one_by_one(began)
    async with life(tmp_path, flow) as rpc:
        load = rpc.store.load

        async def slowly(*args: Any) -> Any:
            for _ in range(random.Random(str(args)).randrange(20)):
                await asyncio.sleep(0)
            return await load(*args)

        monkeypatch.setattr(rpc.store, "load", slowly)
        flow.gate.opened.set()
        for run_id in ids[2:]:
            assert result(await rpc.ended(run_id)) == "done"
        started = [run_id for run_id in began if run_id in ids[2:]]
        assert started == sorted(started)


async def test_a_new_run_waits_behind_queued_runs_that_are_not_loaded_yet(tmp_path: Path) -> None:
    began: list[str] = []
    flow = one_by_one(began)
    async with life(tmp_path, flow) as rpc:
        for number in range(4):
            await rpc.start("flow", {}, run_id=f"r{number}")
        await flow.gate.arrived(2)
        await crash(rpc)
    began.clear()
    flow = one_by_one(began)
    async with life(tmp_path, flow) as rpc:
        new = await rpc.start("flow", {}, run_id="new")
        assert status(new) == "QUEUED"
        flow.gate.opened.set()
        assert result(await rpc.ended("new")) == "done"
    assert began.index("new") == 4
    assert sorted(began[:4]) == ["r0", "r1", "r2", "r3"]
