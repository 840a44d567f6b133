"""New code, old runs: what does not fit blocks a run, it does not fail it; code that fits takes it up again."""

from __future__ import annotations

import asyncio
import json
from pathlib import Path
from typing import Any

import grpc
import pytest
from pydantic import BaseModel, ConfigDict, field_validator
from tests.integration.durability.flows import Flow, ask
from tests.integration.durability.support import (
    advance,
    asked,
    kept_snapshots,
    life,
    parked,
    result,
    settle,
    snapshot_of,
    state_of,
    status,
)
from tests.integration.rpc_serving import Rpc, event, refused, registry_of

from stepwire.server.registry import Registry
from stepwire.v1 import run_service_pb2 as runs
from stepwire.v1 import types_pb2 as types
from stepwire.workflow import (
    Context,
    DictState,
    Event,
    HumanResponseEvent,
    InputRequiredEvent,
    StartEvent,
    StopEvent,
    Workflow,
    step,
)


class Cart(BaseModel):
    count: int = 0


class Basket(BaseModel):
    """What Cart became: `count` is `number` now."""

    model_config = ConfigDict(extra="forbid")
    number: int = 0


class Go(HumanResponseEvent):
    pass


def first() -> Registry:
    """Serve a workflow that waits in its step `work` for a Note that only this module knows."""

    class Extra(Event):
        text: str = ""

    class V1(Workflow):
        types = (Extra,)

        @step
        async def work(self, ctx: Context[Cart], ev: StartEvent) -> StopEvent:
            await ctx.store.set("count", 3)
            await ctx.wait_for_event(Go, waiter_id="go", waiter_event=InputRequiredEvent(prefix="?"), timeout=None)
            return StopEvent(result=(await ctx.store.get_state()).count)

    return registry_of(flow=V1)


def without_the_step(**options: Any) -> Registry:
    class V2(Workflow):
        @step
        async def labour(self, ctx: Context[Cart], ev: StartEvent) -> StopEvent:
            await ctx.wait_for_event(Go, timeout=None)
            return StopEvent(result=None)

    return registry_of(flow=V2(**options))


def without_the_type() -> Registry:
    class Other(HumanResponseEvent):
        pass

    class V2(Workflow):
        @step
        async def work(self, ctx: Context[Cart], ev: StartEvent) -> StopEvent:
            return StopEvent(result=None)

    V2.__module__ = __name__ + "_2"  # so that the types of this module are not its own
    return registry_of(flow=V2)


def with_another_state() -> Registry:
    class V2(Workflow):
        @step
        async def work(self, ctx: Context[Basket], ev: StartEvent) -> StopEvent:
            await ctx.wait_for_event(Go, waiter_id="go", timeout=None)
            return StopEvent(result=(await ctx.store.get_state()).number)

    return registry_of(flow=V2)


def migrating(broken: bool = False) -> Registry:
    class V3(Workflow):
        version = "3"

        def migrate(self, parts: dict[str, Any]) -> dict[str, Any]:
            if broken:
                raise RuntimeError("not today")
            parts = dict(parts)
            if "s/count" in parts:
                parts["s/number"] = parts.pop("s/count")
            return parts

        @step
        async def work(self, ctx: Context[Basket], ev: StartEvent) -> StopEvent:
            await ctx.wait_for_event(Go, waiter_id="go", waiter_event=InputRequiredEvent(prefix="?"), timeout=None)
            return StopEvent(result=(await ctx.store.get_state()).number)

    return registry_of(flow=V3)


async def start(data: Path) -> str:
    """Start a run under the first code and leave it waiting."""
    async with life(data, first()) as rpc:
        run_id = str((await rpc.start("flow", {})).run_id)
        await parked(rpc, run_id)
    return run_id


async def blocked(rpc: Rpc, run_id: str) -> types.Run:
    """See that a call is refused because the run is blocked, and return the run."""
    refusal = await refused(rpc.send(run_id, event("HumanResponseEvent")))
    assert (refusal.code, refusal.reason) == (grpc.StatusCode.FAILED_PRECONDITION, "RUN_BLOCKED")
    run = await rpc.get(run_id)
    assert status(run) == "BLOCKED"
    assert run.blocked_reason
    return run


