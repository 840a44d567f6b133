"""The ledger: a delivery that runs again gets what its calls got, and has no second effect."""

from __future__ import annotations

import asyncio
from collections import Counter
from pathlib import Path
from typing import Any

from tests.integration.durability.flows import Answer, Flow, Item, Note, Prompt, Work
from tests.integration.durability.support import asked, crash, held, life, parts_of, result, state_of, until, waiting
from tests.integration.rpc_serving import Rpc, event, registry_of

from stepwire.workflow import Context, DictState, Event, StartEvent, StopEvent, Workflow, step


async def types_of(rpc: Rpc, run_id: str) -> Counter[str]:
    """Count the log's entries by type; it has no gap and no sequence twice."""
    log = await rpc.log(run_id)
    assert [entry.sequence for entry in log] == list(range(1, len(log) + 1))
    return Counter(entry.type for entry in log)


async def test_ledger_no_prompt_send_or_write_is_doubled_by_a_crash(tmp_path: Path) -> None:
    async def body(flow: Flow, ctx: Context[DictState]) -> int:
        ctx.send_event(Work(n=1))
        ctx.write_event_to_stream(Note(text="a"))
        answer = await ctx.wait_for_event(Answer, waiter_event=Prompt(text="?"), waiter_id="q")
        ctx.write_event_to_stream(Note(text="b"))
        await flow.gate.pass_through("body")
        ctx.write_event_to_stream(Note(text="c"))
        return answer.n

    flow = Flow(body)
    async with life(tmp_path, flow) as rpc:
        run_id = (await rpc.start("flow", {})).run_id
        await asked(rpc, run_id)
        await crash(rpc)
    async with life(tmp_path, flow) as rpc:
        await rpc.send(run_id, event("Answer", n=5))
        await flow.gate.arrived(1)
        await until(lambda: len(flow.worked) == 1)
        # What the body wrote is in a commit by the time that another call of the run is answered.
        await state_of(rpc, run_id)
        await crash(rpc)
    async with life(tmp_path, flow) as rpc:
        flow.gate.opened.set()
        assert result(await rpc.ended(run_id)) == 5
        counts = await types_of(rpc, run_id)
    assert (counts["Prompt"], counts["Work"], counts["Answer"], counts["Note"]) == (1, 1, 1, 3)
    assert flow.worked == [1]
    assert flow.attempts == 3


async def test_ledger_no_acknowledged_answer_is_lost_before_the_end_of_the_step(tmp_path: Path) -> None:
    async def body(flow: Flow, ctx: Context[DictState]) -> list[int]:
        first = await ctx.wait_for_event(Answer, waiter_id="first")
        await flow.gate.pass_through("between")
        second = await ctx.wait_for_event(Answer, waiter_id="second", timeout=None)
        return [first.n, second.n]

    flow = Flow(body)
    async with life(tmp_path, flow) as rpc:
        run_id = (await rpc.start("flow", {})).run_id
        await until(lambda: flow.attempts)
        await state_of(rpc, run_id)
        assert (await rpc.send(run_id, event("Answer", n=1))).delivered == 1
        await crash(rpc)
    flow.gate.opened.set()
    async with life(tmp_path, flow) as rpc:
        await waiting(rpc, run_id, "second")
        await rpc.send(run_id, event("Answer", n=2))
        assert result(await rpc.ended(run_id)) == [1, 2]


class Collect(Workflow):
    """Collect three items, then stop in the gate of `flow`."""

    def __init__(self, flow: Flow) -> None:
        super().__init__(timeout=None, disable_validation=True)
        self.flow = flow
        self.collected: list[list[int]] = []

    @step
    async def begin(self, ctx: Context[DictState], ev: StartEvent) -> None:
        return None

    @step(num_workers=1)
    async def gather(self, ctx: Context[DictState], ev: Item) -> StopEvent | None:
        events: list[Any] | None = ctx.collect_events(ev, [Item] * 3)
        if events is None:
            return None
        self.collected.append([found.n for found in events])
        await self.flow.gate.pass_through("gather")
        return StopEvent(result=self.collected[-1])


async def test_ledger_collected_events_outlive_crashes_and_are_consumed_once(tmp_path: Path) -> None:
    async def nothing(flow: Flow, ctx: Context[DictState]) -> None:
        return None

    flow = Collect(Flow(nothing))
    registry = registry_of(flow=flow)
    async with life(tmp_path, registry) as rpc:
        run_id = (await rpc.start("flow", {})).run_id
        for n in (1, 2):
            await rpc.send(run_id, event("Item", n=n))
        await state_of(rpc, run_id)
        await crash(rpc)
    async with life(tmp_path, registry) as rpc:
        await rpc.send(run_id, event("Item", n=3))
        await flow.flow.gate.arrived(1)
        await state_of(rpc, run_id)
        await crash(rpc)
    async with life(tmp_path, registry) as rpc:
        await flow.flow.gate.arrived(2)
        # A later item begins the next collection, it does not fall into the one that runs again.
        await rpc.send(run_id, event("Item", n=4))
        flow.flow.gate.opened.set()
        assert result(await rpc.ended(run_id)) == [1, 2, 3]
    assert flow.collected == [[1, 2, 3], [1, 2, 3]]


async def test_ledger_is_in_the_commit_of_the_call_it_records(tmp_path: Path) -> None:
    async def body(flow: Flow, ctx: Context[DictState]) -> int:
        ctx.write_event_to_stream(Note(text="a"))
        return (await ctx.wait_for_event(Answer, waiter_id="q", timeout=None)).n

    flow = Flow(body)
    async with life(tmp_path, flow) as rpc:
        with held(rpc.store) as hold:
            starting = asyncio.ensure_future(rpc.start("flow", {}))
            await hold.arrived(1)
            await hold.pass_one()
            await starting
            await hold.arrived(2)
            commit = hold.commits[1]
            assert commit.record.last_sequence == 3  # the start event, the attempt, the write
            assert {"x/1/0", "w/1"} <= set(parts_of(commit))  # the write's digest and the waiter, beside the entry
            await hold.pass_all()
        run_id = commit.record.key.run_id
        with held(rpc.store) as hold:
            sending = asyncio.ensure_future(rpc.send(run_id, event("Answer", n=7)))
            await hold.arrived(1)
            commit = hold.commits[0]
            assert commit.record.last_sequence == 4
            assert parts_of(commit)["a/1/0"]["i"] == "q"
            await hold.pass_one()
            await sending
            await hold.arrived(2)
            await hold.pass_all()
        assert result(await rpc.ended(run_id)) == 7


async def test_ledger_a_call_that_differs_is_new(tmp_path: Path) -> None:
    async def body(flow: Flow, ctx: Context[DictState]) -> None:
        note: Event = Note(text="the same")
        ctx.write_event_to_stream(note)
        ctx.write_event_to_stream(Note(text=f"attempt {flow.attempts}"))
        await flow.gate.pass_through("body")

    flow = Flow(body)
    async with life(tmp_path, flow) as rpc:
        run_id = (await rpc.start("flow", {})).run_id
        await flow.gate.arrived(1)
        await state_of(rpc, run_id)
        await crash(rpc)
    async with life(tmp_path, flow) as rpc:
        flow.gate.opened.set()
        await rpc.ended(run_id)
        texts = [entry.payload.json.decode() for entry in await rpc.log(run_id) if entry.type == "Note"]
    assert texts == ['{"text":"the same"}', '{"text":"attempt 1"}', '{"text":"attempt 2"}']
