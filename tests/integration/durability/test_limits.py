"""Limits hold for what a run's own steps do: the run fails with a clear error, and the others go on."""

from __future__ import annotations

import asyncio
from itertools import count
from pathlib import Path

import pytest
from tests.integration.durability.flows import Flow, Note, Work, ask, stay
from tests.integration.durability.support import asked, crash, failing, life, parked, result, state_of, status, until
from tests.integration.rpc_serving import Rpc, event, registry_of

from stepwire.server.store import CommitTooLargeError
from stepwire.v1 import types_pb2 as types
from stepwire.workflow import Context, DictState, Event, StartEvent, StopEvent, Workflow, step

ENTRIES, EVENTS, STATE = 50, 20, 10_000


class Tick(Event):
    n: int = 0


class Loop(Workflow):
    """Send one event after another, for ever."""

    @step
    async def go_on(self, ev: StartEvent | Tick) -> Tick | StopEvent:
        return Tick()


class Breed(Workflow):
    """Return more events than can be worked on."""

    @step
    async def begin(self, ev: StartEvent) -> list[Tick]:
        return [Tick()]

    @step
    async def breed(self, ev: Tick) -> list[Tick]:
        return [Tick(), Tick()]

    @step
    async def never(self, ev: Work) -> StopEvent:
        return StopEvent()


async def write_for_ever(flow: Flow, ctx: Context[DictState]) -> None:
    while True:
        ctx.write_event_to_stream(Note(text="x"))


async def write_for_ever_and_catch(flow: Flow, ctx: Context[DictState]) -> None:
    while True:
        try:
            ctx.write_event_to_stream(Note(text="x"))
        except Exception:  # noqa: BLE001 - a step may catch what it likes
            await asyncio.sleep(0)


async def send_for_ever(flow: Flow, ctx: Context[DictState]) -> None:
    while True:
        ctx.send_event(Work(n=1))


async def set_large(flow: Flow, ctx: Context[DictState]) -> None:
    await ctx.store.set("blob", "x" * STATE)


async def grow_large_in_place(flow: Flow, ctx: Context[DictState]) -> None:
    await ctx.store.set("list", [])
    (await ctx.store.get("list")).append("x" * STATE)


async def grow_large_by_many_keys(flow: Flow, ctx: Context[DictState]) -> None:
    for number in count():  # the next commit finds it
        await ctx.store.set(f"key{number}", "x" * (STATE // 20))
        await asyncio.sleep(0)


async def limited(rpc: Rpc, workflow: str) -> types.Run:
    """Run a workflow to its end, with another one beside it."""
    run = await rpc.ended((await rpc.start(workflow, {})).run_id)
    beside = await rpc.start("fine", {})
    await asked(rpc, beside.run_id)
    await rpc.send(beside.run_id, event("Answer", n=1))
    assert result(await rpc.ended(beside.run_id)) == 1
    return run


FLOWS = {
    "loop": (Loop(timeout=None), "RunLimitError", f"at most {ENTRIES} entries"),
    "breed": (Breed(timeout=None, disable_validation=True), "RunLimitError", f"at most {EVENTS} events"),
    "write": (Flow(write_for_ever), "RunLimitError", f"at most {ENTRIES} entries"),
    "catch": (Flow(write_for_ever_and_catch), "RunLimitError", f"at most {ENTRIES} entries"),
    "send": (Flow(send_for_ever), "RunLimitError", f"at most {EVENTS} events"),
    "set": (Flow(set_large), "StateTooLargeError", f"at most {STATE}"),
    "in place": (Flow(grow_large_in_place), "SerializationError", "list (too large)"),
    "many keys": (Flow(grow_large_by_many_keys), "RunLimitError", f"at most {STATE} bytes"),
}


@pytest.mark.parametrize("name", FLOWS)
async def test_a_run_that_goes_beyond_a_limit_fails_and_says_which(tmp_path: Path, name: str) -> None:
    flow, kind, told = FLOWS[name]
    limits = {"max_log_entries": ENTRIES, "max_queued_events": EVENTS, "max_state_bytes": STATE}
    if name in ("send", "breed", "many keys"):
        limits["max_log_entries"] = 100_000
    async with life(tmp_path, registry_of(flow=flow, fine=Flow(ask)), **limits) as rpc:
        run = await limited(rpc, "flow")
        assert status(run) == "FAILED"
        failure = run.outcome.failure
        assert (failure.error_type, told in failure.message) == (kind, True), failure
        assert run.last_sequence <= limits["max_log_entries"] + 1
        log = await rpc.log(run.run_id)
        assert log[-1].type == "WorkflowFailedEvent"
        assert [entry.sequence for entry in log] == list(range(1, run.last_sequence + 1))


async def test_a_run_whose_commit_does_not_fit_fails_and_the_others_go_on(tmp_path: Path) -> None:
    flow = Flow(stay)
    async with life(tmp_path, registry_of(flow=flow, fine=Flow(ask))) as rpc:
        run_id = (await rpc.start("flow", {})).run_id
        await flow.gate.arrived(1)
        with failing(rpc.store, CommitTooLargeError("it needs 50 MB"), run_id=run_id, times=1):
            flow.gate.opened.set()
            run = await rpc.ended(run_id)
        assert status(run) == "FAILED"
        assert "it needs 50 MB" in run.outcome.failure.message
        assert run.outcome.failure.error_type == "RunLimitError"


async def test_progress_since_the_last_crash_clears_a_delivery(tmp_path: Path) -> None:
    """Five crashes over a long life do not fail a delivery that gets further each time."""

    async def body(flow: Flow, ctx: Context[DictState]) -> str:
        for number in range(9):
            if flow.attempts <= number:
                await flow.gate.pass_through(f"{number}")
            ctx.write_event_to_stream(Note(text=f"{number}"))
        return "done"

    flow = Flow(body)
    run_id = ""
    for times in range(8):
        async with life(tmp_path, flow) as rpc:
            run_id = run_id or (await rpc.start("flow", {})).run_id
            await flow.gate.arrived(times + 1)
            (run,) = rpc.pool
            await run.commits.wait()
            (delivery,) = run.broker.deliveries.values()
            assert delivery.lost == 0
            await crash(rpc)
    async with life(tmp_path, flow) as rpc:
        assert result(await rpc.ended(run_id)) == "done"
    assert flow.attempts == 9


async def test_state_within_the_limit_is_kept(tmp_path: Path) -> None:
    async def body(flow: Flow, ctx: Context[DictState]) -> int:
        await ctx.store.set("blob", "x" * (STATE - 100))
        return await ask(flow, ctx)

    async with life(tmp_path, Flow(body), max_state_bytes=STATE) as rpc:
        run_id = (await rpc.start("flow", {})).run_id
        await parked(rpc, run_id)
        assert len(await state_of(rpc, run_id, "blob")) == STATE - 100
        await until(lambda: all(run.commits.clean for run in rpc.pool))