@pytest.mark.parametrize(
    ("registry", "named"),
    [
        (without_the_step, "work"),
        (without_the_type, "Go"),
        (with_another_state, ""),
        (lambda: migrating(broken=True), "RuntimeError"),
    ],
    ids=["an unknown step", "an unknown type", "a state that does not validate", "a migration that fails"],
)
async def test_new_code_old_runs_are_blocked_not_failed_until_code_that_fits_is_served(
    tmp_path: Path, registry: Any, named: str
) -> None:
    run_id = await start(tmp_path)
    async with life(tmp_path, registry()) as rpc:
        run = await blocked(rpc, run_id)
        assert named in run.blocked_reason
        # It can be looked at.
        assert [entry.sequence for entry in await rpc.log(run_id)] == list(range(1, run.last_sequence + 1))
        assert (await snapshot_of(rpc, run_id)).sequence == run.last_sequence
        assert run.last_sequence in await kept_snapshots(rpc, run_id)
        listed = await rpc.runs.ListRuns(runs.ListRunsRequest(statuses=[types.RUN_STATUS_BLOCKED]))
        assert [found.run_id for found in listed.runs] == [run_id]
    # Still blocked after a restart with the same code.
    async with life(tmp_path, registry()) as rpc:
        assert status(await rpc.get(run_id)) == "BLOCKED"
    async with life(tmp_path, first()) as rpc:
        run = await rpc.get(run_id)
        assert (status(run), run.blocked_reason) == ("WAITING", "")
        await rpc.send(run_id, event("Go"))
        assert result(await rpc.ended(run_id)) == 3


async def test_new_code_old_runs_migrate(tmp_path: Path) -> None:
    run_id = await start(tmp_path)
    async with life(tmp_path, without_the_step()) as rpc:
        await blocked(rpc, run_id)
    async with life(tmp_path, migrating()) as rpc:
        assert await state_of(rpc, run_id) == {"number": 3}
        await rpc.send(run_id, event("Go"))
        assert result(await rpc.ended(run_id)) == 3
        assert (await rpc.get(run_id)).workflow_version == "3"


async def test_new_code_old_runs_that_have_nothing_to_do_are_unblocked_too(tmp_path: Path) -> None:
    class Old(Workflow):
        @step
        async def work(self, ctx: Context[Cart], ev: StartEvent) -> InputRequiredEvent:
            await ctx.store.set("count", 3)
            return InputRequiredEvent()

        @step
        async def end(self, ctx: Context[Cart], ev: Go) -> StopEvent:
            return StopEvent(result=(await ctx.store.get_state()).count)

    async with life(tmp_path, Old) as rpc:
        run_id = (await rpc.start("flow", {})).run_id
        await parked(rpc, run_id)
    async with life(tmp_path, with_another_state()) as rpc:
        await blocked(rpc, run_id)
    async with life(tmp_path, Old) as rpc:
        await parked(rpc, run_id)
        await rpc.send(run_id, event("Go"))
        assert result(await rpc.ended(run_id)) == 3


async def test_new_code_old_runs_that_are_blocked_can_be_cancelled(tmp_path: Path) -> None:
    run_id = await start(tmp_path)
    async with life(tmp_path, without_the_step()) as rpc:
        await blocked(rpc, run_id)
        stream = rpc.stream(run_id)
        while (await stream.read()).WhichOneof("frame") != "events":
            continue
        await rpc.runs.CancelRun(runs.CancelRunRequest(run_id=run_id, reason="enough"))
        run = await rpc.get(run_id)
        assert (status(run), run.outcome.reason) == ("CANCELLED", "enough")
        # As every end: one terminal entry that carries the reason, then the outcome.
        ended = await stream.read()
        assert [entry.type for entry in ended.events.entries] == ["WorkflowCancelledEvent"]
        assert json.loads(ended.events.entries[0].payload.json)["reason"] == "enough"
        assert (await stream.read()).finished.outcome.reason == "enough"
        assert (await rpc.log(run_id))[-1].sequence == run.last_sequence
        await rpc.runs.DeleteRun(runs.DeleteRunRequest(run_id=run_id))
    async with life(tmp_path, first()) as rpc:
        assert (await refused(rpc.get(run_id))).reason == "RUN_NOT_FOUND"


