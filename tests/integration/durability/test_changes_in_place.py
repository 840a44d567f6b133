"""Changes in place: what a step does to a value that `get` lent is committed, read and seen by the etag."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

import grpc
import pytest
from pydantic import BaseModel
from tests.integration.durability.flows import Answer, Flow, ask
from tests.integration.durability.support import crash, held, life, settle, state_of, waiting
from tests.integration.rpc_flows import Gate
from tests.integration.rpc_serving import JSON, Rpc, event, payload, refusal_of

from stepwire.v1 import state_service_pb2 as states
from stepwire.workflow import Context, DictState, StartEvent, StopEvent, Workflow, step


async def etag_of(rpc: Rpc, run_id: str) -> str:
    """Return the etag of a run's state."""
    return str((await rpc.states.GetState(states.GetStateRequest(run_id=run_id, encoding=JSON))).etag)


async def set_if(rpc: Rpc, run_id: str, etag: str, path: str = "other") -> str:
    """Set a value if the state has an etag; return the new etag, or the reason of the refusal."""
    value = states.PathValue(path=path, value=payload(1))
    try:
        found = await rpc.states.SetState(states.SetStateRequest(run_id=run_id, values=[value], etag=etag))
    except grpc.aio.AioRpcError as error:
        return refusal_of(error).reason
    return str(found.etag)


class Notes(BaseModel):
    note: Any = None


class Stages:
    """A body that appends to a list each time that it is let on."""

    def __init__(self) -> None:
        self.gates = [Gate() for _ in range(4)]

    async def __call__(self, flow: Flow, ctx: Context[DictState]) -> None:
        await ctx.store.set("items", [])
        items = await ctx.store.get("items")
        for number, gate in enumerate(self.gates):
            await gate.pass_through("")
            items.append(number)

    async def pass_gate(self, number: int) -> None:
        """Let it on, and wait until it has appended."""
        self.gates[number].opened.set()
        await self.gates[number + 1].arrived(1)


async def test_a_read_tells_of_a_change_in_place_once_that_is_durable(tmp_path: Path) -> None:
    stages = Stages()
    async with life(tmp_path, Flow(stages)) as rpc:
        run_id = (await rpc.start("flow", {})).run_id
        await stages.gates[0].arrived(1)
        etag = await etag_of(rpc, run_id)
        await stages.pass_gate(0)
        with held(rpc.store) as hold:
            reading = asyncio.ensure_future(state_of(rpc, run_id, "items"))
            await hold.arrived(1)
            await settle(rpc)
            assert not reading.done()
            await hold.pass_all()
            assert await reading == [0]
        assert await etag_of(rpc, run_id) != etag
        await crash(rpc)
    async with life(tmp_path, Flow(Stages())) as rpc:
        assert await state_of(rpc, run_id, "items") in ([0], [])  # [] once its step has begun again


async def test_a_client_cannot_overwrite_a_change_in_place(tmp_path: Path) -> None:
    stages = Stages()
    async with life(tmp_path, Flow(stages)) as rpc:
        run_id = (await rpc.start("flow", {})).run_id
        await stages.gates[0].arrived(1)
        etag = await etag_of(rpc, run_id)
        for number in range(3):
            await stages.pass_gate(number)
            assert await set_if(rpc, run_id, etag) == "ETAG_MISMATCH"
            etag = await etag_of(rpc, run_id)
            # While nothing changes the etag stays, whatever is read and committed.
            assert await etag_of(rpc, run_id) == etag
            etag = await set_if(rpc, run_id, etag)
            assert etag.startswith("v")
        stages.gates[3].opened.set()
        await rpc.ended(run_id)
        assert await state_of(rpc, run_id) == {"items": [0, 1, 2, 3], "other": 1}


@pytest.mark.parametrize("restart", [False, True], ids=["in memory", "loaded again"])
@pytest.mark.parametrize("changes", [False, True], ids=["only read", "changed"])
async def test_the_etag_sees_what_a_step_did_since_it_was_read(tmp_path: Path, changes: bool, restart: bool) -> None:
    async def body(flow: Flow, ctx: Context[DictState]) -> Any:
        # After a restart the body begins again; it must not set the state then.
        if await ctx.store.get("items", default=None) is None:
            await ctx.store.set("items", [[]])
        await ask(flow, ctx)
        items = await ctx.store.get("items")
        if changes:
            items[0].append(1)
        await ctx.wait_for_event(Answer, waiter_id="second", timeout=None)

    async with life(tmp_path, Flow(body)) as rpc:
        run_id = (await rpc.start("flow", {})).run_id
        await waiting(rpc, run_id, "q")
        etag = await etag_of(rpc, run_id)
        if not restart:
            await _answer_and_compare(rpc, run_id, etag, changes=changes)
    if restart:
        async with life(tmp_path, Flow(body)) as rpc:
            assert await etag_of(rpc, run_id) == etag
            await _answer_and_compare(rpc, run_id, etag, changes=changes)


async def _answer_and_compare(rpc: Rpc, run_id: str, etag: str, *, changes: bool) -> None:
    await rpc.send(run_id, event("Answer", n=1))
    await waiting(rpc, run_id, "second")
    assert (await etag_of(rpc, run_id) != etag) == changes
    assert (await set_if(rpc, run_id, etag) == "ETAG_MISMATCH") == changes
    assert await state_of(rpc, run_id, "items") == ([[1]] if changes else [[]])


@pytest.mark.parametrize("typed", [False, True], ids=["a dict", "a model"])
async def test_the_etag_sees_what_a_step_does_to_the_whole_state(tmp_path: Path, typed: bool) -> None:
    before, after = Gate(), Gate()

    async def change(ctx: Context[Any]) -> None:
        state = await ctx.store.get("")
        await before.pass_through("")
        state.note = "in place"
        await after.pass_through("")  # nothing else of the run has changed

    class Typed(Workflow):
        @step
        async def work(self, ctx: Context[Notes], ev: StartEvent) -> StopEvent:
            await change(ctx)
            return StopEvent()

    class Untyped(Workflow):
        @step
        async def work(self, ctx: Context[DictState], ev: StartEvent) -> StopEvent:
            await change(ctx)
            return StopEvent()

    flow = (Typed if typed else Untyped)(timeout=None, disable_validation=True)
    async with life(tmp_path, flow) as rpc:
        run_id = (await rpc.start("flow", {})).run_id
        await before.arrived(1)
        etag = await etag_of(rpc, run_id)
        before.opened.set()
        await after.arrived(1)
        assert await set_if(rpc, run_id, etag, "note") == "ETAG_MISMATCH"
        assert await state_of(rpc, run_id, "note") == "in place"
        await crash(rpc)
    # A step that begins again begins with what was there before its change.
    async with life(tmp_path, flow, take_up=False) as rpc:
        assert await state_of(rpc, run_id, "note") == "in place"


async def test_a_key_that_was_added_to_the_whole_state_is_in_the_next_commit(tmp_path: Path) -> None:
    before, after = Gate(), Gate()

    class Adds(Workflow):
        @step
        async def work(self, ctx: Context[DictState], ev: StartEvent) -> StopEvent:
            state = await ctx.store.get("")  # nothing is in it, so nothing is lent
            await before.pass_through("")
            state.note = "in place"
            await after.pass_through("")
            return StopEvent()

        @step
        async def take(self, ev: Answer) -> None:
            pass

    flow = Adds(timeout=None)
    async with life(tmp_path, flow) as rpc:
        run_id = (await rpc.start("flow", {})).run_id
        await before.arrived(1)
        before.opened.set()
        await after.arrived(1)
        await rpc.send(run_id, event("Answer", n=1))  # a commit that has nothing to do with the state
        await crash(rpc)
    # A step that begins again begins with what was there before its change.
    async with life(tmp_path, flow, take_up=False) as rpc:
        assert await state_of(rpc, run_id, "note") == "in place"