async def test_new_code_old_runs_that_are_blocked_hold_no_place_of_the_concurrent_runs(tmp_path: Path) -> None:
    run_id = await start(tmp_path)
    async with life(tmp_path, without_the_step(num_concurrent_runs=1)) as rpc:
        # The old run has the place until the server has found out, by itself, that it is blocked.
        queued = (await rpc.start("flow", {})).run_id
        await blocked(rpc, run_id)
        await parked(rpc, queued)
        await rpc.send(queued, event("Go"))
        assert status(await rpc.ended(queued)) == "COMPLETED"


async def test_new_code_old_runs_that_are_blocked_are_cancelled_once(tmp_path: Path) -> None:
    run_id = await start(tmp_path)
    async with life(tmp_path, without_the_step()) as rpc:
        await blocked(rpc, run_id)
        cancels = [rpc.runs.CancelRun(runs.CancelRunRequest(run_id=run_id, reason=str(n))) for n in range(10)]
        told = {answer.run.outcome.reason for answer in await asyncio.gather(*cancels)}
        assert told == {(await rpc.get(run_id)).outcome.reason}
        assert [entry.type for entry in await rpc.log(run_id)].count("WorkflowCancelledEvent") == 1


async def test_new_code_old_runs_of_unserved_workflows_sleep(tmp_path: Path) -> None:
    flow = Flow(ask)
    async with life(tmp_path, flow) as rpc:
        run_id = (await rpc.start("flow", {})).run_id
        await asked(rpc, run_id)
    advance(3600)
    async with life(tmp_path, registry_of(other=Flow(ask))) as rpc:
        await settle(rpc)
        refusal = await refused(rpc.send(run_id, event("Answer", n=1)))
        assert refusal.reason == "RUN_BLOCKED"
        run = await rpc.get(run_id)
        unserved = "no server serves the workflow flow: serve it, or cancel the run"
        assert (status(run), run.blocked_reason) == ("WAITING", unserved)
        assert len(await rpc.log(run_id)) == run.last_sequence
    async with life(tmp_path, flow) as rpc:
        await rpc.send(run_id, event("Answer", n=1))
        assert result(await rpc.ended(run_id)) == 1


async def test_new_code_old_runs_that_fit_go_on_under_it(tmp_path: Path) -> None:
    class Grown(Workflow):
        """The same steps, and one more."""

        @step
        async def work(self, ctx: Context[DictState], ev: StartEvent) -> StopEvent:
            return StopEvent(result="new code")

        @step
        async def more(self, ctx: Context[DictState], ev: Go) -> None:
            return None

    async def body(flow: Flow, ctx: Context[DictState]) -> str:
        await ctx.sleep(3600)
        return "old code"

    async with life(tmp_path, Flow(body)) as rpc:
        run_id = (await rpc.start("flow", {})).run_id
        await parked(rpc, run_id)
    advance(3601)
    async with life(tmp_path, registry_of(flow=Grown())) as rpc:
        assert result(await rpc.ended(run_id)) == "new code"


def paying(*, grown: bool) -> Registry:
    """Serve a workflow whose input is a price in euros, made cents by a validator; later it also has a currency."""

    class Paid(StartEvent):
        cents: int
        if grown:
            currency: str = "EUR"

        @field_validator("cents")
        @classmethod
        def of_euros(cls, euros: int) -> int:
            return euros * 100

    class Paying(Workflow):
        @step
        async def pay(self, ctx: Context[Cart], ev: Paid) -> StopEvent:
            await ctx.wait_for_event(Go, waiter_id="go", waiter_event=InputRequiredEvent(), timeout=None)
            return StopEvent(result=[ev.cents, getattr(ev, "currency", "")])

    return registry_of(flow=Paying)


async def test_new_code_old_runs_get_new_fields_and_keep_the_old_values(tmp_path: Path) -> None:
    async with life(tmp_path, paying(grown=False)) as rpc:
        run_id = (await rpc.start("flow", {"cents": 3})).run_id
        await parked(rpc, run_id)
    async with life(tmp_path, paying(grown=True)) as rpc:
        await rpc.send(run_id, event("Go"))
        assert result(await rpc.ended(run_id)) == [300, "EUR"]
